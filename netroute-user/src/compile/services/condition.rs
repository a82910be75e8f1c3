//! What is wrong with a Service or its EndpointSlices, for as long as it is so. Nothing here keeps
//! the rest of the object from working.

use std::net::IpAddr;

use crate::desired::service::{Family, Protocol, ServiceKey, SliceKey};

/// One line each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Condition {
    #[error("EndpointSlice {0} names this Service, which is not there")]
    NoService(SliceKey),
    #[error("no EndpointSlice names this Service: it has no endpoints")]
    NoEndpointSlice,
    #[error("port {port}/{protocol}: no EndpointSlice has a port of the name \"{name}\"")]
    NoSlicePort { port: u16, protocol: Protocol, name: String },
    #[error("EndpointSlice {slice}: the endpoint {address} is not {family}; it is left out")]
    EndpointFamily { slice: SliceKey, address: IpAddr, family: Family },
    #[error("port {port}/{protocol}: {found} endpoints; the first {used} are used")]
    TooManyEndpoints { port: u16, protocol: Protocol, found: usize, used: usize },
    #[error("no ClusterIP: give one in spec.clusterIPs")]
    NoClusterIp,
    #[error("{address}: the Service has no {} ClusterIP; the address is not served", Family::from(*address))]
    AddressFamily { address: IpAddr },
    #[error("{address}:{port}/{protocol} is served for {by} already")]
    AddressTaken { address: IpAddr, port: u16, protocol: Protocol, by: ServiceKey },
    #[error("the external IP {0} is in no range of externalIPs.allow of the agent's configuration")]
    ExternalIpNotAllowed(IpAddr),
    #[error("port {port}/{protocol} has no node port")]
    NoNodePort { port: u16, protocol: Protocol },
    #[error("the node port {node_port}/{protocol} is that of {by}, which is older")]
    NodePortTaken { node_port: u16, protocol: Protocol, by: ServiceKey },
    #[error("the node port {node_port} is outside of {first} to {last}")]
    NodePortRange { node_port: u16, first: u16, last: u16 },
    #[error("the health check port {port} is taken by {by}")]
    HealthPortTaken { port: u16, by: ServiceKey },
}

impl Condition {
    /// One word, as conditions of Kubernetes objects have.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoService(_) => "NoService",
            Self::NoEndpointSlice => "NoEndpointSlice",
            Self::NoSlicePort { .. } => "NoSlicePort",
            Self::EndpointFamily { .. } => "EndpointFamily",
            Self::TooManyEndpoints { .. } => "TooManyEndpoints",
            Self::NoClusterIp => "NoClusterIP",
            Self::AddressFamily { .. } => "AddressFamily",
            Self::AddressTaken { .. } => "AddressTaken",
            Self::ExternalIpNotAllowed(_) => "ExternalIPNotAllowed",
            Self::NoNodePort { .. } => "NoNodePort",
            Self::NodePortTaken { .. } => "NodePortTaken",
            Self::NodePortRange { .. } => "NodePortRange",
            Self::HealthPortTaken { .. } => "HealthPortTaken",
        }
    }
}
