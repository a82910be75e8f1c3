//! The main job on real packets: cameras by Port3, everything else by Port2 (R2, R8, R10, R13).

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, eventually, inside},
    appliance::{Appliance, CAMERAS},
    capture::{Counters, Tcpdump},
    lab::plan,
    netns::Netns,
    traffic::{http_get, ping, rtsp_options},
};
use serde_json::Value;

const ADD: &str = r#"netroute Add-HcsNetRoute -InterfaceAlias "Port3" -DestinationPrefix "192.168.20.0/24" -NextHop "192.168.20.1" -RouteMetric 100"#;
const GET: &str = "netroute Get-HcsNetRoute -InterfaceAlias Port3";
const REMOVE: &str = "netroute Remove-HcsNetRoute -InterfaceAlias Port3 -DestinationPrefix 192.168.20.0/24";
const CAMERAS6: &str = "fd20::/64";
const TIMEOUT: Duration = Duration::from_secs(3);
const PACKETS: u64 = 40;
/// ARP, neighbour discovery and the like beside the packets that are counted.
const STRAY: u64 = 12;

struct Scene {
    on: Appliance,
    agent: Agent,
}

impl Scene {
    fn new() -> Result<Self> {
        let on = Appliance::new()?;
        let agent = Agent::start(&on.vm)?;
        Ok(Self { on, agent })
    }

    fn with_cameras() -> Result<Self> {
        let scene = Self::new()?;
        scene.agent.node.typed(ADD)?.succeeded()?;
        let v6 = ["route", "add", CAMERAS6, "--via", "fd20::1", "--dev", "Port3", "--metric", "100"];
        scene.agent.cli(&v6)?.succeeded()?;
        scene.agent.await_state(CAMERAS, "Port3", "active")?;
        scene.agent.await_state(CAMERAS6, "Port3", "active")?;
        Ok(scene)
    }

    /// Sent by Port2 and Port3 as the VM's NICs count, then as the switches do.
    fn counters(&self) -> Result<[u64; 4]> {
        let [two, three] = plan::PORTS.map(|alias| self.on.vm.port(alias));
        Ok([
            Counters::read(self.on.vm.ns(), two.device)?.tx_packets,
            Counters::read(self.on.vm.ns(), three.device)?.tx_packets,
            Counters::read(&two.switch, two.switch_device)?.rx_packets,
            Counters::read(&three.switch, three.switch_device)?.rx_packets,
        ])
    }

    /// Pings and says how many packets went by [Port2, Port3], which both ends must agree on.
    fn ports_of(&self, from: &Netns, to: IpAddr) -> Result<[u64; 2]> {
        let before = self.counters()?;
        let count = PACKETS.to_string();
        let ping = ping(from, to, &["-c", &count, "-i", "0.01", "-q"])?;
        let after = self.counters()?;
        ensure!(u64::from(ping.received) == PACKETS, "{from} to {to}: {}", ping.output);
        let [nic2, nic3, switch2, switch3] = std::array::from_fn(|at| after[at] - before[at]);
        for (nic, switch) in [(nic2, switch2), (nic3, switch3)] {
            ensure!(nic.abs_diff(switch) <= STRAY, "the NIC sent {nic}, the switch received {switch}");
        }
        Ok([nic2, nic3])
    }
}

/// The line of the appliance's manual, pasted; its Get and its Remove (R7, R8).
#[test]
fn r7_r8_the_cmdlet_lines_work_as_they_are() -> Result<()> {
    let scene = Scene::new()?;
    let node = &scene.agent.node;
    node.typed(ADD)?.succeeded()?;
    let shown = node.typed(GET)?.succeeded()?;
    for (name, value) in [
        ("InterfaceAlias", "Port3"),
        ("DestinationPrefix", CAMERAS),
        ("NextHop", "192.168.20.1"),
        ("RouteMetric", "100"),
    ] {
        let line =
            |line: &str| line.split_once(':').is_some_and(|(n, v)| (n.trim(), v.trim()) == (name, value));
        ensure!(shown.lines().any(line), "no `{name} : {value}` in\n{shown}");
    }
    node.typed(REMOVE)?.succeeded()?;
    ensure!(node.typed(GET)?.succeeded()?.trim().is_empty());
    let refusal = node.typed(REMOVE)?.refused(1)?;
    ensure!(refusal.contains(CAMERAS) && refusal.contains("Port3"), "{refusal}");
    ensure!(scene.agent.routes()?.is_empty());
    Ok(())
}

/// Each packet on its port, counted by both ends, and by the route itself (R2).
#[test]
fn r2_cameras_by_port3_and_internet_by_port2() -> Result<()> {
    let scene = Scene::with_cameras()?;
    let pod = scene.on.vm.pods().remove(0);
    for (from, is_pod) in [(&pod.ns, true), (scene.on.vm.ns(), false)] {
        for (to, by) in [plan::CAMERA, plan::INTERNET]
            .iter()
            .zip([1, 0])
            .flat_map(|(server, by)| server.both().map(|address| (address, by)))
        {
            let fast = scene.agent.verdict("tc-pod", "forwarded")?;
            let sent = scene.ports_of(from, to)?;
            ensure!(sent[by] >= PACKETS && sent[1 - by] <= STRAY, "{from} to {to}: {sent:?}");
            let fast = scene.agent.verdict("tc-pod", "forwarded")? - fast;
            ensure!(fast == 0 || is_pod, "{fast} packets of the VM itself counted as a pod's");
            ensure!(fast >= PACKETS || !is_pod, "only {fast} of {PACKETS} packets took the fast path");
        }
        for (camera, internet) in plan::CAMERA.both().into_iter().zip(plan::INTERNET.both()) {
            let seen = rtsp_options(from, camera, TIMEOUT)?.ip();
            let own = if is_pod { pod.address } else { scene.on.vm.port("Port3").address };
            ensure!(own.both().contains(&seen), "the camera saw {seen}");
            let seen = http_get(from, internet, TIMEOUT)?.ip();
            ensure!(plan::UPLINK.both().contains(&seen), "the internet server saw {seen}");
        }
    }
    for route in scene.agent.routes()? {
        let packets = route["packets"].as_u64().context("no packets")?;
        ensure!((PACKETS..4 * PACKETS).contains(&packets), "of the pod alone: {route:#}");
        ensure!(route["bytes"].as_u64().is_some_and(|bytes| bytes >= packets * 84), "{route:#}");
    }
    Ok(())
}

/// One hop is one, in the fast path as in the kernel, and traceroute sees it (R10).
#[test]
fn r10_every_hop_takes_one_off_the_ttl() -> Result<()> {
    let scene = Scene::with_cameras()?;
    let pod = scene.on.vm.pods().remove(0);
    let port3 = scene.on.vm.port("Port3");
    for (camera, filter) in
        plan::CAMERA.both().into_iter().zip(["icmp[icmptype] == icmp-echo", "icmp6 and ip6[40] == 128"])
    {
        let switch = Tcpdump::start(&port3.switch, port3.switch_device, filter)?;
        let at_camera = Tcpdump::start(&scene.on.lab.ns("cam"), "eth0", filter)?;
        let fast = scene.agent.verdict("tc-pod", "forwarded")?;
        ensure!(ping(&pod.ns, camera, &["-c", "3", "-i", "0.05", "-t", "64"])?.received == 3);
        ensure!(scene.agent.verdict("tc-pod", "forwarded")? >= fast + 3);
        for (dump, ttl) in [(switch, 63), (at_camera, 62)] {
            let frames = dump.wait_for(3, TIMEOUT)?;
            ensure!(frames.iter().all(|frame| frame.ttl == Some(ttl)), "not {ttl}: {frames:#?}");
        }
        let expired = scene.agent.verdict("tc-pod", "ttl-expired")?;
        let hops = ["1", "2", "3"].map(|ttl| ping(&pod.ns, camera, &["-c", "1", "-t", ttl]));
        let [first, second, third] = hops;
        let (first, second, third) = (first?, second?, third?);
        let who = |output: &str| {
            let line = output.lines().find(|line| {
                let line = line.to_lowercase();
                line.contains("time to live exceeded") || line.contains("hop limit")
            })?;
            Some(line.split_whitespace().nth(1)?.to_owned())
        };
        let (vm, gateway) = (who(&first.output), who(&second.output));
        ensure!(vm.is_some() && gateway.is_some() && vm != gateway, "{}\n{}", first.output, second.output);
        ensure!(third.answered(), "{}", third.output);
        ensure!(scene.agent.verdict("tc-pod", "ttl-expired")? == expired + 1);
    }
    Ok(())
}

/// What `ip` and `bpftool` show: the routes are in the kernel too, and the trie has names (R13).
#[test]
fn r13_the_kernel_and_bpftool_show_the_routes() -> Result<()> {
    let scene = Scene::with_cameras()?;
    let ns = scene.on.vm.ns();
    let kernel = |family: &str| inside(ns, &["ip", family, "route", "show", "proto", "78"]);
    eventually("the kernel to have the routes", TIMEOUT, || {
        Ok(!kernel("-4")?.is_empty() && !kernel("-6")?.is_empty())
    })?;
    for (family, words) in [
        ("-4", ["192.168.20.0/24", "via 192.168.20.1", "dev eth1", "metric 100"]),
        ("-6", ["fd20::/64", "via fd20::1", "dev eth1", "metric 100"]),
    ] {
        let shown = kernel(family)?;
        ensure!(shown.lines().count() == 1 && words.iter().all(|word| shown.contains(word)), "{shown}");
    }
    let map = scene.agent.node.bpffs.join("v4/maps/ROUTES4").display().to_string();
    let dump: Value = serde_json::from_str(&inside(ns, &["bpftool", "map", "dump", "pinned", &map, "-j"])?)?;
    let entries = dump.as_array().context("no entries")?;
    let found = entries.iter().map(|entry| entry.get("formatted").unwrap_or(entry)).find(|entry| {
        entry["key"]["prefix_len"] == 24
            && entry["key"]["data"]["address"] == serde_json::json!([192, 168, 20, 0])
    });
    let value = &found.with_context(|| format!("192.168.20.0/24 is not in {dump:#}"))?["value"];
    ensure!(value["group"].is_u64() && value["stats"].is_u64(), "{value:#}");
    ensure!(scene.agent.json(&["diff"])?["lines"] == serde_json::json!([]));
    Ok(())
}

/// System routes only where they are asked for (R8), and removal leaves nothing (R7, R13).
#[test]
fn r8_listing_shows_custom_routes_only() -> Result<()> {
    let scene = Scene::with_cameras()?;
    let routes = scene.agent.routes()?;
    let mut shown: Vec<_> = routes.iter().filter_map(|route| route["destination"].as_str()).collect();
    shown.sort_unstable();
    ensure!(shown == [CAMERAS, CAMERAS6], "{routes:#?}");
    let all = scene.agent.json(&["route", "list", "--all"])?;
    let all = all.as_array().context("no list")?;
    let origin = |destination: &str| {
        all.iter().find(|route| route["destination"] == destination).map(|route| route["origin"].clone())
    };
    ensure!(origin("0.0.0.0/0") == Some("kernel".into()), "{all:#?}");
    ensure!(origin("10.128.44.0/24") == Some("kernel".into()), "{all:#?}");
    ensure!(origin(CAMERAS) == Some("cli".into()), "{all:#?}");
    scene.agent.node.typed(REMOVE)?.succeeded()?;
    scene.agent.cli(&["route", "remove", CAMERAS6, "--dev", "Port3"])?.succeeded()?;
    eventually("the kernel to forget the routes", TIMEOUT, || {
        let left = |family| inside(scene.on.vm.ns(), &["ip", family, "route", "show", "proto", "78"]);
        Ok(left("-4")?.is_empty() && left("-6")?.is_empty())
    })?;
    let [before, _, _, _] = scene.counters()?;
    // The provider refuses private destinations: that answer came by Port2.
    let refused = ping(&scene.on.vm.pods()[0].ns, plan::CAMERA.v4.into(), &["-c", "1"])?;
    ensure!(!refused.answered() && scene.counters()?[0] > before, "{}", refused.output);
    ensure!(scene.agent.json(&["diff"])?["lines"] == serde_json::json!([]));
    Ok(())
}
