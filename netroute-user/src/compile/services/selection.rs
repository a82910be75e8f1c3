//! Which endpoints each front end of each Service gets on this node, and what a client meets where
//! there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::condition::Condition;
use super::endpoints::{Here, MOST_ENDPOINTS, Sets, local_ready, sets};
use super::front_ends::{FrontEnds, Prepared, PreparedPort};
use crate::compile::interfaces::Interfaces;
use crate::desired::Desired;
use crate::desired::service::{
    Cluster, EndpointSlice, Family, Node, Protocol, Service, ServiceKey, ServicePortSpec, ServiceSettings,
    Skipped, SliceKey,
};
use crate::kernel::KernelState;

/// What the selection depends on.
#[derive(Clone, Copy, Debug)]
pub struct SelectionInputs<'a> {
    pub services: &'a BTreeMap<ServiceKey, Service>,
    pub slices: &'a BTreeMap<SliceKey, EndpointSlice>,
    pub nodes: &'a BTreeMap<String, Node>,
    /// The node's own name, node ports, external IPs and Service CIDRs.
    pub settings: &'a ServiceSettings,
    pub node_addresses: &'a NodeAddresses,
}

/// The node's own addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeAddresses {
    /// Loopback ones too.
    pub all: BTreeSet<IpAddr>,
    /// Those that only host ends of pods' veths have: each pod may have been given the same.
    pub of_pods: BTreeSet<IpAddr>,
}

impl<'a> SelectionInputs<'a> {
    #[must_use]
    pub fn new(desired: &'a Desired, node_addresses: &'a NodeAddresses) -> Self {
        let Cluster { services, endpoint_slices: slices, nodes, .. } = &*desired.cluster;
        Self { services, slices, nodes, settings: &desired.service_settings, node_addresses }
    }
}

impl NodeAddresses {
    #[must_use]
    pub fn of(desired: &Desired, kernel: &KernelState) -> Self {
        let interfaces = Interfaces::resolve(desired, kernel);
        let usable = kernel.addresses.iter().filter(|address| address.usable);
        let (on_pods, others): (Vec<_>, Vec<_>) =
            usable.partition(|address| interfaces.is_pod(address.ifindex));
        let [on_pods, others] =
            [on_pods, others].map(|list| list.iter().map(|one| one.address.addr()).collect::<BTreeSet<_>>());
        let of_pods = on_pods.difference(&others).copied().collect();
        Self { all: on_pods.into_iter().chain(others).collect(), of_pods }
    }
}

/// One port of one Service, as the name that its numbers are kept under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    pub namespace: String,
    pub name: String,
    pub protocol: Protocol,
    /// `spec.ports[].port`.
    pub port: u16,
}

/// Which clients a front end is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    External,
    /// Pods and the node itself.
    Internal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalIp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
    /// A pod of this node.
    pub local: bool,
}

/// What clients meet where there is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WithoutEndpoint {
    /// No node has one (S3).
    Reject,
    /// Other nodes have: clients try again (S4).
    Drop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontEndSpec {
    pub service: ServicePort,
    pub kind: Kind,
    pub endpoints: BTreeSet<Endpoint>,
    pub without: WithoutEndpoint,
    /// Clients are masqueraded if the chosen endpoint is not local (S17).
    pub masquerade: bool,
    pub affinity: Option<Duration>,
    /// Of both families; empty = everybody.
    pub source_ranges: Vec<IpNet>,
    /// Answers ICMP echo requests (S8).
    pub echo: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrontEndAddress {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    pub scope: Scope,
}

/// What the node is to serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub front_ends: BTreeMap<FrontEndAddress, FrontEndSpec>,
    /// Addresses of Services that are not a node's own, and whether they answer echo (S8).
    pub addresses: BTreeMap<IpAddr, bool>,
    /// ClusterIPs of Services that another proxy serves: not this data plane's although they lie in a
    /// Service CIDR (S11).
    pub foreign: BTreeSet<IpAddr>,
    /// Service CIDRs of the configuration: a route each.
    pub cidrs: BTreeSet<IpNet>,
    /// What is wrong with an object, by its Service.
    pub conditions: BTreeMap<ServiceKey, Vec<Condition>>,
    /// `healthCheckNodePort`: its Service and how many local endpoints are ready (S15).
    pub health_ports: BTreeMap<u16, (ServiceKey, usize)>,
}

/// Selects for all Services.
#[must_use]
pub fn select(inputs: &SelectionInputs<'_>) -> Selection {
    let mut selection = Selection { cidrs: inputs.settings.service_cidrs.clone(), ..Selection::default() };
    let slices = by_service(inputs, &mut selection.conditions);
    let here = Here::of(inputs);
    let mut services: Vec<&Service> = Vec::with_capacity(inputs.services.len());
    for service in inputs.services.values() {
        match service.skipped {
            None => services.push(service),
            Some(Skipped::OtherProxy) => selection.foreign.extend(&service.cluster_ips),
            Some(Skipped::Headless | Skipped::ExternalName) => {}
        }
    }
    // The older one keeps what two ask for. What has no age is no older than what has.
    services.sort_by_key(|service| (service.created.is_none(), service.created, &service.key));
    let mut prepared = Vec::with_capacity(services.len());
    for service in services {
        let slices = slices.get(&service.key).map_or(&[][..], Vec::as_slice);
        prepared.push(prepare(service, slices, here, &mut selection.conditions));
    }
    FrontEnds::new(inputs, selection).fill(&prepared)
}

type Conditions = BTreeMap<ServiceKey, Vec<Condition>>;
type Slices<'a> = BTreeMap<&'a ServiceKey, Vec<&'a EndpointSlice>>;

fn by_service<'a>(inputs: &SelectionInputs<'a>, conditions: &mut Conditions) -> Slices<'a> {
    let mut slices = Slices::new();
    for slice in inputs.slices.values() {
        if inputs.services.contains_key(&slice.service) {
            slices.entry(&slice.service).or_default().push(slice);
        } else {
            let condition = Condition::NoService(slice.key.clone());
            conditions.entry(slice.service.clone()).or_default().push(condition);
        }
    }
    slices
}

fn prepare<'a>(
    service: &'a Service,
    slices: &[&'a EndpointSlice],
    here: Here<'_>,
    conditions: &mut Conditions,
) -> Prepared<'a> {
    let mut found = wrong_families(slices);
    if slices.is_empty() {
        found.push(Condition::NoEndpointSlice);
    }
    let has_endpoints = slices.iter().any(|slice| !slice.endpoints.is_empty());
    let mut ports = Vec::with_capacity(service.ports.len());
    for spec in &service.ports {
        let &ServicePortSpec { port, protocol, .. } = spec;
        let families = [Family::V4, Family::V6].into_iter();
        let of_family = |family| Some((family, sets(spec, family, slices.iter().copied(), here)?));
        let sets: BTreeMap<Family, Sets> = families.filter_map(of_family).collect();
        if sets.is_empty() && has_endpoints {
            found.push(Condition::NoSlicePort { port, protocol, name: spec.name.clone() });
        }
        let most = sets.values().map(|sets| sets.found).max().unwrap_or_default();
        if most > MOST_ENDPOINTS {
            found.push(Condition::TooManyEndpoints { port, protocol, found: most, used: MOST_ENDPOINTS });
        }
        ports.push(PreparedPort { spec, sets });
    }
    if !found.is_empty() {
        conditions.entry(service.key.clone()).or_default().extend(found);
    }
    Prepared { service, ports, local_ready: local_ready(slices.iter().copied(), here) }
}

/// One condition for each slice that has such endpoints.
fn wrong_families(slices: &[&EndpointSlice]) -> Vec<Condition> {
    let wrong = |slice: &&EndpointSlice| {
        let EndpointSlice { key, family, endpoints, .. } = slice;
        let mut addresses = endpoints.iter().map(|endpoint| endpoint.address);
        let address = addresses.find(|&address| Family::from(address) != *family)?;
        Some(Condition::EndpointFamily { slice: key.clone(), address, family: *family })
    };
    slices.iter().filter_map(wrong).collect()
}
