//! What leaves the appliance, by which port and with whose address (E1-E8, N3, N5, N13, N14): cameras as they
//! are by Port3, everything else masqueraded by Port2, one namespace without the internet, one pod with an
//! address of its own. And no packet of a pod ever by Port2.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, eventually},
    appliance::Appliance,
    capture::Tcpdump,
    egress::{self, PODS, POLICIES, Sniffer, Talk, Talker},
    lab::{Pod, Vm, plan},
    netns::Netns,
    traffic::{Connection, http_get, ping, reason, rtsp_options},
};

const TIMEOUT: Duration = Duration::from_secs(3);
const SHORT: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(20);
/// Of every talker, before and after each step.
const ROUNDS: u64 = 20;

/// The master with its agent; its first pod is the one with an address of its own, the second has no internet.
struct Scene {
    agent: Agent,
    vm: Vm,
    on: Appliance,
}

impl Scene {
    fn new() -> Result<Self> {
        let on = Appliance::new()?;
        let vm = on.lab.vm("master");
        egress::deploy(&vm)?;
        let agent = Agent::start(&vm)?;
        let scene = Self { agent, vm, on };
        for server in plan::INTERNET.both() {
            scene.await_internet(&scene.fixed().ns, server)?;
        }
        Ok(scene)
    }

    fn fixed(&self) -> Pod {
        self.vm.pods().remove(0)
    }

    fn denied(&self) -> Pod {
        self.vm.pods().remove(1)
    }

    /// Until the policies are in the maps, and next hops resolved.
    fn await_internet(&self, from: &Netns, server: IpAddr) -> Result<()> {
        eventually("the internet to answer a pod", PATIENCE, || Ok(http_get(from, server, SHORT).is_ok()))
            .with_context(|| self.state())
    }

    fn state(&self) -> String {
        let all = [&["drops"][..], &["egress", "list"], &["flow", "list"]].map(|line| {
            self.agent.cli(line).map_or_else(|error| error.to_string(), |out| out.stdout + &out.stderr)
        });
        all.join("\n")
    }

    /// What pods send out of the cluster by Port2 under their own addresses.
    fn sniff(&self) -> Result<Sniffer> {
        Sniffer::start(&self.vm)
    }
}

/// What a capture at Port2 must show of a request to a server.
fn syn_of(source: IpAddr, server: IpAddr) -> String {
    format!("src host {source} and dst host {server} and tcp")
}

/// The appliance's case, over both families, seen from both ends.
#[test]
fn e1_e2_e3_each_packet_by_its_port_and_with_its_address() -> Result<()> {
    let scene = Scene::new()?;
    let sniffer = scene.sniff()?;
    let (fixed, denied) = (scene.fixed(), scene.denied());
    for (at, camera) in plan::CAMERA.both().into_iter().enumerate() {
        for pod in [&fixed, &denied] {
            let seen = rtsp_options(&pod.ns, camera, TIMEOUT).with_context(|| scene.state())?.ip();
            ensure!(seen == pod.address.both()[at], "the camera saw {seen}");
        }
    }
    for (at, server) in plan::INTERNET.both().into_iter().enumerate() {
        let own = scene.vm.second_address().both()[at];
        let left = Tcpdump::start(scene.vm.ns(), "eth0", &syn_of(own, server))?;
        http_get(&fixed.ns, server, TIMEOUT).with_context(|| scene.state())?;
        left.wait_for(3, TIMEOUT)?;
        let answer = http_get(&denied.ns, server, TIMEOUT);
        ensure!(answer.is_err_and(|error| reason(&error) == egress::REFUSED), "the sealed pod and {server}");
        ensure!(ping(&fixed.ns, server, &["-c", "2", "-i", "0.1"])?.received == 2, "{}", scene.state());
    }
    ensure!(scene.agent.verdict("tc-pod", "egress-rejected")? > 0, "{}", scene.state());
    sniffer.saw_nothing()
}

/// Masquerade, of a pod that nothing else is said of.
#[test]
fn e8_every_verdict_is_counted_for_its_policy() -> Result<()> {
    let scene = Scene::new()?;
    let sniffer = scene.sniff()?;
    let (fixed, denied) = (scene.fixed(), scene.denied());
    // The pod with an address of its own has none any more: the next policy is its.
    scene.vm.publish("pods", &PODS.replace("app: billing}", "app: other}"))?;
    // And the other one is no longer told that it is denied.
    scene.vm.publish("egress", &POLICIES.replace("  deny: Reject\n", ""))?;
    for (at, server) in plan::INTERNET.both().into_iter().enumerate() {
        let own = scene.vm.port("Port2").address.both()[at];
        let left = Tcpdump::start(scene.vm.ns(), "eth0", &syn_of(own, server))?;
        eventually("the pod to be masqueraded", PATIENCE, || {
            http_get(&fixed.ns, server, TIMEOUT)?;
            Ok(left.wait_for(1, Duration::from_millis(200)).is_ok())
        })
        .with_context(|| scene.state())?;
        eventually("the sealed pod to be left without an answer", PATIENCE, || {
            let answer = http_get(&denied.ns, server, SHORT);
            Ok(answer.is_err_and(|error| reason(&error) == "no answer"))
        })?;
    }
    ensure!(scene.agent.verdict("tc-pod", "egress-denied")? > 0, "{}", scene.state());
    let list = scene.agent.json(&["egress", "list"])?;
    let of = |name: &str, field: &str| -> Result<u64> {
        let policy = list.as_array().and_then(|list| list.iter().find(|policy| policy["name"] == name));
        let number = policy.and_then(|policy| policy[field].as_u64());
        number.with_context(|| format!("no {field} of {name} in {list:#}"))
    };
    ensure!(of("internet", "newFlows")? >= 2 && of("internet", "packets")? >= 10, "{list:#}");
    ensure!(of("sealed", "denied")? > 0 && of("sealed", "packets")? == 0, "{list:#}");
    sniffer.saw_nothing()
}

/// Connections outlive kill -9 and an upgrade, and new ones are as they were; nothing leaks meanwhile (E4, N14).
#[test]
fn e4_n14_an_agent_dies_and_comes_back_under_connections() -> Result<()> {
    let Scene { mut agent, vm, on } = Scene::new()?;
    let _uplink = egress::serve_uplink(&on.lab)?;
    let sniffer = Sniffer::start(&vm)?;
    let talk = Talk::start(Talker::all(&egress::of_vm(&vm)))?;
    talk.await_rounds(ROUNDS)?;
    for end in [Agent::kill9, Agent::stop] {
        let node = end(agent)?;
        talk.await_rounds(ROUNDS)?;
        agent = Agent::start(node)?;
        talk.await_rounds(ROUNDS)?;
    }
    for (talker, talked) in talk.stop() {
        ensure!(talked.wrong.is_empty() && talked.cut.is_none(), "{}: {talked:?}", talker.name);
    }
    sniffer.saw_nothing()
}

/// A policy that comes ahead of others cuts what it denies (E7); one that goes lets it through again.
#[test]
fn e7_a_policy_in_front_cuts_what_it_denies() -> Result<()> {
    let scene = Scene::new()?;
    let sniffer = scene.sniff()?;
    let fixed = scene.fixed();
    let server = SocketAddr::new(plan::INTERNET.v4.into(), plan::ECHO_PORT);
    let mut connection = Connection::open(&fixed.ns, server, SHORT)?;
    connection.exchange(1000)?;
    let deny = "---\napiVersion: netroute.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: first}\nspec: \
                {priority: 1, to: {cidrs: [203.0.113.0/24], ports: [{protocol: TCP, port: 7}]}, action: Deny, deny: Reject}\n";
    scene.vm.publish("egress", &format!("{POLICIES}{deny}"))?;
    eventually("the connection to be cut", PATIENCE, || Ok(connection.exchange(1000).is_err()))?;
    let refused = Connection::open(&fixed.ns, server, TIMEOUT).err().context("let through")?;
    ensure!(format!("{refused:#}").contains("refused"), "{refused:#}");
    scene.vm.publish("egress", POLICIES)?;
    eventually("a new one to be let through", PATIENCE, || {
        Ok(Connection::open(&fixed.ns, server, SHORT).is_ok())
    })
    .with_context(|| scene.state())?;
    sniffer.saw_nothing()
}

/// What the policy asks for is taken away: its traffic is dropped and says why (E5).
#[test]
fn e5_without_its_address_a_policy_is_degraded() -> Result<()> {
    let scene = Scene::new()?;
    let sniffer = scene.sniff()?;
    scene.vm.ns().ip(&format!("address del {}/24 dev eth0", scene.vm.second_address().v4))?;
    let fixed = scene.fixed();
    let server = plan::INTERNET.v4.into();
    eventually("the pod to be cut off", PATIENCE, || Ok(http_get(&fixed.ns, server, SHORT).is_err()))?;
    let shown = scene.agent.cli(&["egress", "list"])?.succeeded()?;
    let line = shown.lines().find(|line| line.contains("fixed-address")).context("no such policy")?;
    ensure!(line.contains("Degraded"), "{shown}");
    sniffer.saw_nothing()
}
