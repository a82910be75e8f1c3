//! The difference between two images as an ordered list of single map writes. Pure.

use ipnet::{Ipv4Net, Ipv6Net};
use netroute_common::layout::route::{Group, NextHop, Route};

mod diff;
pub use diff::diff;

/// One write to one map. Applied in list order: what is referred to is written before what
/// refers to it, and removed after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Device-map slot -> interface index.
    SetPort {
        slot: u32,
        ifindex: u32,
    },
    SetNextHop {
        id: u32,
        next_hop: NextHop,
    },
    SetGroup {
        id: u32,
        group: Group,
    },
    /// Zeroes a counter slot before a new route takes it.
    ResetRouteStats {
        slot: u32,
    },
    SetRoute4 {
        prefix: Ipv4Net,
        route: Route,
    },
    SetRoute6 {
        prefix: Ipv6Net,
        route: Route,
    },
    RemoveRoute4 {
        prefix: Ipv4Net,
    },
    RemoveRoute6 {
        prefix: Ipv6Net,
    },
    /// Overwrites with zeroes.
    ClearGroup {
        id: u32,
    },
    ClearNextHop {
        id: u32,
    },
    ClearPort {
        slot: u32,
    },
}

/// Steps in the order they must be applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
}
