//! The difference between two images as an ordered list of single map writes. Pure.

use std::fmt;
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use netroute_common::layout::route::{Group, NextHop, Route};
use netroute_common::layout::strides::Block;

use crate::compile::image::Image;

mod diff;
mod egress;
pub mod failover;
mod services;
pub use diff::diff;
pub use egress::EgressStep;
pub use services::ServiceStep;

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
        /// Large beside the rest of a step, of which there may be millions.
        group: Box<Group>,
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
    /// One octet's entries of `ROOT4`.
    SetRoot4 {
        index: u32,
        block: Arc<Block>,
    },
    SetBlock4 {
        index: u32,
        block: Arc<Block>,
    },
    RemoveRoute4 {
        prefix: Ipv4Net,
    },
    RemoveRoute6 {
        prefix: Ipv6Net,
    },
    /// Overwrites with zeroes.
    ClearRoot4 {
        index: u32,
    },
    ClearBlock4 {
        index: u32,
    },
    ClearGroup {
        id: u32,
    },
    ClearNextHop {
        id: u32,
    },
    ClearPort {
        slot: u32,
    },
    Service(ServiceStep),
    Egress(EgressStep),
}

/// Steps in the order they must be applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
}

impl Step {
    /// Does to an image what the step does to the maps.
    pub fn apply_to(&self, image: &mut Image) {
        match *self {
            Self::SetRoot4 { index, ref block } => drop(image.strides.root.insert(index, block.clone())),
            Self::SetBlock4 { index, ref block } => drop(image.strides.blocks.insert(index, block.clone())),
            Self::ClearRoot4 { index } => drop(image.strides.root.remove(&index)),
            Self::ClearBlock4 { index } => drop(image.strides.blocks.remove(&index)),
            Self::SetPort { slot, ifindex } => drop(image.ports.insert(slot, ifindex)),
            Self::SetNextHop { id, next_hop } => drop(image.next_hops.insert(id, next_hop)),
            Self::SetGroup { id, ref group } => drop(image.groups.insert(id, **group)),
            Self::SetRoute4 { prefix, route } => drop(image.routes4.insert(prefix, route)),
            Self::SetRoute6 { prefix, route } => drop(image.routes6.insert(prefix, route)),
            Self::RemoveRoute4 { prefix } => drop(image.routes4.remove(&prefix)),
            Self::RemoveRoute6 { prefix } => drop(image.routes6.remove(&prefix)),
            Self::ClearGroup { id } => drop(image.groups.remove(&id)),
            Self::ClearNextHop { id } => drop(image.next_hops.remove(&id)),
            Self::ClearPort { slot } => drop(image.ports.remove(&slot)),
            Self::ResetRouteStats { .. } => {}
            Self::Service(ref step) => step.apply_to(&mut image.services),
            Self::Egress(ref step) => step.apply_to(&mut image.egress),
        }
    }
}

impl Step {
    /// How many entries it writes.
    #[must_use]
    pub fn writes(&self) -> usize {
        match self {
            Self::Service(ServiceStep::SetBlock { backends, .. }) => backends.len(),
            Self::Service(ServiceStep::FreeBlock { .. }) => 0,
            Self::Egress(step) => step.writes(),
            _ => 1,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetPort { slot, ifindex } => write!(f, "set PORTS {slot} to interface {ifindex}"),
            Self::SetNextHop { id, next_hop } => {
                write!(f, "set NEXTHOPS {id} on interface {} alive {}", next_hop.ifindex, next_hop.alive)
            }
            Self::SetGroup { id, group } => write!(f, "set GROUPS {id} with {} members", group.len),
            Self::ResetRouteStats { slot } => write!(f, "reset ROUTE_STATS {slot}"),
            Self::SetRoute4 { prefix, route } => write!(f, "set ROUTES4 {prefix} to group {}", route.group),
            Self::SetRoute6 { prefix, route } => write!(f, "set ROUTES6 {prefix} to group {}", route.group),
            Self::SetRoot4 { index, .. } => write!(f, "set ROOT4 {index}"),
            Self::SetBlock4 { index, .. } => write!(f, "set BLOCKS4 {index}"),
            Self::ClearRoot4 { index } => write!(f, "clear ROOT4 {index}"),
            Self::ClearBlock4 { index } => write!(f, "clear BLOCKS4 {index}"),
            Self::RemoveRoute4 { prefix } => write!(f, "remove ROUTES4 {prefix}"),
            Self::RemoveRoute6 { prefix } => write!(f, "remove ROUTES6 {prefix}"),
            Self::ClearGroup { id } => write!(f, "clear GROUPS {id}"),
            Self::ClearNextHop { id } => write!(f, "clear NEXTHOPS {id}"),
            Self::ClearPort { slot } => write!(f, "clear PORTS {slot}"),
            Self::Service(step) => write!(f, "{step}"),
            Self::Egress(step) => write!(f, "{step}"),
        }
    }
}
