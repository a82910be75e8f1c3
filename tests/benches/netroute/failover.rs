//! A cable is pulled under traffic: how long until packets take the other way.
//!
//! ```text
//!  left ── eth0 [router] eth1 ──────────────── right   the preferred way, whose cable is pulled
//!                        eth2 ── third ─────── right
//! ```

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use netroute_tests::agent::{Agent, Node, eventually};
use netroute_tests::router::Router;
use netroute_tests::traffic::{StreamSpec, UdpStream};

use crate::sample::{Outcome, Row, Section, Unit, quick};
use crate::whole_path::apart;

pub const SECTION: Section = Section { name: "failover", run: |_| apart(run) };

const SIZES: [u32; 3] = [1, 1_000, 100_000];
const ROUNDS: usize = 5;
const TARGET_NET: &str = "60.1.1.0/24";
const TARGET: ([u8; 4], u16) = ([60, 1, 1, 1], 7100);
/// Datagrams per second: the outage is known to 0.2 ms.
const RATE: u32 = 5_000;
/// Datagrams before the cable is pulled, and after.
const LEAD: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(30);

fn run() -> Result<Vec<Row>> {
    let router = Router::triple()?;
    second_way(&router)?;
    let folder = tempfile::tempdir()?;
    let node = Node::beside(&router, folder.path())?;
    let right = "  - {alias: Port3, device: eth1, role: external}";
    node.reconfigure(right, &format!("{right}\n  - {{alias: Port4, device: eth2, role: external}}"))?;
    node.configure("failover: {holdTime: 1s}")?;
    let agent = Agent::start(node)?;
    fs::write(folder.path().join("routes.txt"), table(&router, 1)?)?;
    agent.cli(&["route", "import", &folder.path().join("routes.txt").display().to_string()])?.succeeded()?;
    agent.await_state(TARGET_NET, "Port3", "active")?;
    agent.await_state(TARGET_NET, "Port4", "standby")?;
    let mut rows = Vec::new();
    for routes in SIZES.into_iter().filter(|routes| !quick() || *routes <= 1_000) {
        let id = format!("failover.{routes}");
        let title = format!("carrier lost to first packet by the other way, {routes} routes");
        match measure(&router, &agent, folder.path(), routes) {
            Ok((gaps, pauses)) => {
                let row = |id, title, samples| rows_of(id, title, Outcome::Measured(samples));
                rows.push(row(id.clone(), title, gaps));
                let title = "longest pause of the sender itself meanwhile".to_owned();
                rows.push(row(format!("{id}.sender"), title, pauses));
            }
            Err(error) => rows.push(rows_of(id, title, Outcome::NotMeasured(format!("{error:#}")))),
        }
    }
    Ok(rows)
}

fn rows_of(id: String, title: String, outcome: Outcome) -> Row {
    Row { id, title, unit: Unit::Milliseconds, outcome }
}

/// A wire from the third host to the right one, and the target's address there.
fn second_way(router: &Router) -> Result<()> {
    let (right, third) = (&router.right().ns, &router.third().ns);
    third.sysctl(&[("ipv4/ip_forward", "1"), ("ipv4/conf/all/rp_filter", "0")])?;
    third.ip_script(&format!(
        "link add toright index 61 type veth peer name tothird index 161 netns {right}
         addr add 10.9.9.1/30 dev toright
         link set toright up
         route add {TARGET_NET} via 10.9.9.2\n"
    ))?;
    right
        .ip_script("addr add 10.9.9.2/30 dev tothird\naddr add 60.1.1.1/32 dev lo\nlink set tothird up\n")?;
    let off = "0";
    third.sysctl(&[("ipv4/conf/eth0/rp_filter", off), ("ipv4/conf/toright/rp_filter", off)])?;
    right.sysctl(&[
        ("ipv4/conf/all/rp_filter", off),
        ("ipv4/conf/eth0/rp_filter", off),
        ("ipv4/conf/tothird/rp_filter", off),
    ])
}

/// Milliseconds per round: without packets, and longest pause of the sender.
fn measure(router: &Router, agent: &Agent, folder: &Path, routes: u32) -> Result<(Vec<f64>, Vec<f64>)> {
    let file = folder.join("routes.txt");
    fs::write(&file, table(router, routes)?)?;
    agent.cli(&["route", "import", &file.display().to_string()])?.succeeded()?;
    first_way(agent)?;
    let (mut gaps, mut pauses) = (Vec::new(), Vec::new());
    for _ in 0..if quick() { 2 } else { ROUNDS } {
        let (left, right) = (&router.left().ns, &router.right().ns);
        let stream = UdpStream::start(&StreamSpec::new(left, right, TARGET.into()).rate(RATE))?;
        stream.wait_for(LEAD, PATIENCE)?;
        let event = SystemTime::now();
        right.ip("link set dev eth0 down")?;
        let arrives = stream.wait_for(LEAD, PATIENCE).context("nothing came by the other way");
        let report = stream.stop();
        right.ip("link set dev eth0 up")?;
        arrives?;
        let report = report?;
        // What was lost before the cable was pulled is another matter.
        let lost = report.losses.iter().filter(|loss| loss.to > event);
        let gap = lost.map(|loss| loss.outage()).max().unwrap_or_default();
        gaps.push(gap.as_secs_f64() * 1e3);
        pauses.push(report.longest_sender_pause.as_secs_f64() * 1e3);
        first_way(agent)?;
    }
    Ok((gaps, pauses))
}

/// Waits until packets to the target leave by the first way.
fn first_way(agent: &Agent) -> Result<()> {
    eventually("the first way", PATIENCE, || {
        Ok(agent.json(&["route", "get", "60.1.1.1"])?["interface"] == "Port3")
    })
}

/// The target by both ways, the others by the one that is to fail.
fn table(router: &Router, routes: u32) -> Result<String> {
    let (right, third) = (router.right().address.v4, router.third().address.v4);
    let mut text = format!(
        "{TARGET_NET} via {right} dev Port3 metric 100\n{TARGET_NET} via {third} dev Port4 metric 200\n"
    );
    for number in 1..routes {
        let [_, a, b, c] = (number << 4).to_be_bytes();
        writeln!(text, "50.{a}.{b}.{c}/28 via {right} dev Port3 metric 100")?;
    }
    Ok(text)
}
