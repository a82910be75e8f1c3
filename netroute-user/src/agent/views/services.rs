//! Services: what was asked for, what of it is served, and what was counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use netroute_common::layout::service::ServiceCounter;

use super::Reader;
use crate::api::request::{Refusal, ServiceFilter};
use crate::api::types::{EndpointView, FrontEndView, ServiceView};
use crate::compile::services::selection::{
    FrontEndAddress, FrontEndSpec, Kind, Scope, ServicePort, WithoutEndpoint,
};
use crate::desired::service::{
    EndpointSlice, Service, ServiceKey, ServicePortSpec, ServiceType, Skipped, TrafficPolicy,
};
use crate::error::{chain, one_line};

type FrontEnds<'a> = BTreeMap<&'a ServicePort, Vec<(&'a FrontEndAddress, &'a FrontEndSpec)>>;
type Slices<'a> = BTreeMap<&'a ServiceKey, Vec<&'a EndpointSlice>>;

impl Reader {
    /// Each port of the Services that the filter takes.
    pub fn services(&self, filter: &ServiceFilter) -> Result<Vec<ServiceView>, Refusal> {
        let services = &self.snapshot.desired.cluster.services;
        if let ServiceFilter { namespace: Some(namespace), name: Some(name) } = filter {
            let key = ServiceKey { namespace: namespace.clone(), name: name.clone() };
            served(&key, services.get(&key))?;
        }
        let (front_ends, slices) = (self.front_ends(), self.slices());
        let mut views = Vec::new();
        for service in services.values().filter(|service| service.skipped.is_none() && filter.takes(service))
        {
            let slices = slices.get(&service.key).map_or(&[][..], Vec::as_slice);
            for spec in &service.ports {
                views.push(self.service_port(service, spec, &front_ends, slices)?);
            }
        }
        Ok(views)
    }

    fn front_ends(&self) -> FrontEnds<'_> {
        let mut by_port = FrontEnds::new();
        for (address, spec) in &self.snapshot.compiled.services.selection.front_ends {
            by_port.entry(&spec.service).or_default().push((address, spec));
        }
        by_port
    }

    fn slices(&self) -> Slices<'_> {
        let mut by_service = Slices::new();
        for slice in self.snapshot.desired.cluster.endpoint_slices.values() {
            by_service.entry(&slice.service).or_default().push(slice);
        }
        by_service
    }

    fn service_port(
        &self,
        service: &Service,
        spec: &ServicePortSpec,
        front_ends: &FrontEnds<'_>,
        slices: &[&EndpointSlice],
    ) -> Result<ServiceView, Refusal> {
        let ServiceKey { namespace, name } = service.key.clone();
        let &ServicePortSpec { protocol, port, .. } = spec;
        let compiled = &self.snapshot.compiled.services;
        let key = ServicePort { namespace, name, protocol, port };
        let counter = match compiled.ids.ids.get(&key) {
            Some(id) => self.counters.service(*id).map_err(|error| Refusal::new(chain(&error)))?,
            None => ServiceCounter::default(),
        };
        let ServiceCounter { packets, bytes, new_flows, no_endpoint } = counter;
        let front_ends = front_ends.get(&key).map_or(&[][..], Vec::as_slice);
        let used: BTreeSet<(IpAddr, u16)> = front_ends
            .iter()
            .flat_map(|(_, spec)| &spec.endpoints)
            .map(|endpoint| (endpoint.address, endpoint.port))
            .collect();
        let conditions = compiled.selection.conditions.get(&service.key).map_or(&[][..], Vec::as_slice);
        let health_ports =
            self.health_ports.iter().filter(|problem| problem.service == service.key).map(line);
        let outside = front_ends.iter().filter(|(address, _)| address.scope == Scope::External);
        Ok(ServiceView {
            kind: type_name(service.kind).to_owned(),
            port,
            port_name: spec.name.clone(),
            protocol: protocol.to_string(),
            front_ends: outside.map(|(address, spec)| front_end(service, address, spec)).collect(),
            endpoints: endpoints(spec, slices, &used, &self.snapshot.desired.service_settings.node_name),
            packets,
            bytes,
            new_flows,
            no_endpoint,
            conditions: conditions.iter().map(line).chain(health_ports).collect(),
            refused: compiled.refused.get(&key).map(line),
            namespace: key.namespace,
            name: key.name,
        })
    }
}

/// Refuses a Service that is not there, or not this data plane's.
fn served(key: &ServiceKey, service: Option<&Service>) -> Result<(), Refusal> {
    let why = match service.map(|service| service.skipped) {
        Some(None) => return Ok(()),
        None => return Err(Refusal::new(format!("there is no Service {key}"))),
        Some(Some(Skipped::Headless)) => "it is headless",
        Some(Some(Skipped::ExternalName)) => "it is a name of something else (ExternalName)",
        Some(Some(Skipped::OtherProxy)) => "its label leaves it to another proxy",
    };
    Err(Refusal::new(format!("the Service {key} is not served here: {why}")))
}

/// What others wrote is in it.
fn line(text: &impl ToString) -> String {
    one_line(&text.to_string()).into_owned()
}

fn front_end(service: &Service, at: &FrontEndAddress, spec: &FrontEndSpec) -> FrontEndView {
    let (kind, policy) = match spec.kind {
        Kind::ClusterIp => ("ClusterIP", service.internal_policy),
        Kind::NodePort => ("NodePort", service.external_policy),
        Kind::LoadBalancer => ("LoadBalancer", service.external_policy),
        Kind::ExternalIp => ("ExternalIP", service.external_policy),
    };
    FrontEndView {
        kind: kind.to_owned(),
        address: SocketAddr::new(at.address, at.port),
        policy: match policy {
            TrafficPolicy::Cluster => "Cluster",
            TrafficPolicy::Local => "Local",
        }
        .to_owned(),
        endpoints: u32::try_from(spec.endpoints.len()).unwrap_or(u32::MAX),
        without_endpoint: match spec.without {
            WithoutEndpoint::Reject => "reject",
            WithoutEndpoint::Drop => "drop",
        }
        .to_owned(),
    }
}

const fn type_name(kind: ServiceType) -> &'static str {
    match kind {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    }
}

/// Of all slices together: while an endpoint moves from one to another it is in both.
fn endpoints(
    spec: &ServicePortSpec,
    slices: &[&EndpointSlice],
    used: &BTreeSet<(IpAddr, u16)>,
    node: &str,
) -> Vec<EndpointView> {
    let mut views: BTreeMap<SocketAddr, EndpointView> = BTreeMap::new();
    for slice in slices {
        let ports =
            slice.ports.iter().filter(|port| port.name == spec.name && port.protocol == spec.protocol);
        for port in ports.map(|found| found.port) {
            for endpoint in &slice.endpoints {
                let address = SocketAddr::new(endpoint.address, port);
                let view = views.entry(address).or_insert(EndpointView {
                    address,
                    ready: false,
                    serving: false,
                    terminating: false,
                    local: false,
                    used: used.contains(&(endpoint.address, port)),
                });
                view.ready |= endpoint.ready;
                view.serving |= endpoint.serving;
                view.terminating |= endpoint.terminating;
                view.local |= endpoint.node.as_deref() == Some(node);
            }
        }
    }
    views.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::service::{Family, Protocol, SliceEndpoint, SlicePort};

    fn slice(number: u16, endpoint: SliceEndpoint) -> EndpointSlice {
        let key = ServiceKey { namespace: "default".into(), name: "web".into() };
        let port = SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: number };
        let other = SlicePort { name: "dns".into(), protocol: Protocol::Udp, port: 53 };
        EndpointSlice {
            key: key.clone(),
            service: key,
            family: Family::V4,
            ports: vec![port, other],
            endpoints: vec![endpoint],
        }
    }

    #[test]
    fn an_endpoint_in_two_slices_is_shown_once_and_other_ports_not_at_all() {
        let endpoint = SliceEndpoint {
            address: "10.244.1.5".parse().unwrap(),
            ready: false,
            serving: true,
            terminating: true,
            node: Some("worker-1".into()),
            node_hints: BTreeSet::new(),
            zone_hints: BTreeSet::new(),
        };
        let ready = SliceEndpoint { ready: true, terminating: false, node: None, ..endpoint.clone() };
        let slices = [slice(8080, endpoint.clone()), slice(8080, ready), slice(8081, endpoint)];
        let slices: Vec<&EndpointSlice> = slices.iter().collect();
        let spec =
            ServicePortSpec { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
        let used = BTreeSet::from([("10.244.1.5".parse().unwrap(), 8080)]);
        let views = endpoints(&spec, &slices, &used, "worker-1");
        let told: Vec<_> =
            views.iter().map(|view| (view.address.to_string(), view.ready, view.local, view.used)).collect();
        let expected = [
            ("10.244.1.5:8080".to_owned(), true, true, true),
            ("10.244.1.5:8081".into(), false, true, false),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        let key = ServiceKey { namespace: "default".into(), name: "db".into() };
        assert_eq!(served(&key, None).unwrap_err().message, "there is no Service default/db");
    }
}
