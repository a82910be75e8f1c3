//! A custom route, parsed: what the operator asked for, whatever the transport.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// Metric of a route that names none.
pub const DEFAULT_METRIC: u32 = 256;

/// One custom route: one next hop of one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomRoute {
    pub key: RouteKey,
    /// Lower is preferred among the routes of one destination (kernel: `RTA_PRIORITY`).
    pub metric: u32,
    /// Share among next hops of equal metric, 1..=255.
    pub weight: u8,
    /// Accepted although the interface has only dynamic addresses.
    pub forced: bool,
    /// Active liveness check of the next hop, beside carrier and neighbour state.
    pub probe: Option<Probe>,
    pub origin: Origin,
}

/// What makes a custom route itself: adding the same key again updates it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// No host bits set.
    pub destination: IpNet,
    /// The operator's name of the interface (alias, or device name).
    pub interface: String,
    /// Same family as `destination`.
    pub next_hop: IpAddr,
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { destination, interface, next_hop } = self;
        write!(f, "{destination} via {next_hop} dev {interface}")
    }
}

/// Where a route was declared; decides who may remove it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `route add` or the cmdlet; kept in the state directory.
    Cli,
    /// A manifest: the file name and the object's `metadata.name`.
    Manifest { file: String, name: String },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cli => f.write_str("cli"),
            Self::Manifest { file, name } => write!(f, "manifest {file} ({name})"),
        }
    }
}

/// How a next hop's liveness is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    pub kind: ProbeKind,
    pub interval: Duration,
    /// Lost answers in a row that make the next hop dead, and answers in a row that revive it.
    pub threshold: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// ARP request or neighbour solicitation.
    Neighbour,
    /// ICMP echo request.
    Echo,
}
