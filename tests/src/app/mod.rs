//! A two-tier application in the lab: web replicas behind a balancer's address, which ask database replicas
//! behind a ClusterIP for every page. A replica of each runs in every pod.
//!
//! Its objects are those of `examples/manifests`, as an operator would write them.

mod deploy;
mod ending;
mod load;
mod process;
mod replica;

pub use deploy::{App, Endpoint};
pub use ending::Ending;
pub use load::{Clients, Request, Stream, Tally, clients};
pub use process::{CLIENT, serve_asker};
pub use replica::{Page, Replica};

use serde_json::Value;

use crate::lab::Dual;

/// Where the web is reached from outside.
pub const BALANCER: Dual = Dual::new([10, 128, 60, 1], [0xfd60, 0, 0, 0, 0, 0, 0, 1]);
/// The web's ClusterIPs.
pub const WEB: Dual = Dual::new([10, 96, 0, 10], [0xfd96, 0, 0, 0, 0, 0, 0, 0x10]);
/// The database's ClusterIPs.
pub const DATABASE: Dual = Dual::new([10, 96, 0, 20], [0xfd96, 0, 0, 0, 0, 0, 0, 0x20]);
/// At which clients ask the web.
pub const WEB_PORT: u16 = 80;
pub const DATABASE_PORT: u16 = 5432;
/// At which the web listens in its pods.
pub const WEB_TARGET_PORT: u16 = 8080;

/// Addresses that a Service sends to, as `service show -o json` tells of its one port.
#[must_use]
pub fn used_endpoints(shown: &Value) -> usize {
    let endpoints = shown[0]["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
    endpoints.iter().filter(|endpoint| endpoint["used"] == true).count()
}
