//! `Service` of the core group.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::field::{Fault, FieldError, address, optional_port, port, prefix, word};
use crate::desired::service::{
    Family, IpMode, ObjectKey, Protocol, Service, ServicePortSpec, ServiceType, Skipped, TrafficPolicy,
};
use crate::input::yaml::Step::{self, Index, Key};

/// Of objects that name none, as for the API server's clients.
pub const DEFAULT_NAMESPACE: &str = "default";

const PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// What `clusterIP` says in a headless Service.
const NO_ADDRESS: &str = "None";

pub(super) const PROTOCOLS: [(&str, Protocol); 3] =
    [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)];
/// `None`: its `externalName` is all there is of it.
const TYPES: [(&str, Option<ServiceType>); 4] = [
    ("ClusterIP", Some(ServiceType::ClusterIp)),
    ("NodePort", Some(ServiceType::NodePort)),
    ("LoadBalancer", Some(ServiceType::LoadBalancer)),
    ("ExternalName", None),
];
const POLICIES: [(&str, TrafficPolicy); 2] =
    [("Cluster", TrafficPolicy::Cluster), ("Local", TrafficPolicy::Local)];
const IP_MODES: [(&str, IpMode); 2] = [("VIP", IpMode::Vip), ("Proxy", IpMode::Proxy)];
const AFFINITIES: [(&str, bool); 2] = [("None", false), ("ClientIP", true)];

/// Seconds.
const DEFAULT_AFFINITY: i32 = 10_800;
const LONGEST_AFFINITY: i32 = 86_400;

/// # Errors
/// The first field that cannot be used.
pub fn service(object: &core::Service) -> Result<Service, FieldError> {
    let core::Service { metadata, spec, status } = object;
    let Some(spec) = spec else {
        return Err(FieldError::new(&[Key("spec")], Fault::Missing("give it ports and a clusterIP")));
    };
    let kind = word(spec.type_.as_deref(), &[Key("spec"), Key("type")], &TYPES)?;
    let skipped = skipped(metadata, spec, kind);
    let mut service = Service {
        key: key(metadata),
        created: metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
        skipped,
        kind: kind.unwrap_or(ServiceType::ClusterIp),
        cluster_ips: BTreeSet::new(),
        ports: Vec::new(),
        external_ips: BTreeSet::new(),
        load_balancer: BTreeMap::new(),
        source_ranges: Vec::new(),
        internal_policy: policy(spec.internal_traffic_policy.as_deref(), "internalTrafficPolicy")?,
        external_policy: policy(spec.external_traffic_policy.as_deref(), "externalTrafficPolicy")?,
        affinity: affinity(spec)?,
        health_check_port: optional_port(
            spec.health_check_node_port,
            &[Key("spec"), Key("healthCheckNodePort")],
        )?,
    };
    if !matches!(skipped, Some(Skipped::Headless | Skipped::ExternalName)) {
        service.cluster_ips = cluster_ips(spec)?;
    }
    if skipped.is_none() {
        service.ports = ports(spec)?;
        service.external_ips = external_ips(spec)?;
        service.source_ranges = source_ranges(spec)?;
        service.load_balancer = load_balancer(status.as_ref())?;
    }
    Ok(service)
}

pub(super) fn key(metadata: &ObjectMeta) -> ObjectKey {
    let namespace = metadata.namespace.clone().filter(|namespace| !namespace.is_empty());
    ObjectKey {
        namespace: namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

fn skipped(metadata: &ObjectMeta, spec: &core::ServiceSpec, kind: Option<ServiceType>) -> Option<Skipped> {
    let labelled = |label| metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(label));
    let none = |address: &String| address == NO_ADDRESS;
    let headless = spec.cluster_ip.as_ref().is_some_and(none)
        || spec.cluster_ips.as_ref().is_some_and(|all| all.iter().any(none));
    if kind.is_none() {
        Some(Skipped::ExternalName)
    } else if headless || labelled(HEADLESS_LABEL) {
        Some(Skipped::Headless)
    } else if labelled(PROXY_LABEL) {
        Some(Skipped::OtherProxy)
    } else {
        None
    }
}

fn policy(value: Option<&str>, key: &'static str) -> Result<TrafficPolicy, FieldError> {
    word(value, &[Key("spec"), Key(key)], &POLICIES)
}

/// `clusterIPs`, or `clusterIP` where only that is written.
fn cluster_ips(spec: &core::ServiceSpec) -> Result<BTreeSet<IpAddr>, FieldError> {
    let one = spec.cluster_ip.iter().map(|text| (text, vec![Key("spec"), Key("clusterIP")]));
    let many = spec.cluster_ips.iter().flatten().enumerate();
    let many = many.map(|(index, text)| (text, vec![Key("spec"), Key("clusterIPs"), Index(index)]));
    let written: Vec<(&String, Vec<Step<'static>>)> =
        if spec.cluster_ips.as_ref().is_some_and(|all| !all.is_empty()) {
            many.collect()
        } else {
            one.collect()
        };
    let mut found = BTreeSet::new();
    for (text, path) in written.iter().filter(|(text, _)| !text.is_empty()) {
        let address = address(text, path)?;
        if found.iter().any(|&other| Family::from(other) == Family::from(address)) {
            return Err(FieldError::new(path, Fault::Twice("a second address of the same family")));
        }
        found.insert(address);
    }
    Ok(found)
}

fn ports(spec: &core::ServiceSpec) -> Result<Vec<ServicePortSpec>, FieldError> {
    let written = spec.ports.as_deref().unwrap_or_default();
    if written.is_empty() {
        return Err(FieldError::new(&[Key("spec"), Key("ports")], Fault::Missing("list at least one")));
    }
    let mut found: Vec<ServicePortSpec> = Vec::with_capacity(written.len());
    for (index, entry) in written.iter().enumerate() {
        let path = |key| [Key("spec"), Key("ports"), Index(index), Key(key)];
        let next = ServicePortSpec {
            name: entry.name.clone().unwrap_or_default(),
            protocol: word(entry.protocol.as_deref(), &path("protocol"), &PROTOCOLS)?,
            port: port(entry.port, &path("port"))?,
            node_port: optional_port(entry.node_port, &path("nodePort"))?,
        };
        if next.name.is_empty() && written.len() > 1 {
            let fault = Fault::Missing("where there are several ports each has a name");
            return Err(FieldError::new(&path("name"), fault));
        }
        if found.iter().any(|other| other.name == next.name) {
            return Err(FieldError::new(&path("name"), Fault::Twice("another port has the same name")));
        }
        if found.iter().any(|other| (other.protocol, other.port) == (next.protocol, next.port)) {
            let fault = Fault::Twice("another port has the same number and protocol");
            return Err(FieldError::new(&path("port"), fault));
        }
        let node_port = |port: &ServicePortSpec| port.node_port.map(|node_port| (port.protocol, node_port));
        if next.node_port.is_some() && found.iter().any(|other| node_port(other) == node_port(&next)) {
            let fault = Fault::Twice("another port has the same node port");
            return Err(FieldError::new(&path("nodePort"), fault));
        }
        found.push(next);
    }
    Ok(found)
}

fn external_ips(spec: &core::ServiceSpec) -> Result<BTreeSet<IpAddr>, FieldError> {
    let written = spec.external_ips.iter().flatten().enumerate();
    written.map(|(index, text)| address(text, &[Key("spec"), Key("externalIPs"), Index(index)])).collect()
}

fn source_ranges(spec: &core::ServiceSpec) -> Result<Vec<ipnet::IpNet>, FieldError> {
    let path = |index| [Key("spec"), Key("loadBalancerSourceRanges"), Index(index)];
    let written = spec.load_balancer_source_ranges.iter().flatten().enumerate();
    written.map(|(index, text)| prefix(text, &path(index))).collect()
}

/// Entries with a host name only are not for this data plane.
fn load_balancer(status: Option<&core::ServiceStatus>) -> Result<BTreeMap<IpAddr, IpMode>, FieldError> {
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let entries = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let mut found = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let path = |key| [Key("status"), Key("loadBalancer"), Key("ingress"), Index(index), Key(key)];
        let Some(text) = entry.ip.as_ref().filter(|text| !text.is_empty()) else { continue };
        let mode = word(entry.ip_mode.as_deref(), &path("ipMode"), &IP_MODES)?;
        found.insert(address(text, &path("ip"))?, mode);
    }
    Ok(found)
}

fn affinity(spec: &core::ServiceSpec) -> Result<Option<Duration>, FieldError> {
    if !word(spec.session_affinity.as_deref(), &[Key("spec"), Key("sessionAffinity")], &AFFINITIES)? {
        return Ok(None);
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let value = config.and_then(|client| client.timeout_seconds).unwrap_or(DEFAULT_AFFINITY);
    let seconds = u64::try_from(value).ok().filter(|_| (1..=LONGEST_AFFINITY).contains(&value));
    let refused = || {
        let path = [Key("spec"), Key("sessionAffinityConfig"), Key("clientIP"), Key("timeoutSeconds")];
        FieldError::new(&path, Fault::Range { value, least: 1, most: LONGEST_AFFINITY })
    };
    seconds.map(|seconds| Some(Duration::from_secs(seconds))).ok_or_else(refused)
}

#[cfg(test)]
mod tests;
