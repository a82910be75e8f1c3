//! The kernel's network changes faster, more often and more strangely than anybody planned.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, eventually},
    faults::{Census, KEPT, PATIENCE, RATE, await_equal, lost_nothing, seeded},
    traffic::UdpStream,
    transit::{ASIDE, BEYOND, Transit},
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Notifications that the kernel could not deliver to the process, over all its netlink sockets.
fn dropped(agent: &Agent) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/net/netlink", agent.pid()))?;
    // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
    let drops = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(8));
    drops.map(|word| Ok(word.parse::<u64>()?)).sum()
}

/// Routes of the compiled table whose prefix begins with this.
fn count(agent: &Agent, prefix: &str) -> Result<usize> {
    let all = agent.json(&["route", "list", "--all"])?;
    let all = all.as_array().context("no list")?.iter();
    let begins = |route: &&Value| route["destination"].as_str().is_some_and(|to| to.starts_with(prefix));
    Ok(all.filter(begins).count())
}

fn interface(agent: &Agent, alias: &str) -> Result<Value> {
    let status = agent.json(&["status"])?;
    let all = status["interfaces"].as_array().context("no interfaces")?;
    all.iter().find(|interface| interface["alias"] == alias).cloned().context("no such interface")
}

/// The agent is held up while 50 000 routes come and a link flaps: the kernel drops notifications,
/// and nothing is missing afterwards (R15).
#[test]
fn r15_lost_notifications_are_made_up_for() -> Result<()> {
    let transit = Transit::triple()?;
    transit.node.configure("failover: {holdTime: 100ms}\nlimits: {routes4: 200000}")?;
    let agent = transit.agent()?;
    let census = Census::of(&agent)?;
    let stream = UdpStream::start(&transit.spec_aside()?.rate(RATE))?;
    let routes = |action: &str| {
        (0..50_000_u32).fold(String::new(), |mut text, number| {
            let [_, a, b, c] = (number << 4).to_be_bytes();
            let _ = writeln!(text, "route {action} 60.{a}.{b}.{c}/28 via 10.0.3.2 dev eth2 proto static");
            text
        })
    };
    let pid = Pid::from_raw(i32::try_from(agent.pid())?);
    let ns = transit.router.ns();
    for (action, more) in [("add", 50_000), ("del", 0)] {
        let lost = dropped(&agent)?;
        kill(pid, Signal::SIGSTOP)?;
        // More than the socket has room for: there, back, and there again.
        let back = if action == "add" { "del" } else { "add" };
        let changed =
            [action, back, action, back, action].iter().try_for_each(|action| ns.ip_script(&routes(action)));
        let flap = "link set eth0 down\nlink set eth0 up\nroute add default via 10.0.2.1\n";
        let flapped = transit.router.right().ns.ip_script(flap);
        kill(pid, Signal::SIGCONT)?;
        changed.and(flapped)?;
        eventually("all of the kernel's routes to be known", PATIENCE, || Ok(count(&agent, "60.")? == more))
            .with_context(|| format!("{:?} are known", count(&agent, "60.")))?;
        agent.await_state(BEYOND, "Port3", "active")?;
        await_equal(&agent)?;
        let lost = dropped(&agent)? - lost;
        println!("MEASURED overrun, {action}: the kernel dropped {lost} notifications");
        ensure!(lost > 0, "nothing was dropped: this proves nothing");
    }
    lost_nothing("the path that nothing happened to", stream)?;
    // The whole of 50 000 routes was held three times over: told, compiled, installed.
    census.await_no_more(&agent, 160 << 10)
}

/// Hundreds of flaps of one NIC's carrier: its routes are right at the end, and the flow by the
/// other NIC loses nothing (R6, R14).
#[test]
fn r14_a_storm_of_link_flaps() -> Result<()> {
    let mut rng = seeded("flaps");
    let transit = Transit::triple()?;
    transit.node.configure("failover: {holdTime: 100ms}")?;
    let agent = transit.agent()?;
    let census = Census::of(&agent)?;
    let stream = UdpStream::start(&transit.spec_aside()?.rate(RATE))?;
    let right = &transit.router.right().ns;
    let mut flaps = 0;
    while flaps < 300 {
        let burst = rng.usize(1..60);
        right.ip_script(&"link set eth0 down\nlink set eth0 up\n".repeat(burst))?;
        flaps += burst;
        std::thread::sleep(std::time::Duration::from_millis(rng.u64(0..60)));
    }
    right.ip("link set eth0 down")?;
    agent.await_state(BEYOND, "Port3", "down")?;
    await_equal(&agent)?;
    right.ip_script("link set eth0 up\nroute add default via 10.0.2.1\n")?;
    agent.await_state(BEYOND, "Port3", "active")?;
    agent.await_state(ASIDE, "Port4", "active")?;
    await_equal(&agent)?;
    let report = lost_nothing("the path beside the storm", stream)?;
    println!("MEASURED {flaps} flaps: {} packets by the other NIC, none lost", report.sent);
    lost_nothing("the path after the storm", {
        let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
        stream.wait_for(1_000, PATIENCE)?;
        stream
    })?;
    census.await_no_more(&agent, 16 << 10)
}

/// A NIC changes its name and gets it back; then another device takes the name (R6).
#[test]
fn r6_a_nic_changes_its_name() -> Result<()> {
    let transit = Transit::triple()?;
    transit.node.configure("failover: {holdTime: 100ms}")?;
    let agent = transit.agent()?;
    let mut census = Census::of(&agent)?;
    let stream = UdpStream::start(&transit.spec_aside()?.rate(RATE))?;
    let ns = transit.router.ns();
    for round in 0..4 {
        ns.ip("link set eth1 name port9")?;
        agent.await_state(BEYOND, "Port3", "pending")?;
        await_equal(&agent)?;
        eventually("the programs to leave", PATIENCE, || {
            Ok(Census::of(&agent)?.pinned.len() < census.pinned.len())
        })?;
        ns.ip("link set port9 name eth1")?;
        agent.await_state(BEYOND, "Port3", "active")?;
        await_equal(&agent)?;
        eventually("the programs to return", PATIENCE, || {
            let port = interface(&agent, "Port3")?;
            Ok(port["xdp"] == "native" && port["tc"] == true)
        })?;
        let now = Census::of(&agent)?;
        println!("round {round}: {} KiB resident", now.resident);
        // The first load of a program beside the work takes memory that is kept for the next.
        if round == 0 {
            census = now;
        }
    }
    lost_nothing("the path beside the rename", stream)?;
    ensure!(Census::of(&agent)?.pinned == census.pinned, "{:?}", Census::of(&agent)?);
    let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
    stream.wait_for(1_000, PATIENCE)?;
    lost_nothing("the renamed path", stream)?;
    census.await_no_more(&agent, 8 << 10)
}

/// A NIC is deleted and made again under its name, with another index, again and again; nothing
/// of its predecessors is left (X2).
#[test]
fn x2_a_nic_is_made_again_and_again() -> Result<()> {
    let mut rng = seeded("recreate");
    let transit = Transit::triple()?;
    transit.node.configure("failover: {holdTime: 100ms}")?;
    let agent = transit.agent()?;
    let census = Census::of(&agent)?;
    let stream = UdpStream::start(&transit.spec_aside()?.rate(RATE))?;
    let (ns, right) = (transit.router.ns(), &transit.router.right().ns);
    for round in 0..6 {
        let (index, peer) = (200 + 10 * round, 300 + 10 * round);
        ns.ip("link del eth1")?;
        // Now and then the agent does not even see that it was gone.
        if rng.bool() {
            agent.await_state(BEYOND, "Port3", "pending")?;
        }
        ns.ip_script(&format!(
            "link add eth1 index {index} type veth peer name eth0 index {peer} netns {right}
             addr add 10.0.2.1/24 dev eth1
             link set eth1 up\n"
        ))?;
        right
            .ip_script("addr add 10.0.2.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.0.2.1\n")?;
        netroute_tests::lab::as_a_wire(right, &["eth0"])?;
        eventually("programs on the new NIC", PATIENCE, || {
            let port = interface(&agent, "Port3")?;
            Ok(port["ifindex"] == index && port["xdp"] == "native" && port["tc"] == true)
        })?;
        agent.await_state(BEYOND, "Port3", "active")?;
        await_equal(&agent)?;
    }
    lost_nothing("the path beside the new NICs", stream)?;
    let stream = UdpStream::start(&transit.spec()?.rate(RATE))?;
    stream.wait_for(1_000, PATIENCE)?;
    lost_nothing("the path over the new NIC", stream)?;
    let now = Census::of(&agent)?;
    ensure!(now.pinned.len() == census.pinned.len(), "{:?} before, {:?} now", census.pinned, now.pinned);
    census.await_no_more(&agent, KEPT)
}
