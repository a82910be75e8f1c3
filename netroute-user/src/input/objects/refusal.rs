//! Why a route cannot be what was written.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::ProbeSpec;
use crate::input::address::AddressError;

/// One line each; names the key of the object that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteRefusal {
    #[error("destination: {0}")]
    Destination(AddressError),
    #[error("destination: {0} is {1}, which is not routed to a next hop")]
    DestinationRange(IpNet, &'static str),
    #[error("nextHop: {0}")]
    NextHop(AddressError),
    #[error("nextHop: {0} is {1}; give the address of a router")]
    NextHopRange(IpAddr, &'static str),
    #[error("nextHop: {next_hop} is IPv{}, the destination {destination} is IPv{}", version(*next_hop), version(destination.addr()))]
    Family { destination: IpNet, next_hop: IpAddr },
    #[error("interface: is empty; name an interface of the agent's configuration")]
    Interface,
    #[error(
        "interface: {0:?} has quotes or control characters; name an interface of the agent's configuration"
    )]
    InterfaceName(String),
    #[error("metric: must be 1 to 4294967295; lower is preferred")]
    Metric,
    #[error("weight: must be 1 to 255")]
    Weight,
    #[error("{}", probe_text(.0))]
    Probe(ProbeSpec),
}

const fn version(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 4,
        IpAddr::V6(_) => 6,
    }
}

fn probe_text(spec: &ProbeSpec) -> String {
    spec.probe().err().map_or_else(String::new, |error| error.to_string())
}

impl RouteRefusal {
    /// The key in `spec` that is wrong.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Destination(_) | Self::DestinationRange(..) => "destination",
            Self::NextHop(_) | Self::NextHopRange(..) | Self::Family { .. } => "nextHop",
            Self::Interface | Self::InterfaceName(_) => "interface",
            Self::Metric => "metric",
            Self::Weight => "weight",
            Self::Probe(_) => "probe",
        }
    }
}
