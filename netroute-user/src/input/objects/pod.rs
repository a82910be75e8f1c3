//! `Pod` and `Namespace` of the core group.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;

use super::field::{FieldError, address};
use super::service::key;
use crate::desired::egress::{Labels, Pod};
use crate::input::yaml::Step::{Index, Key};

/// Phases of pods that have ended: another may have their addresses.
const ENDED: [&str; 2] = ["Succeeded", "Failed"];

/// `None` for one that has ended.
///
/// # Errors
/// The first address that is none.
pub fn pod(object: &core::Pod) -> Result<Option<Pod>, FieldError> {
    let core::Pod { metadata, spec, status } = object;
    let phase = status.as_ref().and_then(|status| status.phase.as_deref());
    if phase.is_some_and(|phase| ENDED.contains(&phase)) {
        return Ok(None);
    }
    let spec = spec.as_ref();
    Ok(Some(Pod {
        key: key(metadata),
        labels: metadata.labels.clone().unwrap_or_default(),
        node: spec.and_then(|spec| spec.node_name.clone()).filter(|name| !name.is_empty()),
        addresses: addresses(status.as_ref())?,
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
        ending: metadata.deletion_timestamp.is_some(),
    }))
}

/// `podIPs`, or `podIP` where only that is written.
fn addresses(status: Option<&core::PodStatus>) -> Result<BTreeSet<IpAddr>, FieldError> {
    let many = status.and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
    let one = status.and_then(|status| status.pod_ip.as_ref()).filter(|text| !text.is_empty());
    if many.is_empty() {
        return one.map(|text| address(text, &[Key("status"), Key("podIP")])).into_iter().collect();
    }
    let path = |index| [Key("status"), Key("podIPs"), Index(index), Key("ip")];
    let written = many.iter().enumerate().filter(|(_, entry)| !entry.ip.is_empty());
    written.map(|(index, entry)| address(&entry.ip, &path(index))).collect()
}

/// Its name, and its labels.
#[must_use]
pub fn namespace(object: &core::Namespace) -> (String, Labels) {
    let core::Namespace { metadata, spec: _, status: _ } = object;
    let name = metadata.name.clone().unwrap_or_default();
    let mut labels = metadata.labels.clone().unwrap_or_default();
    // The API server sets it on every namespace (Kubernetes 1.21).
    labels.entry("kubernetes.io/metadata.name".to_owned()).or_insert_with(|| name.clone());
    (name, labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::yaml::documents;

    fn read(spec: &str, status: &str) -> Result<Option<Pod>, String> {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: shop, labels: {{app: web}}}}\n\
             spec: {{{spec}}}\nstatus: {{{status}}}\n"
        );
        let object: core::Pod = documents(&text)[0].parse().expect("a Pod");
        pod(&object).map_err(|error| error.to_string())
    }

    #[test]
    fn r3_a_pods_labels_and_addresses_are_read() {
        let status = "podIP: 10.244.1.5, podIPs: [{ip: 10.244.001.005}, {ip: \"fd00::5\"}], phase: Running";
        let pod = read("nodeName: worker-1", status).unwrap().unwrap();
        assert_eq!((pod.key.to_string().as_str(), pod.node.as_deref()), ("shop/web", Some("worker-1")));
        let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.244.1.5", "fd00::5"]);
        assert_eq!((pod.labels["app"].as_str(), pod.host_network, pod.ending), ("web", false, false));
        let one = read("nodeName: worker-1, hostNetwork: true", "podIP: 10.128.44.11").unwrap().unwrap();
        assert!(one.host_network && one.addresses.len() == 1);
    }

    #[test]
    fn what_has_ended_is_no_pod() {
        for phase in ["Succeeded", "Failed"] {
            assert_eq!(read("nodeName: w", &format!("podIP: 10.244.1.5, phase: {phase}")), Ok(None));
        }
        assert!(read("", "phase: Pending").unwrap().unwrap().addresses.is_empty());
    }

    #[test]
    fn an_address_that_is_none_is_refused_with_its_field() {
        let message = read("", "podIPs: [{ip: 10.244.1.5}, {ip: x}]").unwrap_err();
        assert_eq!(message, "status.podIPs[1].ip: \"x\" is not an IP address");
    }
}
