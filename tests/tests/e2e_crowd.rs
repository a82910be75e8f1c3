//! A thousand live connections through Services, over both families, while agents come and go (N14, S18).

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, Node, eventually},
    appliance::Appliance,
    crowd::{Crowd, EchoServer, HalfClosed, flood},
    lab::{Vm, plan::Dual},
    objects::Service,
    traffic::Connection,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const PATIENCE: Duration = Duration::from_secs(15);
const PORT: u16 = 7;
/// Of each of the four: outside and pod, IPv4 and IPv6.
const CONNECTIONS: u64 = 250;
/// Exchanges of each connection between two events.
const ROUNDS: u64 = 2;
/// Half-open connections. Where clients are masqueraded there are soon no ports left for more.
const FLOOD_HERE: u32 = 900_000;
const FLOOD_FAR: u32 = 100_000;

/// Reached from outside by way of the master; all endpoints are on the worker, so clients are masqueraded.
const FAR: Service = Service {
    name: "far",
    cluster_ip: Dual::new([10, 96, 0, 30], [0xfd96, 0, 0, 0, 0, 0, 0, 0x30]),
    balancer: Some(BALANCER),
    protocol: "TCP",
    port: 7000,
    target_port: PORT,
};
const BALANCER: Dual = Dual::new([10, 128, 60, 3], [0xfd60, 0, 0, 0, 0, 0, 0, 3]);
/// Reached from a pod; an endpoint on each VM.
const NEAR: Service = Service {
    name: "near",
    cluster_ip: Dual::new([10, 96, 0, 31], [0xfd96, 0, 0, 0, 0, 0, 0, 0x31]),
    balancer: None,
    protocol: "TCP",
    port: 7001,
    target_port: PORT,
};
/// Reached from outside, with an endpoint on the node that is asked: nobody is masqueraded.
const HERE: Service = Service {
    name: "here",
    cluster_ip: Dual::new([10, 96, 0, 32], [0xfd96, 0, 0, 0, 0, 0, 0, 0x32]),
    balancer: Some(HERE_BALANCER),
    protocol: "TCP",
    port: 7002,
    target_port: PORT,
};
const HERE_BALANCER: Dual = Dual::new([10, 128, 60, 4], [0xfd60, 0, 0, 0, 0, 0, 0, 4]);
/// As FAR, for connections that are closed on one side.
const HALF: Service = Service {
    name: "half",
    cluster_ip: Dual::new([10, 96, 0, 33], [0xfd96, 0, 0, 0, 0, 0, 0, 0x33]),
    balancer: Some(HALF_BALANCER),
    protocol: "TCP",
    port: 7003,
    target_port: HALF_PORT,
};
const HALF_BALANCER: Dual = Dual::new([10, 128, 60, 5], [0xfd60, 0, 0, 0, 0, 0, 0, 5]);
const HALF_PORT: u16 = 9;
/// Longer than the agent's pause between two looks for flows that are over.
const HELD: Duration = Duration::from_secs(11);

struct Scene {
    vms: [Vm; 2],
    agents: Vec<Agent>,
    crowds: Vec<Crowd>,
    _servers: Vec<EchoServer>,
    on: Appliance,
}

fn write_manifests(vms: &[Vm; 2], file: &str) -> Result<()> {
    let [master, worker] = vms;
    let far = FAR.manifest(&[(worker, 0), (worker, 1)]);
    let [near, here] = [NEAR.manifest(&[(worker, 0), (master, 1)]), HERE.manifest(&[(master, 1)])];
    let text = [far, near, here, HALF.manifest(&[(worker, 0)])].join("---\n");
    for vm in vms {
        fs::write(vm.manifests().join(file), &text)?;
    }
    Ok(())
}

impl Scene {
    fn new() -> Result<Self> {
        let on = Appliance::new()?;
        let vms = on.lab.vms();
        let [master, worker] = &vms;
        let pods = [&worker.pods()[0], &worker.pods()[1], &master.pods()[1]].map(|pod| pod.ns.clone());
        let servers = pods.iter().map(|ns| EchoServer::start(ns, PORT)).collect::<Result<_>>()?;
        write_manifests(&vms, "services.yaml")?;
        let agents = vms.iter().map(Agent::start).collect::<Result<_>>()?;
        let (outside, pod) = (on.lab.ns("intsw"), master.pods()[0].ns.clone());
        for balancer in [BALANCER, HERE_BALANCER, HALF_BALANCER] {
            for (address, via) in balancer.both().into_iter().zip(master.port("Port2").address.both()) {
                outside.ip(&format!("route add {address} via {via}"))?;
            }
        }
        let begin = Instant::now();
        let mut crowds = Vec::new();
        for (ns, to, port) in [(&outside, BALANCER, FAR.port), (&pod, NEAR.cluster_ip, NEAR.port)] {
            for address in to.both() {
                let server = SocketAddr::new(address, port);
                eventually("the Service to answer", PATIENCE, || {
                    Ok(Connection::open(ns, server, Duration::from_millis(500)).is_ok())
                })?;
                crowds.push(Crowd::open(ns, server, CONNECTIONS)?);
            }
        }
        println!("MEASURED {} connections opened in {:.1?}", 4 * CONNECTIONS, begin.elapsed());
        let scene = Self { vms, agents, crowds, _servers: servers, on };
        scene.go_on("before anything happens")?;
        Ok(scene)
    }

    /// From outside and from a pod, over both families.
    fn half_closed(&self) -> Result<HalfClosed> {
        let [master, worker] = &self.vms;
        let (outside, pod) = (self.on.lab.ns("intsw"), master.pods()[0].ns.clone());
        let far = HALF_BALANCER.both().map(|address| (&outside, SocketAddr::new(address, HALF.port)));
        let near = HALF.cluster_ip.both().map(|address| (&pod, SocketAddr::new(address, HALF.port)));
        HalfClosed::open(&worker.pods()[0].ns, HALF_PORT, &[far, near].concat())
    }

    /// All connections exchange data.
    fn go_on(&self, when: &str) -> Result<()> {
        self.crowds.iter().try_for_each(|crowd| crowd.more(ROUNDS)).with_context(|| when.to_owned())
    }

    /// The agents one after the other, or together.
    fn restart(
        &mut self,
        end: fn(Agent) -> Result<Node>,
        what: &str,
        before: impl Fn(&Node) -> Result<()>,
    ) -> Result<()> {
        let nodes = self.agents.drain(..).map(end).collect::<Result<Vec<_>>>()?;
        self.go_on(&format!("{what}: without agents"))?;
        for node in nodes {
            before(&node)?;
            self.agents.push(Agent::start(node)?);
        }
        self.go_on(&format!("{what}: with new agents"))
    }

    fn close(self, what: &str) -> Result<()> {
        let Self { crowds, agents, .. } = self;
        let mut exchanges = 0;
        // All are told to end before one is judged: the first failure is not the only one.
        let results: Vec<Result<u64>> = crowds.into_iter().map(Crowd::close).collect();
        for result in results {
            exchanges += result?;
        }
        println!("MEASURED {what}: {} connections, {exchanges} exchanges, none cut", 4 * CONNECTIONS);
        for agent in &agents {
            ensure!(agent.json(&["diff"])?["lines"] == serde_json::json!([]));
        }
        Ok(())
    }
}

fn program_ids(agent: &Agent) -> Result<BTreeSet<u64>> {
    let status = agent.json(&["status"])?;
    let programs = status["programs"].as_array().context("no programs")?;
    Ok(programs.iter().filter_map(|program| program["id"].as_u64()).collect())
}

fn established(agent: &Agent) -> Result<u64> {
    Ok(agent.json(&["flow", "list", "--limit", "1", "--state", "established"])?["total"]
        .as_u64()
        .unwrap_or(0))
}

/// Killed and started again; stopped and started again, which exchanges all programs, as an upgrade does.
#[test]
fn n14_s18_a_thousand_connections_outlive_their_agents() -> Result<()> {
    let mut scene = Scene::new()?;
    ensure!(established(&scene.agents[0])? >= 4 * CONNECTIONS, "{}", established(&scene.agents[0])?);
    scene.restart(Agent::kill9, "kill -9", |_| Ok(()))?;
    let programs = program_ids(&scene.agents[0])?;
    scene.restart(Agent::stop, "stop", |_| Ok(()))?;
    let now = program_ids(&scene.agents[0])?;
    ensure!(now.len() == programs.len() && now.is_disjoint(&programs), "{programs:?} before, {now:?} after");
    ensure!(established(&scene.agents[0])? >= 4 * CONNECTIONS, "{}", established(&scene.agents[0])?);
    scene.close("kill, stop, other programs")
}

/// Agents that are started with other limits: of maps that flows have nothing to do with, of those that flows
/// and backends are in, and back to smaller ones.
#[test]
fn n14_s18_a_thousand_connections_outlive_other_limits() -> Result<()> {
    const ROUTES: &str = "limits: {routes4: 5000";
    const SERVICES: &str = ", backends: 1000, slots: 400000, frontEnds: 1000, serviceStats: 500";
    const FLOWS: &str = ", flows4: 20000, flows6: 20000, opening4: 20000, opening6: 20000, affinity: 2000";
    let mut scene = Scene::new()?;
    let before = established(&scene.agents[0])?;
    scene.restart(Agent::stop, "more routes", |node| node.configure(&format!("{ROUTES}}}")))?;
    let more = |from: &'static str, to: &'static str| {
        move |node: &Node| node.reconfigure(&format!("{from}}}"), &format!("{from}{to}}}"))
    };
    scene.restart(Agent::stop, "other Services", more("5000", SERVICES))?;
    scene.restart(Agent::kill9, "other flows", more("serviceStats: 500", FLOWS))?;
    scene.restart(Agent::stop, "fewer flows", |node| node.reconfigure("20000", "9000"))?;
    let after = established(&scene.agents[0])?;
    ensure!(after >= before, "{before} flows before, {after} after");
    scene.close("other limits four times")
}

/// Everything is read again: on a signal, after all files were written anew under other names, and by agents
/// that have lost their state folder. Connections that are closed on one side are held meanwhile.
#[test]
fn n14_s18_s25_a_thousand_connections_outlive_a_full_resync() -> Result<()> {
    let mut scene = Scene::new()?;
    let (half_closed, begin) = (scene.half_closed()?, Instant::now());
    for agent in &scene.agents {
        kill(Pid::from_raw(i32::try_from(agent.pid())?), Signal::SIGHUP)?;
    }
    scene.go_on("after SIGHUP")?;
    write_manifests(&scene.vms, "again.yaml")?;
    for vm in &scene.vms {
        fs::remove_file(vm.manifests().join("services.yaml"))?;
    }
    scene.go_on("after the manifests were exchanged")?;
    let empty = |node: &Node| empty(&node.state_dir);
    scene.restart(Agent::kill9, "an emptied state folder", empty)?;
    thread::sleep(HELD.saturating_sub(begin.elapsed()));
    half_closed.finish().context("closed on one side")?;
    scene.close("SIGHUP, manifests written anew, empty state folder")
}

/// A million clients begin connections and never go on, most of them at a pod of the node that they ask; those
/// that live are not pushed out, and new ones find room.
#[test]
fn n9_a_flood_of_half_open_flows_cuts_no_live_connection() -> Result<()> {
    let scene = Scene::new()?;
    let outside = scene.on.lab.ns("intsw");
    flood::prepare(&outside)?;
    let new_flows = |service: &Service| -> Result<u64> {
        let shown = scene.agents[0].json(&["service", "show", service.name])?;
        shown[0]["newFlows"].as_u64().context("no number of flows")
    };
    let before = [new_flows(&HERE)?, new_flows(&FAR)?];
    let begin = Instant::now();
    thread::scope(|scope| {
        let targets = [(HERE_BALANCER, HERE.port, FLOOD_HERE), (BALANCER, FAR.port, FLOOD_FAR)];
        let targets = targets.into_iter().flat_map(|(to, port, count)| {
            to.both().map(|address| (SocketAddr::new(address, port), count / 2))
        });
        let flooding: Vec<_> = targets
            .map(|(to, count)| {
                scope.spawn({
                    let ns = &outside;
                    move || flood::syns(ns, to, count)
                })
            })
            .collect();
        flooding
            .into_iter()
            .try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let elapsed = begin.elapsed();
    scene.go_on("after the flood")?;
    let [here, far] = [new_flows(&HERE)? - before[0], new_flows(&FAR)? - before[1]];
    let live = established(&scene.agents[0])?;
    println!(
        "MEASURED {here} of {FLOOD_HERE} half-open flows begun at a pod here and {far} of {FLOOD_FAR} masqueraded \
         ones in {elapsed:.1?}; {live} established afterwards"
    );
    let drops = || scene.agents[0].cli(&["drops"]).map(|output| output.stdout).unwrap_or_default();
    // The rest is lost on the veth before any program sees it.
    ensure!(here > u64::from(FLOOD_HERE) / 2, "{here} flows were begun\n{}", drops());
    ensure!(live >= 4 * CONNECTIONS, "{live} flows are left\n{}", drops());
    for address in HERE_BALANCER.both() {
        Connection::open(&outside, (address, HERE.port).into(), PATIENCE)?.exchange(10_000)?;
    }
    scene.close("a flood of half-open flows")
}

fn empty(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder)?;
    fs::create_dir(folder)?;
    Ok(())
}
