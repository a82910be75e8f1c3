//! The way to the API server. It is a Service as others are, and the objects that say its endpoints come from
//! it: were it taken away with them, nothing could ever say that they are back.

use std::sync::Arc;

use super::service::{Cluster, EndpointSlice, ServiceKey};

/// The Service of the API server: its name is Kubernetes' own.
fn api_server() -> ServiceKey {
    ServiceKey { namespace: "default".to_owned(), name: "kubernetes".to_owned() }
}

/// What the objects say now; while the API server's Service has no usable endpoint in them, it keeps those that
/// it had (S23).
#[must_use]
pub fn with_api_server(now: Arc<Cluster>, before: &Cluster) -> Arc<Cluster> {
    let service = api_server();
    let lost = now.services.contains_key(&service) && !has_usable(&now, &service);
    if !lost || !has_usable(before, &service) {
        return now;
    }
    let mut cluster = Arc::unwrap_or_clone(now);
    cluster.endpoint_slices.retain(|_, slice| slice.service != service);
    let kept = before.endpoint_slices.iter().filter(|(_, slice)| slice.service == service);
    cluster.endpoint_slices.extend(kept.map(|(key, slice)| (key.clone(), slice.clone())));
    Arc::new(cluster)
}

fn has_usable(cluster: &Cluster, service: &ServiceKey) -> bool {
    let usable = |slice: &EndpointSlice| slice.endpoints.iter().any(|end| end.ready || end.serving);
    cluster.endpoint_slices.values().any(|slice| slice.service == *service && usable(slice))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::desired::service::{Family, Protocol, Service, SliceEndpoint, SlicePort};

    fn slice(service: &ServiceKey, address: &str, ready: bool) -> EndpointSlice {
        EndpointSlice {
            key: service.clone(),
            service: service.clone(),
            family: Family::V4,
            ports: vec![SlicePort { name: "https".to_owned(), protocol: Protocol::Tcp, port: 6443 }],
            endpoints: vec![SliceEndpoint {
                address: address.parse().expect("address"),
                ready,
                serving: ready,
                terminating: false,
                node: None,
                node_hints: BTreeSet::new(),
                zone_hints: BTreeSet::new(),
            }],
        }
    }

    fn cluster(slices: &[EndpointSlice]) -> Cluster {
        let mut cluster = Cluster::default();
        for slice in slices {
            cluster.services.insert(slice.service.clone(), Service::named(slice.service.clone()));
            cluster.endpoint_slices.insert(slice.key.clone(), slice.clone());
        }
        cluster
    }

    fn addresses(cluster: &Cluster) -> Vec<String> {
        let ends = cluster.endpoint_slices.values().flat_map(|slice| &slice.endpoints);
        ends.map(|end| end.address.to_string()).collect()
    }

    #[test]
    fn s23_the_api_server_keeps_its_endpoints_while_the_objects_show_none() {
        let key = api_server();
        let before = cluster(&[slice(&key, "10.128.44.11", true)]);
        let not_ready = cluster(&[slice(&key, "10.128.44.11", false)]);
        let mut without = before.clone();
        without.endpoint_slices.clear();
        for lost in [not_ready, without] {
            let kept = with_api_server(Arc::new(lost), &before);
            assert_eq!(*kept, before);
        }
        let moved = Arc::new(cluster(&[slice(&key, "10.128.44.12", true)]));
        assert_eq!(
            addresses(&with_api_server(moved, &before)),
            ["10.128.44.12"],
            "as soon as there are others"
        );
    }

    #[test]
    fn s23_a_service_that_is_gone_and_every_other_service_lose_theirs() {
        let other = ServiceKey { namespace: "shop".to_owned(), name: "kubernetes".to_owned() };
        for key in [api_server(), other] {
            let before = cluster(&[slice(&key, "10.128.44.11", true)]);
            let mut after = before.clone();
            after.endpoint_slices.clear();
            if key == api_server() {
                after.services.clear();
            }
            assert_eq!(addresses(&with_api_server(Arc::new(after), &before)), [""; 0], "{key}");
        }
    }
}
