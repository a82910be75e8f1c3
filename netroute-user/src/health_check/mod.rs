//! `healthCheckNodePort`: tells load balancers whether this node has endpoints of a Service (S15).
//!
//! Knows neither maps nor objects: the agent tells [`Checks`], and is told which ports could not be had.

mod answer;
mod listen;
mod ports;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub use ports::{PortProblem, Problems, serve};

use crate::desired::service::ServiceKey;

/// An agent that has not told anything for so long is stuck; it does so every few seconds.
const SILENCE: Duration = Duration::from_secs(30);

/// What one port answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub service: ServiceKey,
    /// Pods of this node that are ready.
    pub local_endpoints: usize,
    /// The Service's front ends are in the maps, all of them.
    pub served: bool,
}

/// What all ports answer, as of one moment.
#[derive(Clone, Debug)]
pub struct Checks {
    pub ports: BTreeMap<u16, Check>,
    /// Programs run, and the maps hold what they should.
    pub healthy: bool,
    pub told: Instant,
}

impl Checks {
    /// Before the agent knows anything: no ports.
    #[must_use]
    pub fn none(now: Instant) -> Self {
        Self { ports: BTreeMap::new(), healthy: false, told: now }
    }

    fn is_healthy(&self, check: &Check, now: Instant) -> bool {
        self.healthy && check.served && now.saturating_duration_since(self.told) < SILENCE
    }
}
