//! The agent comes and goes under 50 000 packets a second; none is lost (N14).
//!
//! The node's kernel does not forward, so that what arrives came through the programs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::Agent,
    capture::Tcpdump,
    traffic::{StreamReport, ping},
    transit::{BEYOND, Transit},
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
/// Datagrams that must arrive between two events, so that each event meets a stream under way.
const BETWEEN: u64 = 5_000;

fn lost_nothing(what: &str, report: &StreamReport) -> Result<()> {
    println!("{what}: {report}");
    ensure!(report.sent > 3 * BETWEEN, "too short to prove anything: {report}");
    ensure!(report.lost == 0 && report.received == report.sent, "{what}: {report}");
    Ok(())
}

fn program_ids(agent: &Agent) -> Result<Vec<Value>> {
    let status = agent.json(&["status"])?;
    let programs = status["programs"].as_array().context("no programs")?;
    Ok(programs.iter().map(|program| program["id"].clone()).collect())
}

#[test]
fn n14_kill_and_restart_lose_nothing() -> Result<()> {
    let scene = Transit::pair()?;
    let agent = scene.agent()?;
    let before = agent.forwarded()?;
    let stream = scene.stream()?;
    stream.wait_for(BETWEEN, PATIENCE)?;
    let node = agent.kill9()?;
    stream.wait_for(BETWEEN, PATIENCE)?;
    let agent = Agent::start(node)?;
    agent.await_state(BEYOND, "Port3", "active")?;
    stream.wait_for(BETWEEN, PATIENCE)?;
    let report = stream.stop()?;
    lost_nothing("kill -9 and restart", &report)?;
    // Counters are in the maps, which went on.
    let forwarded = agent.forwarded()? - before;
    ensure!(forwarded >= report.sent, "{forwarded} of {} were forwarded by the fast path", report.sent);
    ensure!(agent.json(&["diff"])?["lines"] == serde_json::json!([]));
    Ok(())
}

#[test]
fn n14_stop_and_restart_lose_nothing() -> Result<()> {
    let scene = Transit::pair()?;
    let agent = scene.agent()?;
    let stream = scene.stream()?;
    stream.wait_for(BETWEEN, PATIENCE)?;
    let node = agent.stop()?;
    ensure!(!node.socket.exists(), "the socket was left behind");
    node.cli(&["route", "list"])?.refused(3)?;
    stream.wait_for(BETWEEN, PATIENCE)?;
    let agent = Agent::start(node)?;
    agent.await_state(BEYOND, "Port3", "active")?;
    stream.wait_for(BETWEEN, PATIENCE)?;
    lost_nothing("SIGTERM and restart", &stream.stop()?)?;
    ensure!(agent.json(&["diff"])?["lines"] == serde_json::json!([]));
    Ok(())
}

/// Maps of other sizes: made anew and filled beside the old ones, and all programs exchanged.
#[test]
fn n14_an_upgrade_with_other_maps_loses_nothing() -> Result<()> {
    let scene = Transit::pair()?;
    let agent = scene.agent()?;
    let programs = program_ids(&agent)?;
    let stream = scene.stream()?;
    stream.wait_for(BETWEEN, PATIENCE)?;
    let node = agent.stop()?;
    node.configure("limits: {routes4: 5000, routes6: 5000, groups: 100, nextHops: 200, routeStats: 300}")?;
    let agent = Agent::start(node)?;
    agent.await_state(BEYOND, "Port3", "active")?;
    stream.wait_for(BETWEEN, PATIENCE)?;
    lost_nothing("upgrade to other maps", &stream.stop()?)?;
    let now = program_ids(&agent)?;
    ensure!(now.len() == programs.len(), "{programs:?} before, {now:?} after");
    ensure!(now.iter().all(|id| !programs.contains(id)), "{programs:?} before, {now:?} after");
    let status = agent.json(&["status"])?;
    let maps = status["maps"].as_array().context("no maps")?;
    let routes4 = maps.iter().find(|map| map["name"] == "ROUTES4").context("no ROUTES4")?;
    ensure!(routes4["max"] == 5000, "{routes4:#}");
    Ok(())
}

/// The control for the tests above: a moment without programs is seen.
#[test]
fn a_detached_data_plane_would_be_noticed() -> Result<()> {
    let scene = Transit::pair()?;
    let agent = scene.agent()?;
    let stream = scene.stream()?;
    stream.wait_for(BETWEEN, PATIENCE)?;
    agent.cli(&["detach"])?.succeeded()?;
    let agent = Agent::start(agent.node.clone())?;
    agent.await_state(BEYOND, "Port3", "active")?;
    stream.wait_for(BETWEEN, PATIENCE)?;
    let report = stream.stop()?;
    ensure!(report.lost > 0, "nobody forwarded and nothing was lost: {report}");
    Ok(())
}

/// NIC to NIC in XDP, one hop off the TTL, both families (R10); by TC where the kernel does not tell whether
/// a veth takes what XDP redirects.
#[test]
fn r10_transit_goes_nic_to_nic_in_xdp() -> Result<()> {
    let scene = Transit::pair()?;
    let agent = scene.agent()?;
    scene.router.right().ns.ip("addr add fd09::1/128 dev lo")?;
    agent.cli(&["route", "add", "fd09::/64", "--via", "fd02::2", "--dev", "Port3"])?.succeeded()?;
    agent.await_state("fd09::/64", "Port3", "active")?;
    let hook = agent.transit_hook()?;
    for (target, filter) in
        [("10.9.0.1", "icmp[icmptype] == icmp-echo"), ("fd09::1", "icmp6 and ip6[40] == 128")]
    {
        let dump = Tcpdump::start(&scene.router.right().ns, "eth0", filter)?;
        let before = agent.verdict(hook, "forwarded")?;
        let left = &scene.router.left().ns;
        // The first answer waits for the neighbour on the left, which nobody has asked yet.
        let found = ping(left, target.parse()?, &["-c", "5", "-i", "0.2", "-t", "64"])?;
        ensure!(found.received >= 3, "{}", found.output);
        let frames = dump.wait_for(5, Duration::from_secs(3))?;
        ensure!(frames.iter().all(|frame| frame.ttl == Some(63)), "{frames:#?}");
        let forwarded = agent.verdict(hook, "forwarded")? - before;
        ensure!(forwarded >= 5, "only {forwarded} packets were forwarded by {hook}");
    }
    ensure!(scene.folder.path().join("state").exists());
    Ok(())
}
