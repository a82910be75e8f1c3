//! The agent's API: HTTP with JSON over a Unix socket. The server turns requests into [`request`]s
//! to the agent; it knows neither maps nor files.

pub mod client;
mod egress_types;
pub mod explain_types;
pub mod request;
pub mod server;
mod service_types;
pub mod socket;
pub mod types;

/// Flows that are listed if nobody says how many.
pub const MOST_FLOWS: usize = 1000;

/// Paths of the API, the same for server and client.
pub mod path {
    pub const ROUTES: &str = "/v1/routes";
    pub const IMPORT: &str = "/v1/routes/import";
    pub const EXPORT: &str = "/v1/routes/export";
    pub const ROUTE_GET: &str = "/v1/routes/get";
    pub const NEXT_HOPS: &str = "/v1/nexthops";
    pub const DROPS: &str = "/v1/drops";
    pub const SERVICES: &str = "/v1/services";
    pub const EXPLAIN: &str = "/v1/explain";
    pub const EGRESS: &str = "/v1/egress";
    pub const FLOWS: &str = "/v1/flows";
    pub const STATUS: &str = "/v1/status";
    pub const DOCTOR: &str = "/v1/doctor";
    pub const DIFF: &str = "/v1/diff";
    pub const DETACH: &str = "/v1/detach";
}

#[cfg(test)]
mod tests;
