//! Which endpoints each front end has. Pure; knows nothing of maps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::desired::service::Protocol;

/// A port of a Service, by what it is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    pub namespace: String,
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

/// Whose packets a front end is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Clients outside of the cluster.
    External,
    /// Pods and nodes.
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

/// What becomes of packets to a front end without an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WithoutEndpoint {
    Reject,
    Drop,
}

/// One front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontEndSpec {
    pub service: ServicePort,
    pub kind: Kind,
    pub endpoints: BTreeSet<Endpoint>,
    pub without: WithoutEndpoint,
    pub masquerade: bool,
    pub affinity: Option<Duration>,
    /// Empty: all clients.
    pub source_ranges: Vec<IpNet>,
    pub echo: bool,
}

/// Where a front end is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrontEndAddress {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    pub scope: Scope,
}

/// All front ends, and the addresses that are Services' as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub front_ends: BTreeMap<FrontEndAddress, FrontEndSpec>,
    /// Load-balancer and external addresses; whether each answers ICMP echo.
    pub addresses: BTreeMap<IpAddr, bool>,
    /// ClusterIPs of Services that another proxy serves (S11).
    pub foreign: BTreeSet<IpAddr>,
    pub cidrs: BTreeSet<IpNet>,
}
