//! Next hops fail, and traffic moves by itself and returns (R6, R14).

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, eventually},
    appliance::{Appliance, CAMERAS},
    capture::Counters,
    lab::plan,
    patience::patient,
    traffic::{StreamReport, StreamSpec, UdpStream},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// What the product promises on a machine that is not busy otherwise.
const TARGET_GAP: Duration = Duration::from_millis(10);
/// What holds also where other programs compete for the processor.
const BOUND: Duration = Duration::from_millis(50);
const RATE: u32 = 5_000;

/// A camera network that both ports lead to: by Port3 as it is, by Port2 over a wire of its own
/// between the internal switch and the camera gateway.
struct Scene {
    on: Appliance,
    agent: Agent,
}

impl Scene {
    fn new() -> Result<Self> {
        let on = Appliance::new()?;
        let (intsw, camgw) = (on.lab.ns("intsw"), on.lab.ns("camgw"));
        intsw.ip_script(&format!(
            "link add tocam index 60 type veth peer name toint index 160 netns {camgw}
             addr add 10.77.0.1/30 dev tocam
             link set tocam up\n"
        ))?;
        camgw.ip_script("addr add 10.77.0.2/30 dev toint\nlink set toint up\n")?;
        intsw.ip("route add 192.168.20.0/24 via 10.77.0.2")?;
        // Neighbours are looked after in seconds, not in half minutes.
        on.vm.ns().sysctl(&[
            ("ipv4/neigh/eth1/base_reachable_time_ms", "1000"),
            ("ipv4/neigh/eth1/delay_first_probe_time", "1"),
            ("ipv4/neigh/eth1/retrans_time_ms", "200"),
        ])?;
        // Of managed entries, and as young as they are.
        if Path::new("/proc/sys/net/ipv4/neigh/default/interval_probe_time_ms").exists() {
            on.vm.ns().sysctl(&[("ipv4/neigh/eth1/interval_probe_time_ms", "1000")])?;
        }
        let node = netroute_tests::agent::Node::from(&on.vm);
        node.configure("failover: {holdTime: 1s}")?;
        let agent = Agent::start(node)?;
        for (dev, via, metric) in [("Port3", "192.168.20.1", "100"), ("Port2", "10.128.44.1", "200")] {
            let add = ["route", "add", CAMERAS, "--via", via, "--dev", dev, "--metric", metric];
            agent.cli(&add)?.succeeded()?;
        }
        agent.await_state(CAMERAS, "Port3", "active")?;
        agent.await_state(CAMERAS, "Port2", "standby")?;
        Ok(Self { on, agent })
    }

    fn stream(&self) -> Result<UdpStream> {
        let pod = self.on.vm.pods().remove(0);
        let target = (plan::CAMERA.v4, 7100).into();
        UdpStream::start(&StreamSpec::new(&pod.ns, &self.on.lab.ns("cam"), target).rate(RATE))
    }

    /// Packets that the switch of a port has received from the VM.
    fn arrived(&self, alias: &str) -> Result<u64> {
        let port = self.on.vm.port(alias);
        Ok(Counters::read(&port.switch, port.switch_device)?.rx_packets)
    }

    /// Waits until `count` more packets have come by a port.
    fn await_traffic(&self, alias: &str, count: u64) -> Result<()> {
        let before = self.arrived(alias)?;
        eventually(&format!("{count} packets by {alias}"), PATIENCE, || {
            Ok(self.arrived(alias)? >= before + count)
        })
    }

    /// Waits until the maps send camera traffic by a port.
    fn await_decision(&self, alias: &str) -> Result<()> {
        eventually(&format!("cameras by {alias}"), PATIENCE, || {
            Ok(self.agent.json(&["route", "get", "192.168.20.50"])?["interface"] == alias)
        })
    }

    fn moved_to_port2(&self) -> Result<()> {
        self.await_traffic("Port2", 500)?;
        self.agent.await_state(CAMERAS, "Port2", "active")?;
        self.agent.await_state(CAMERAS, "Port3", "down")
    }

    fn back_on_port3(&self) -> Result<()> {
        self.agent.await_state(CAMERAS, "Port3", "active")?;
        self.await_traffic("Port3", 500)?;
        let by_port2 = self.arrived("Port2")?;
        self.await_traffic("Port3", 500)?;
        let stray = self.arrived("Port2")? - by_port2;
        ensure!(stray < 50, "{stray} packets still by Port2");
        self.agent.await_state(CAMERAS, "Port2", "standby")
    }
}

/// From the event to the first packet on the other path. Before the event nothing was lost, so
/// that the one outage is the failure's.
fn gap(report: &StreamReport, event: SystemTime) -> Result<Duration> {
    let loss = report.losses.iter().find(|loss| loss.to > event).with_context(|| format!("{report}"))?;
    Ok(loss.to.duration_since(event)?)
}

/// Carrier loss under traffic; return after plug and hold time (R6, R14).
#[test]
fn r6_r14_a_cable_is_pulled_and_put_back() -> Result<()> {
    let scene = Scene::new()?;
    let stream = scene.stream()?;
    scene.await_traffic("Port3", 500)?;
    let event = SystemTime::now();
    scene.on.vm.unplug("Port3")?;
    let pulled = SystemTime::now();
    scene.moved_to_port2()?;
    let report = stream.stop()?;
    // Between these two times the carrier went, and no earlier loss can be meant.
    let gap = if report.lost == 0 { Duration::ZERO } else { gap(&report, event)? };
    let since_pulled = gap.saturating_sub(pulled.duration_since(event)?);
    println!(
        "failover: {gap:?} from before the cable was pulled, {since_pulled:?} after `ip` returned \
         (target {TARGET_GAP:?}, {}), sender pause {:?}; {report}",
        if gap <= TARGET_GAP { "met" } else { "not met" },
        report.longest_sender_pause
    );
    let excuse = report.longest_sender_pause;
    ensure!(since_pulled <= patient(BOUND) + excuse, "the gap was {since_pulled:?}: {report}");

    let stream = scene.stream()?;
    let plugged = Instant::now();
    scene.on.vm.plug("Port3")?;
    scene.back_on_port3()?;
    ensure!(plugged.elapsed() >= Duration::from_secs(1), "back before the hold time was over");
    let report = stream.stop()?;
    println!("return: {report}");
    ensure!(report.lost == 0, "the return lost packets: {report}");
    ensure!(scene.agent.json(&["diff"])?["lines"] == serde_json::json!([]));
    Ok(())
}

/// The gateway is silent though the cable is in (R14).
#[test]
fn r14_a_silent_neighbour_moves_the_traffic() -> Result<()> {
    let scene = Scene::new()?;
    let stream = scene.stream()?;
    scene.await_traffic("Port3", 500)?;
    let switch = scene.on.lab.ns("extsw");
    switch.ip("link set dev camgw down")?;
    scene.moved_to_port2()?;
    switch.ip("link set dev camgw up")?;
    scene.back_on_port3()?;
    drop(stream.stop()?);
    Ok(())
}

/// An interface without an address cannot speak to its next hop (R14, R15).
#[test]
fn r15_a_lost_address_moves_the_traffic() -> Result<()> {
    let scene = Scene::new()?;
    let stream = scene.stream()?;
    scene.await_traffic("Port3", 500)?;
    scene.on.vm.ns().ip("addr del 172.16.3.11/24 dev eth1")?;
    scene.await_traffic("Port2", 500)?;
    scene.agent.await_state(CAMERAS, "Port2", "active")?;
    scene.on.vm.ns().ip("addr add 172.16.3.11/24 dev eth1")?;
    scene.back_on_port3()?;
    drop(stream.stop()?);
    Ok(())
}

/// However many routes share a next hop, its failure is one write (R14).
#[test]
fn r14_one_write_whatever_the_number_of_routes() -> Result<()> {
    let scene = Scene::new()?;
    let file = scene.on.vm.dir().join("routes.txt");
    for count in [1_u32, 1_000, 100_000] {
        let mut text = String::new();
        for number in 0..count - 1 {
            let [_, a, b, c] = (number << 4).to_be_bytes();
            for (dev, via, metric) in [("Port3", "192.168.20.1", 100), ("Port2", "10.128.44.1", 200)] {
                // 100k prefixes once each; a second metric for the first thousand.
                if dev == "Port3" || number < 1_000 {
                    writeln!(text, "50.{a}.{b}.{c}/28 via {via} dev {dev} metric {metric}")?;
                }
            }
        }
        fs::write(&file, text)?;
        let begin = Instant::now();
        scene.agent.cli(&["route", "import", &file.display().to_string()])?.succeeded()?;
        println!("{count} routes imported in {:?}", begin.elapsed());
        scene.await_decision("Port3")?;
        await_quiet(&scene.agent)?;
        let writes = scene.agent.metric("netroute_map_writes_total")?;
        let failed = failovers(&scene.agent)?;
        scene.on.vm.unplug("Port3")?;
        scene.await_decision("Port2")?;
        // The compilation that follows knows all of them as down, and had nothing to write.
        eventually("all routes to be down", PATIENCE, || Ok(down(&scene.agent)? == u64::from(count)))?;
        let writes = scene.agent.metric("netroute_map_writes_total")? - writes;
        let failed = failovers(&scene.agent)? - failed;
        println!("{count} routes: {failed} next hop down, {writes} map writes");
        scene.on.vm.plug("Port3")?;
        scene.await_decision("Port3")?;
        ensure!(failed == 1 && writes == 1, "{count} routes: {failed} next hops, {writes} writes");
    }
    Ok(())
}

/// Waits until the agent has applied nothing for a second.
fn await_quiet(agent: &Agent) -> Result<()> {
    eventually("the agent to be quiet", PATIENCE, || {
        Ok(agent.json(&["status"])?["lastApply"]["secondsAgo"].as_u64().is_some_and(|ago| ago >= 1))
    })
}

fn down(agent: &Agent) -> Result<u64> {
    agent.json(&["status"])?["counts"]["down"].as_u64().context("no number of routes that are down")
}

fn failovers(agent: &Agent) -> Result<u64> {
    agent.json(&["status"])?["counts"]["failovers"].as_u64().context("no failovers")
}
