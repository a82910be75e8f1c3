//! The agent dies at every step: of a start, of a change of its maps' sizes, of a change of the
//! routes, of writing its state. The next one finds maps that it can make right, and no packet of
//! the flow through the node is lost meanwhile (R9, R14).

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, eventually},
    faults::{Census, Injection, KEPT, PATIENCE, RATE, await_equal, lost_nothing, mirrored, seeded},
    traffic::UdpStream,
    transit::{BEYOND, Transit},
};
use serde_json::Value;

const BPF: &str = "bpf";
/// What an atomic replacement of a file is made of.
const FILE: &str = "write,fsync,rename,renameat,renameat2";
const SMALLER: &str = "limits: {routes4: 5000, routes6: 5000, groups: 100, nextHops: 200, routeStats: 300}";

/// Which steps to try: all, or some by chance with the first and the last.
fn steps(rng: &mut fastrand::Rng, mut calls: Vec<usize>, all: bool, some: usize) -> Vec<usize> {
    if all || calls.len() <= some {
        return calls;
    }
    let (first, last) = (calls.remove(0), calls.pop());
    let mut chosen = rng.choose_multiple(calls, some.saturating_sub(2));
    chosen.push(first);
    chosen.extend(last);
    chosen.sort_unstable();
    chosen
}

/// The agent, its maps and the kernel say the same as before.
fn whole(agent: &Agent) -> Result<()> {
    agent.await_state(BEYOND, "Port3", "active")?;
    await_equal(agent)?;
    let status = agent.json(&["status"])?;
    ensure!(status["health"] == "ok", "{status:#}");
    eventually("the kernel's routes", PATIENCE, || {
        let routes = agent.routes()?;
        Ok(mirrored(agent)?.len() == routes.len())
    })
}

/// Nothing was there before: while the first agent comes, the kernel forwards by a route of its own.
fn first_start(all: bool) -> Result<()> {
    let mut rng = seeded("first start");
    let transit = Transit::pair()?;
    let agent = transit.routed()?;
    let node = agent.stop()?;
    let detach = || node.cli(&["detach", "--config", &node.config.display().to_string()])?.succeeded();
    let kernel = "route add 10.9.0.0/24 via 10.0.2.2 dev eth1 proto static metric 9000";
    transit.router.ns().ip(kernel)?;
    detach()?;
    let (killed, calls) = Injection::count(BPF).start(&node)?;
    let calls = calls.changing();
    let count = calls.len();
    ensure!(!killed && count > 20, "a first start made {count} calls of bpf()");
    let chosen = steps(&mut rng, calls, all, 10);
    let (tried, mut died) = (chosen.len(), 0);
    println!("MEASURED first start: {count} calls of bpf(), killed at {} of them", chosen.len());
    let mut census = None;
    let mut lost = 0;
    for at in chosen {
        detach()?;
        let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
        let (killed, _) = Injection::kill(BPF, at).start(&node)?;
        died += usize::from(killed);
        let agent = Agent::start(node.clone()).with_context(|| format!("after death at call {at}"))?;
        whole(&agent).with_context(|| format!("after death at call {at}"))?;
        stream.wait_for(200, PATIENCE)?;
        let report = stream.stop()?;
        println!("died at {at} ({killed}): {report}");
        // A veth whose XDP program comes or goes loses what lies in its ring at that moment: here
        // programs come, and go again with an agent that dies before it pinned them.
        ensure!(report.losses.iter().all(|loss| loss.count <= u64::from(RATE) / 20), "call {at}: {report}");
        lost += report.lost;
        let census: &Census = census.get_or_insert(Census::of(&agent)?);
        census.await_no_more(&agent, KEPT).with_context(|| format!("after death at call {at}"))?;
        agent.stop()?;
    }
    // Not every run makes the same number of calls.
    ensure!(2 * died >= tried, "died at only {died} of {tried} steps");
    println!("MEASURED first start: {lost} packets lost while programs came and went");
    Ok(())
}

/// Other sizes are asked for: new maps are filled and all programs exchanged under traffic.
fn reload(all: bool) -> Result<()> {
    let mut rng = seeded("reload");
    let transit = Transit::pair()?;
    let agent = transit.agent()?;
    let census = Census::of(&agent)?;
    let node = agent.stop()?;
    let plain = std::fs::read_to_string(&node.config)?;
    let sized = format!("{plain}{SMALLER}\n");
    // Each round asks for what the maps are not.
    let other = |round: usize| if round.is_multiple_of(2) { &sized } else { &plain };
    std::fs::write(&node.config, other(0))?;
    let (killed, calls) = Injection::count(BPF).start(&node)?;
    let calls = calls.changing();
    let count = calls.len();
    ensure!(!killed && count > 20, "a reload made {count} calls of bpf()");
    let chosen = steps(&mut rng, calls, all, 10);
    let (tried, mut died) = (chosen.len(), 0);
    println!("MEASURED reload: {count} calls of bpf(), killed at {} of them", chosen.len());
    let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
    for (round, at) in (1..).zip(chosen) {
        std::fs::write(&node.config, other(round))?;
        let (killed, _) = Injection::kill(BPF, at).start(&node)?;
        died += usize::from(killed);
        let agent = Agent::start(node.clone()).with_context(|| format!("after death at call {at}"))?;
        whole(&agent).with_context(|| format!("after death at call {at} ({killed})"))?;
        census.await_no_more(&agent, KEPT).with_context(|| format!("after death at call {at}"))?;
        agent.stop()?;
    }
    ensure!(2 * died >= tried, "died at only {died} of {tried} steps");
    lost_nothing("reload, killed at its steps", stream).map(drop)
}

/// A batch of routes over both next hops, and one away: every kind of map write.
fn batch(round: usize) -> String {
    format!(
        "10.50.{round}.0/24 via 10.0.2.2 dev Port3
         10.51.{round}.0/24 via 10.0.1.2 dev Port2
         10.51.{round}.0/24 via 10.0.2.2 dev Port3
         fd50:{round}::/32 via fd02::2 dev Port3\n"
    )
}

fn keys(agent: &Agent) -> Result<Vec<String>> {
    let key = |route: Value| format!("{} {} {}", route["destination"], route["interface"], route["nextHop"]);
    Ok(agent.routes()?.into_iter().map(key).collect())
}

/// Kills a running agent at a call of a change; the change is then there as a whole or not at all.
fn change(calls: &'static str, all: bool, some: usize) -> Result<()> {
    let mut rng = seeded(calls);
    let transit = Transit::pair()?;
    let mut agent = transit.agent()?;
    let counting = Injection::count(calls).attach(&agent)?;
    agent.node.fed(&["route", "import", "-"], &batch(0))?.succeeded()?;
    let counted = counting.stop()?;
    agent.await_state("10.51.0.0/24", "Port2", "active")?;
    let calls_made = counted.changing();
    let count = calls_made.len();
    ensure!(count > 1, "a change made {count} calls of {calls}");
    let chosen = steps(&mut rng, calls_made, all, some);
    let (tried, mut died) = (chosen.len(), 0);
    println!("MEASURED change: {count} calls of {calls} in one thread, killed at {} of them", chosen.len());
    let census = Census::of(&agent)?;
    let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
    for (round, at) in (1..).zip(chosen) {
        let before = keys(&agent)?;
        let tracer = Injection::kill(calls, at).attach(&agent)?;
        let said = agent.node.fed(&["route", "import", "-"], &batch(round))?;
        let dead = said.code != 0;
        died += usize::from(dead);
        drop(tracer);
        agent = Agent::start(agent.kill9()?).with_context(|| format!("after death at call {at}"))?;
        whole(&agent).with_context(|| format!("after death at call {at}"))?;
        let added = keys(&agent)?.len() - before.len();
        println!("died at {at}: told the caller {}, {added} routes there", said.code);
        ensure!(added == 4 || dead && added == 0, "call {at}: {added} of 4 routes, {said:?}");
        census.await_no_more(&agent, KEPT).with_context(|| format!("after death at call {at}"))?;
    }
    // At the later ones the caller has had his answer.
    ensure!(died > 0, "died before the answer at none of {tried} steps");
    lost_nothing(&format!("a change, killed at {calls}"), stream).map(drop)
}

#[test]
fn killed_at_steps_of_the_first_start() -> Result<()> {
    first_start(false)
}

#[test]
fn killed_at_steps_of_a_reload() -> Result<()> {
    reload(false)
}

#[test]
fn killed_at_map_writes_of_a_change() -> Result<()> {
    change(BPF, false, 8)
}

/// Torn writes: the process ends within the replacement of the state file.
#[test]
fn r9_killed_while_the_state_is_written() -> Result<()> {
    change(FILE, false, 6)
}

#[test]
#[ignore = "takes a quarter of an hour: each step of each plan, where the others take some by chance"]
fn killed_at_every_step() -> Result<()> {
    first_start(true)?;
    reload(true)?;
    change(BPF, true, 0)?;
    change(FILE, true, 0)
}
