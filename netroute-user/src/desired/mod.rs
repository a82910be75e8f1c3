//! Desired state in the agent's own words: parsed once at `input`, never validated again. Knows
//! nothing of where it came from (files, API, socket) nor of maps.

pub mod api_server;
pub mod egress;
pub mod interface;
pub mod route;
pub mod service;

use std::collections::BTreeMap;
use std::sync::Arc;

use egress::EgressSettings;
use interface::Interface;
use route::{CustomRoute, RouteKey};
use service::{Cluster, ServiceSettings};

/// Everything the operator asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    pub interfaces: Vec<Interface>,
    /// Globs over device names of the host ends of pod veths (`cali*`).
    pub pod_interfaces: Vec<String>,
    pub routes: BTreeMap<RouteKey, CustomRoute>,
    /// Shared: it may hold 100 000 endpoints, and a route that changes leaves it as it is.
    pub cluster: Arc<Cluster>,
    pub service_settings: ServiceSettings,
    pub egress_settings: EgressSettings,
}
