//! Faults, made on purpose from outside: nothing in the product knows of them.
//!
//! It kills, starves and confuses, and counts what is there before and after. It must not know
//! how the product copes.

mod census;
mod inject;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

pub use census::Census;
pub use inject::{Calls, Injection, Tracer};

use crate::{
    agent::{Agent, eventually},
    traffic::{StreamReport, UdpStream},
};

/// The agent has other work when the machine has.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Datagrams a second of the flow that must lose nothing: enough to meet every moment of some
/// milliseconds, and little enough to leave the processor to the rest.
pub const RATE: u32 = 4_000;

/// Memory in KiB that an agent may hold more once it has loaded programs again: each time it reads the
/// kernel's types (20 MB), and glibc keeps some of what was freed. It does not grow from there.
pub const KEPT: u64 = 32 << 10;

/// A generator whose seed is printed; `NETROUTE_SEED` repeats a run.
pub fn seeded(test: &str) -> fastrand::Rng {
    let given = std::env::var("NETROUTE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(0..1 << 32));
    println!("{test}: NETROUTE_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Waits until the maps hold exactly the compiled image.
pub fn await_equal(agent: &Agent) -> Result<()> {
    let mut left = json!([]);
    eventually("the maps to equal the image", PATIENCE, || {
        left = agent.json(&["diff"])?["lines"].clone();
        Ok(left == json!([]))
    })
    .with_context(|| format!("{left:#}"))
}

/// Ends a flow that must have lost nothing.
pub fn lost_nothing(what: &str, stream: UdpStream) -> Result<StreamReport> {
    let report = stream.stop()?;
    println!("{what}: {report}");
    ensure!(report.sent > 500, "{what}: too short to prove anything: {report}");
    ensure!(report.lost == 0 && report.received == report.sent, "{what}: {report}");
    Ok(report)
}

/// Kernel routes in the agent's namespace that are marked as the product's, one line each.
pub fn mirrored(agent: &Agent) -> Result<Vec<String>> {
    let text = crate::agent::inside(&agent.node.ns, &["ip", "route", "show", "proto", "78"])?;
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}
