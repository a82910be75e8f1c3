//! Which endpoints each front end of each Service gets on this node, and what a client meets where
//! there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::condition::Condition;
use crate::desired::service::{
    EndpointSlice, Node, Protocol, Service, ServiceKey, ServiceSettings, SliceKey,
};

/// What the selection depends on.
#[derive(Clone, Copy, Debug)]
pub struct SelectionInputs<'a> {
    pub services: &'a BTreeMap<ServiceKey, Service>,
    pub slices: &'a BTreeMap<SliceKey, EndpointSlice>,
    pub nodes: &'a BTreeMap<String, Node>,
    /// The node's own name, node ports, external IPs and Service CIDRs.
    pub settings: &'a ServiceSettings,
    /// The node's own addresses, loopback ones too.
    pub node_addresses: &'a BTreeSet<IpAddr>,
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
    Selection { cidrs: inputs.settings.service_cidrs.clone(), ..Selection::default() }
}
