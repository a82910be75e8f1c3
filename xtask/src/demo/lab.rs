//! The main job: camera routes by cmdlet on both VMs of a fresh lab, judged by what the packets did.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netroute_tests::app::BALANCER;
use netroute_tests::lab::{self, Lab, plan};
use netroute_tests::traffic::Target;
use serde_json::Value;

use super::agent::{Agent, Starting};
use super::app;
use super::checks::Checks;
use super::egress;
use super::flow::{self, DATAGRAMS, Flow, Seen};
use super::show::{self, Row};
use crate::lab::enter;
use crate::paths::Paths;
use crate::process;

const METRIC: &str = "100";

/// Packets that are not of a flow but may fall between two readings: ARP, neighbour discovery.
const STRAY: u64 = 10;
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How often the state of routes is asked for.
pub const LOOK: Duration = Duration::from_millis(20);

pub fn run(paths: &Paths, program: &Path, name: &str) -> Result<()> {
    lab::down(name)?;
    let lab = Lab::up(name)?;
    show::heading(&format!("The lab: two VMs with two pods each (prefix {name})"));
    println!("{}", show::PICTURE);
    if !lab.serve_sockets()? {
        println!(
            "No control groups of version 2 are mounted here: the VMs' own processes do not ask Services."
        );
    }

    let starting: Vec<_> =
        lab.vms().into_iter().map(|vm| Starting::begin(program, vm)).collect::<Result<_>>()?;
    let mut agents: Vec<_> = starting.into_iter().map(Starting::ready).collect::<Result<_>>()?;
    for agent in &agents {
        println!("{}: agent ready, log {}", agent.vm.name(), agent.vm.log().display());
    }

    let shown = demonstrate(&lab, &mut agents);
    show::heading("The lab is left up");
    let socket = agents[0].vm.socket();
    let netroute = format!("{} --socket {}", paths.shown(program), socket.display());
    println!("  {netroute} route list");
    println!("  {netroute} egress list");
    println!("  {netroute} drops --watch");
    println!("  {} ping -c 3 {}", enter_pod(&agents[0]), plan::CAMERA.v4);
    let outside = lab.ns("intsw").path();
    println!("  nsenter --net={} curl http://{}/", outside.display(), BALANCER.v4);
    println!("take it down:\n  cargo xtask lab down --name {name}");
    shown
}

fn demonstrate(lab: &Lab, agents: &mut [Agent]) -> Result<()> {
    let flows = flow::all(lab);
    show::heading(&format!("Traffic before: a TCP request and {DATAGRAMS} UDP datagrams each"));
    let before = observe(lab, &flows)?;
    println!("{} flows, each by IPv4 and IPv6 from VMs and pods to camera and internet server", flows.len());

    show::heading("The camera routes, on both VMs");
    let mut checks = Checks::default();
    agents.iter().try_for_each(add_routes)?;
    agents.iter().try_for_each(await_active)?;

    show::heading("Traffic after");
    let baseline = agents.iter().map(Numbers::read).collect::<Result<Vec<_>>>()?;
    let after = observe(lab, &flows)?;
    let rows = flows
        .iter()
        .zip(before.iter().zip(&after))
        .map(|(flow, (before, after))| {
            let agent = agent_of(agents, flow)?;
            let decided = agent.json(&["route", "get", &flow.to.to_string()])?;
            Ok(Row { flow, before, after, decided })
        })
        .collect::<Result<Vec<_>>>()?;
    show::table(&rows);

    let [first, ..] = &*agents else { bail!("the lab has no VM") };
    show::heading(&format!("What the agent of {} says", first.vm.name()));
    println!("$ netroute Get-HcsNetRoute -InterfaceAlias Port3\n{}\n", first.text(&get_cmdlet())?);
    println!("$ netroute route list\n{}\n", first.text(&["route", "list"])?);
    println!("$ netroute nexthop list\n{}", first.text(&["nexthop", "list"])?);
    show::heading(&format!("What the kernel of {} holds", first.vm.name()));
    let dump = dump(first)?;
    println!("{dump}");

    show::heading("Expectations");
    expect_before(&mut checks, &rows);
    expect_after(&mut checks, &rows);
    for (agent, baseline) in agents.iter().zip(&baseline) {
        expect_numbers(&mut checks, agent, &rows, baseline)?;
    }
    let named = dump.contains("\"prefix_len\": 24") && dump.contains("192,168,20,0");
    checks.expect(named, "the route trie names its fields", "prefix_len 24, address [192,168,20,0]");
    app::demonstrate(lab, agents, &mut checks)?;
    egress::demonstrate(lab, agents, &mut checks)?;
    show::heading("In all");
    checks.conclude()
}

fn observe(lab: &Lab, flows: &[Flow]) -> Result<Vec<Seen>> {
    flows.iter().map(|flow| flow.run(lab).with_context(|| format!("{} to {}", flow.from, flow.to))).collect()
}

fn agent_of<'a>(agents: &'a [Agent], flow: &Flow) -> Result<&'a Agent> {
    let found = agents.iter().find(|agent| agent.vm.name() == flow.vm.name());
    found.with_context(|| format!("no agent in {}", flow.vm.name()))
}

/// The appliance's own cmdlet, as its operator types it.
fn add_routes(agent: &Agent) -> Result<()> {
    for (network, gateway) in plan::CAMERA_NETWORK.into_iter().zip(plan::CAMERA_GATEWAY.both()) {
        let gateway = gateway.to_string();
        println!(
            "{}$ netroute Add-HcsNetRoute -InterfaceAlias \"Port3\" -DestinationPrefix \"{network}\" \
             -NextHop \"{gateway}\" -RouteMetric {METRIC}",
            agent.vm.name()
        );
        println!(
            "  {}",
            agent.text(&[
                "Add-HcsNetRoute",
                "-InterfaceAlias",
                "Port3",
                "-DestinationPrefix",
                network,
                "-NextHop",
                &gateway,
                "-RouteMetric",
                METRIC,
            ])?
        );
    }
    Ok(())
}

/// A new route is pending until its next hop has told its MAC.
fn await_active(agent: &Agent) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let routes = Numbers::list(agent, &["route", "list"])?;
        if routes.iter().all(|route| route["state"] == "active") {
            println!("{}: {} routes active", agent.vm.name(), routes.len());
            return Ok(());
        }
        if Instant::now() > deadline {
            let list = agent.text(&["route", "list"])?;
            bail!("{}: not all routes are active after {PATIENCE:?}:\n{list}", agent.vm.name());
        }
        thread::sleep(LOOK);
    }
}

fn get_cmdlet() -> [&'static str; 3] {
    ["Get-HcsNetRoute", "-InterfaceAlias", "Port3"]
}

/// The entry of the camera network as `bpftool` prints it.
fn dump(agent: &Agent) -> Result<String> {
    let map = agent.vm.bpffs().join("v4/maps/ROUTES4");
    let mut bpftool = Command::new(process::find("bpftool").context("bpftool is not installed")?);
    bpftool.args(["map", "dump", "pinned"]).arg(&map);
    let text = process::read(&mut bpftool)?;
    let Some(entry) = show::entry(&text, "192,168,20,0") else {
        bail!("{} has no entry of 192.168.20.0/24:\n{text}", map.display());
    };
    Ok(format!("$ {}\n{entry}", process::shown(&bpftool)))
}

fn expect_before(checks: &mut Checks, rows: &[Row<'_>]) {
    let (camera, internet) = split(rows);
    let refused = camera.iter().filter(|row| row.before.echoed == 0 && row.before.request.is_err()).count();
    let port2 = camera.iter().filter(|row| row.before.port() == Some(0)).count();
    checks.expect(
        refused == camera.len() && port2 == camera.len(),
        "before, cameras are out of reach and asked for by Port2",
        &format!("{refused} unanswered, {port2} by Port2, of {}", camera.len()),
    );
    let answered =
        internet.iter().filter(|row| row.before.answered() && row.before.port() == Some(0)).count();
    checks.expect(
        answered == internet.len(),
        "before, the internet server answers by Port2",
        &format!("{answered} of {}", internet.len()),
    );
}

fn expect_after(checks: &mut Checks, rows: &[Row<'_>]) {
    let (camera, internet) = split(rows);
    for (rows, port, name) in [
        (&camera, 1, "after, the camera answers by Port3"),
        (&internet, 0, "after, the internet server answers by Port2"),
    ] {
        let good = rows.iter().filter(|row| row.after.answered() && row.after.port() == Some(port)).count();
        checks.expect(good == rows.len(), name, &format!("{good} of {} flows", rows.len()));
        let sum = |of: &dyn Fn(&Seen) -> u64| rows.iter().map(|row| of(row.after)).sum::<u64>();
        let (nic, switch, server) = (sum(&|s| s.nic[port]), sum(&|s| s.switch[port]), sum(&|s| s.server));
        let sent = sum(&|seen| seen.sent);
        let stray = STRAY * rows.len() as u64;
        checks.expect(
            sent > 0 && server >= sent && nic >= sent && nic.abs_diff(switch) <= stray,
            "both ends count the same packets",
            &format!("{sent} datagrams; NICs sent {nic}, switch got {switch}, server {server}"),
        );
        let other = sum(&|seen| seen.nic[1 - port]);
        checks.expect(
            other <= stray,
            "nothing of it left by the other port",
            &format!("{other} packets by {}, all flows together", plan::PORTS[1 - port]),
        );
        let clients = rows.iter().filter(|row| row.client_is_right()).count();
        let whose = if port == 1 { "the sender's own address" } else { "the uplink's address" };
        checks.expect(
            clients == rows.len(),
            &format!("the server saw {whose}"),
            &format!("{clients} of {}", rows.len()),
        );
    }
    let agree = rows.iter().filter(|row| row.decision_is_right()).count();
    checks.expect(
        agree == rows.len(),
        "`route get` names the port that the packets took",
        &format!("{agree} of {}", rows.len()),
    );
}

fn split<'a, 'b>(rows: &'b [Row<'a>]) -> (Vec<&'b Row<'a>>, Vec<&'b Row<'a>>) {
    rows.iter().partition(|row| row.flow.server == Target::Camera)
}

/// What the programs have counted so far.
struct Numbers {
    routes: Vec<Value>,
    next_hops: Vec<Value>,
    verdicts: Vec<Value>,
}

impl Numbers {
    fn read(agent: &Agent) -> Result<Self> {
        Ok(Self {
            routes: Self::list(agent, &["route", "list"])?,
            next_hops: Self::list(agent, &["nexthop", "list"])?,
            verdicts: Self::list(agent, &["drops"])?,
        })
    }

    fn list(agent: &Agent, arguments: &[&str]) -> Result<Vec<Value>> {
        let value = agent.json(arguments)?;
        value.as_array().cloned().with_context(|| format!("`{}` printed no list", arguments.join(" ")))
    }

    fn forwarded(&self, hook: &str) -> u64 {
        packets(&self.verdicts, &[("hook", hook), ("reason", "forwarded")])
    }
}

/// Packets of the entries that have these values.
fn packets(list: &[Value], values: &[(&str, &str)]) -> u64 {
    let fits = |entry: &&Value| values.iter().all(|(key, value)| entry[key].as_str() == Some(value));
    list.iter().filter(fits).filter_map(|entry| entry["packets"].as_u64()).sum()
}

fn expect_numbers(checks: &mut Checks, agent: &Agent, rows: &[Row<'_>], before: &Numbers) -> Result<()> {
    let vm = agent.vm.name();
    let after = Numbers::read(agent)?;
    // What a VM itself sends takes the kernel's copy of the route; the programs count the pods'.
    let of_pods = |row: &&Row<'_>| row.flow.is_pod && row.flow.vm.name() == vm;
    for (network, gateway) in plan::CAMERA_NETWORK.into_iter().zip(plan::CAMERA_GATEWAY.both()) {
        let to_cameras =
            |row: &&Row<'_>| row.flow.server == Target::Camera && row.flow.to.is_ipv4() == gateway.is_ipv4();
        let sent: u64 = rows.iter().filter(of_pods).filter(to_cameras).map(|row| row.after.sent).sum();
        let gateway = gateway.to_string();
        let count = |numbers: &Numbers| {
            let route = packets(&numbers.routes, &[("destination", network), ("interface", "Port3")]);
            (route, packets(&numbers.next_hops, &[("address", &gateway), ("interface", "Port3")]))
        };
        let ((route, hop), (route_before, hop_before)) = (count(&after), count(before));
        let (route, hop) = (route - route_before, hop - hop_before);
        checks.expect(
            sent > 0 && route >= sent && hop >= sent,
            &format!("{vm}: counters of {network}"),
            &format!("{sent} datagrams of pods; route {route}, next hop {hop}"),
        );
    }
    let sum = |of: fn(&Seen) -> u64| rows.iter().filter(of_pods).map(|row| of(row.after)).sum::<u64>();
    for (hook, count, what) in [
        ("tc-pod", sum(|seen| seen.sent), "pods' packets took the fast path"),
        ("tc-nic", sum(|seen| seen.echoed), "answers to pods took the fast path"),
    ] {
        let forwarded = after.forwarded(hook) - before.forwarded(hook);
        checks.expect(
            count > 0 && forwarded >= count,
            &format!("{vm}: {what}"),
            &format!("{count} datagrams, verdict {hook} forwarded {forwarded}"),
        );
    }
    let shown = agent.text(&get_cmdlet())?;
    let values = ["Port3", plan::CAMERA_NETWORK[0], "192.168.20.1", METRIC, "Active"];
    let found = values.into_iter().filter(|value| shown.contains(value)).count();
    checks.expect(
        found == values.len(),
        &format!("{vm}: Get-HcsNetRoute shows the route"),
        &format!("{found} of {} values", values.len()),
    );
    Ok(())
}

fn enter_pod(agent: &Agent) -> String {
    let pod = agent.vm.pods().swap_remove(0);
    enter(&agent.vm)
        .replace(&agent.vm.ns().path().display().to_string(), &pod.ns.path().display().to_string())
}
