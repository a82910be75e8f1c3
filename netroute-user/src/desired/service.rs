//! Services, their endpoints and the nodes, as far as the data plane cares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::egress::{EgressPolicy, Labels, Pod};

/// An object of a namespace: a Service, an EndpointSlice, or a Pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

pub type ServiceKey = ObjectKey;
pub type SliceKey = ObjectKey;

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name } = self;
        write!(f, "{namespace}/{name}")
    }
}

/// What the cluster's objects say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    pub services: BTreeMap<ServiceKey, Service>,
    pub endpoint_slices: BTreeMap<SliceKey, EndpointSlice>,
    /// By name.
    pub nodes: BTreeMap<String, Node>,
    /// Of all nodes, those that have ended left out.
    pub pods: BTreeMap<ObjectKey, Arc<Pod>>,
    /// Labels by name.
    pub namespaces: Arc<BTreeMap<String, Labels>>,
    /// By name.
    pub egress_policies: Arc<BTreeMap<String, EgressPolicy>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub key: ServiceKey,
    /// `creationTimestamp`, seconds of Unix time; manifests have none.
    pub created: Option<i64>,
    /// Why it is not this data plane's; what it then has beside its addresses does not count.
    pub skipped: Option<Skipped>,
    pub kind: ServiceType,
    /// Without `None`; at most one of each family.
    pub cluster_ips: BTreeSet<IpAddr>,
    pub ports: Vec<ServicePortSpec>,
    pub external_ips: BTreeSet<IpAddr>,
    /// `status.loadBalancer.ingress`, those with an address.
    pub load_balancer: BTreeMap<IpAddr, IpMode>,
    /// `loadBalancerSourceRanges`; empty = everybody.
    pub source_ranges: Vec<IpNet>,
    pub internal_policy: TrafficPolicy,
    pub external_policy: TrafficPolicy,
    /// Session affinity by client address: for so long after the last use.
    pub affinity: Option<Duration>,
    pub health_check_port: Option<u16>,
}

#[cfg(test)]
impl Service {
    /// As the API server makes it of the least that can be written, but without addresses and ports.
    pub(crate) fn named(key: ServiceKey) -> Self {
        Self {
            key,
            created: None,
            skipped: None,
            kind: ServiceType::ClusterIp,
            cluster_ips: BTreeSet::new(),
            ports: Vec::new(),
            external_ips: BTreeSet::new(),
            load_balancer: BTreeMap::new(),
            source_ranges: Vec::new(),
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            affinity: None,
            health_check_port: None,
        }
    }
}

/// Whose a Service is, if not this data plane's (S11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skipped {
    /// `service.kubernetes.io/service-proxy-name`: somebody else serves its addresses.
    OtherProxy,
    Headless,
    ExternalName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceType {
    ClusterIp,
    NodePort,
    LoadBalancer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePortSpec {
    /// Empty if the port has no name. Ports of slices carry it too.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// Who answers at a load balancer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IpMode {
    /// The nodes.
    Vip,
    /// The balancer itself, also to clients in the cluster (S7).
    Proxy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrafficPolicy {
    Cluster,
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl From<IpAddr> for Family {
    fn from(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    pub key: SliceKey,
    /// By its label `kubernetes.io/service-name`, in the slice's namespace.
    pub service: ServiceKey,
    pub family: Family,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<SliceEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// That of the Service's port.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// The first of `addresses`: the others are its aliases.
    pub address: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node: Option<String>,
    /// Nodes and zones that should use it.
    pub node_hints: BTreeSet<String>,
    pub zone_hints: BTreeSet<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub addresses: BTreeSet<IpAddr>,
}

/// Label of a node with its zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

impl Node {
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.labels.get(ZONE_LABEL).map(String::as_str)
    }
}

/// What the agent's configuration says about Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    /// This node's name in the cluster.
    pub node_name: String,
    /// Of this node, for as long as no Node object says.
    pub node_labels: BTreeMap<String, String>,
    /// Where ClusterIPs come from.
    pub service_cidrs: BTreeSet<IpNet>,
    /// Which of the node's own addresses answer node ports; empty = all that may (S13).
    pub node_port_cidrs: Vec<IpNet>,
    pub node_port_range: RangeInclusive<u16>,
    /// Where `externalIPs` may be taken from; empty = nowhere.
    pub external_ip_cidrs: Vec<IpNet>,
}

/// Kubernetes' own default.
pub const NODE_PORT_RANGE: RangeInclusive<u16> = 30000..=32767;

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            node_labels: BTreeMap::new(),
            service_cidrs: BTreeSet::new(),
            node_port_cidrs: Vec::new(),
            node_port_range: NODE_PORT_RANGE,
            external_ip_cidrs: Vec::new(),
        }
    }
}
