//! What the agent does otherwise on this kernel, as it says itself.

use anyhow::{Result, ensure};
use aya::util::KernelVersion;
use netroute_tests::{
    agent::{Agent, Node},
    router::Router,
};

/// The doctor's checks of what differs between kernels, what it means in a word, and the first kernel that
/// has it.
const CHECKS: [(&str, &str, (u8, u8)); 3] = [
    ("tc-link", "clsact filters instead of TCX links", (6, 6)),
    ("neighbours", "neighbours asked for again instead of kept by the kernel", (5, 16)),
    ("xdp-transmit", "XDP redirect inferred (hardware only)", (6, 3)),
];

/// The agent finds out by trying; the version of the kernel is the control.
#[test]
fn the_agent_names_its_fallbacks() -> Result<()> {
    let router = Router::pair()?;
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(Node::beside(&router, folder.path())?)?;
    agent.cli(&["route", "add", "10.9.0.0/24", "--via", "10.0.2.2", "--dev", "Port3"])?.succeeded()?;
    agent.await_state("10.9.0.0/24", "Port3", "active")?;
    let version = KernelVersion::current()?;
    let mut fallbacks = Vec::new();
    for (check, words, (major, minor)) in CHECKS {
        let found = agent.doctor(check)?;
        ensure!(!found.is_empty(), "no check {check}");
        let fallback = found.iter().any(|(_, complaint)| *complaint);
        let old = version < KernelVersion::new(major, minor, 0);
        ensure!(fallback == old, "{check} on {version:?}: {found:?}");
        if fallback {
            fallbacks.push(words);
        }
    }
    for check in ["xdp-mode", "jit", "btf"] {
        let found = agent.doctor(check)?;
        fallbacks.extend(found.iter().any(|(_, complaint)| *complaint).then_some(check));
    }
    // Map writes go one by one on every kernel.
    let told = if fallbacks.is_empty() { "nothing".to_owned() } else { fallbacks.join("; ") };
    println!("FACT fallbacks {told}");
    Ok(())
}
