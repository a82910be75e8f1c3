//! What became of each custom route.

use crate::desired::route::RouteKey;
use std::collections::BTreeMap;

/// State of every custom route, with the reason where it is not `Active`.
pub type Statuses = BTreeMap<RouteKey, Status>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    /// One line; empty when there is nothing to say.
    pub reason: String,
    /// Slot in `ROUTE_STATS`, if the route's prefix is installed.
    pub stats: Option<u32>,
}

/// The `state` of a route in JSON and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Used now.
    Active,
    /// Healthy, but a better metric is in use.
    Standby,
    /// Waiting for its interface.
    Pending,
    /// Its interface has no carrier or its next hop does not answer.
    Down,
    /// Cannot be installed as it is.
    Invalid,
}
