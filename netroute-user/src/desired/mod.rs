//! Desired state in the agent's own words: parsed once at `input`, never validated again. Knows
//! nothing of where it came from (files, API, socket) nor of maps.

pub mod interface;
pub mod route;
pub mod service;

use std::collections::BTreeMap;

use interface::Interface;
use route::{CustomRoute, RouteKey};

/// Everything the operator asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    pub interfaces: Vec<Interface>,
    /// Globs over device names of the host ends of pod veths (`cali*`).
    pub pod_interfaces: Vec<String>,
    pub routes: BTreeMap<RouteKey, CustomRoute>,
}
