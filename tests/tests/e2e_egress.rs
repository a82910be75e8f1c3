//! What leaves the appliance, by which port and with whose address (E1-E8, N3, N5, N13, N14): cameras as they
//! are by Port3, everything else masqueraded by Port2, one namespace without the internet, one pod with an
//! address of its own. And no packet of a pod ever by Port2.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, eventually},
    appliance::Appliance,
    capture::Tcpdump,
    lab::{
        Pod, Vm,
        plan::{self, Dual},
    },
    netns::Netns,
    traffic::{Connection, http_get, ping, rtsp_options},
};

const TIMEOUT: Duration = Duration::from_secs(3);
const SHORT: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(20);
/// The fixed pod's, on Port2.
const FIXED: Dual = Dual::new([10, 128, 44, 21], [0xfd44, 0, 0, 0, 0, 0, 0, 0x21]);
const POLICIES: &str = "policies.yaml";

/// The master with its agent; its first pod is the one with an address of its own, the second has no internet.
struct Scene {
    agent: Agent,
    vm: Vm,
    _on: Appliance,
}

impl Scene {
    fn new() -> Result<Self> {
        let on = Appliance::new()?;
        let vm = on.lab.vm("master");
        for address in [format!("{}/24", FIXED.v4), format!("{}/64 nodad", FIXED.v6)] {
            vm.ns().ip(&format!("address add {address} dev eth0"))?;
        }
        fs::write(vm.manifests().join("pods.yaml"), pods(&vm))?;
        fs::write(vm.manifests().join(POLICIES), policies(""))?;
        let agent = Agent::start(&vm)?;
        let scene = Self { agent, vm, _on: on };
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

    /// What leaves by Port2, and a word at the end of it.
    fn sniff(&self) -> Result<Sniffer> {
        let own = self.vm.port("Port2").address;
        let pods = plan::POD_NETWORK.map(|net| format!("(src net {net} and not dst net {net})")).join(" or ");
        let filter = format!("{pods} or (icmp and src host {} and dst host {})", own.v4, GATEWAY.v4);
        Ok(Sniffer { frames: Tcpdump::start(self.vm.ns(), "eth0", &filter)?, vm: self.vm.clone() })
    }
}

const GATEWAY: Dual = plan::INTERNAL_GATEWAY;

/// Sees every packet of a pod that leaves by Port2 for somewhere else than a pod.
struct Sniffer {
    frames: Tcpdump,
    vm: Vm,
}

impl Sniffer {
    /// The first frame it sees must be the one that is sent here.
    fn saw_nothing(self) -> Result<()> {
        ensure!(ping(self.vm.ns(), GATEWAY.v4.into(), &["-c", "1"])?.answered());
        let frames = self.frames.wait_for(1, TIMEOUT)?;
        ensure!(frames[0].text.contains("ICMP echo request"), "left by Port2: {}", frames[0].text);
        Ok(())
    }
}

fn pods(vm: &Vm) -> String {
    let mut text =
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {internet: \"yes\"}}\n---\n\
                    apiVersion: v1\nkind: Namespace\nmetadata: {name: sealed, labels: {internet: \"no\"}}\n"
            .to_owned();
    for (pod, (namespace, app)) in vm.pods().iter().zip([("shop", "fixed"), ("sealed", "recorder")]) {
        let Dual { v4, v6 } = pod.address;
        text += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {app}, namespace: {namespace}, \
             labels: {{app: {app}}}}}\nspec: {{nodeName: {}, containers: []}}\n\
             status: {{podIP: \"{v4}\", podIPs: [{{ip: \"{v4}\"}}, {{ip: \"{v6}\"}}]}}\n",
            vm.name()
        );
    }
    text
}

/// Those of the appliance, and `more` in front of them.
fn policies(more: &str) -> String {
    let [cameras4, cameras6] = plan::CAMERA_NETWORK;
    let (cameras, gateway) = (plan::CAMERA_GATEWAY, GATEWAY);
    let all = "cidrs: [0.0.0.0/0, \"::/0\"]";
    let policy = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: netroute.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        )
    };
    let via2 = format!(
        "via: [{{interface: Port2, nextHop: {}}}, {{interface: Port2, nextHop: \"{}\"}}]",
        gateway.v4, gateway.v6
    );
    let via3 = format!(
        "via: [{{interface: Port3, nextHop: {}}}, {{interface: Port3, nextHop: \"{}\"}}]",
        cameras.v4, cameras.v6
    );
    more.to_owned()
        + &policy(
            "cameras",
            &format!("{{priority: 10, to: {{cidrs: [{cameras4}, \"{cameras6}\"]}}, action: Allow, {via3}}}"),
        )
        + &policy(
            "sealed",
            &format!(
                "{{priority: 20, from: {{namespaceSelector: {{matchLabels: {{internet: \"no\"}}}}}}, \
                 to: {{{all}}}, action: Deny}}"
            ),
        )
        + &policy(
            "fixed",
            &format!(
                "{{priority: 30, from: {{podSelector: {{matchLabels: {{app: fixed}}}}}}, to: {{{all}}}, \
                 action: Snat, snat: {{addresses: [{}, \"{}\"]}}, {via2}}}",
                FIXED.v4, FIXED.v6
            ),
        )
        + &policy("internet", &format!("{{priority: 40, to: {{{all}}}, action: Masquerade, {via2}}}"))
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
        let own = FIXED.both()[at];
        let left = Tcpdump::start(scene.vm.ns(), "eth0", &syn_of(own, server))?;
        http_get(&fixed.ns, server, TIMEOUT).with_context(|| scene.state())?;
        left.wait_for(3, TIMEOUT)?;
        ensure!(http_get(&denied.ns, server, SHORT).is_err(), "the sealed pod reached {server}");
        ensure!(ping(&fixed.ns, server, &["-c", "2", "-i", "0.1"])?.received == 2, "{}", scene.state());
    }
    ensure!(scene.agent.verdict("tc-pod", "egress-denied")? > 0, "{}", scene.state());
    sniffer.saw_nothing()
}

/// Masquerade, of a pod that nothing else is said of.
#[test]
fn e8_every_verdict_is_counted_for_its_policy() -> Result<()> {
    let scene = Scene::new()?;
    let sniffer = scene.sniff()?;
    let (fixed, denied) = (scene.fixed(), scene.denied());
    // The pod with an address of its own has none any more: the next policy is its.
    fs::write(scene.vm.manifests().join("pods.yaml"), pods(&scene.vm).replace("app: fixed}", "app: other}"))?;
    for (at, server) in plan::INTERNET.both().into_iter().enumerate() {
        let own = scene.vm.port("Port2").address.both()[at];
        let left = Tcpdump::start(scene.vm.ns(), "eth0", &syn_of(own, server))?;
        eventually("the pod to be masqueraded", PATIENCE, || {
            http_get(&fixed.ns, server, TIMEOUT)?;
            Ok(left.wait_for(1, Duration::from_millis(200)).is_ok())
        })
        .with_context(|| scene.state())?;
        ensure!(http_get(&denied.ns, server, SHORT).is_err());
    }
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

/// Connections outlive kill -9 and a start; nothing leaks meanwhile (E4, N14).
#[test]
fn e4_n14_an_agent_dies_and_comes_back_under_connections() -> Result<()> {
    let mut scene = Scene::new()?;
    let sniffer = scene.sniff()?;
    let (fixed, denied) = (scene.fixed(), scene.denied());
    let servers = plan::INTERNET.both().map(|server| SocketAddr::new(server, plan::ECHO_PORT));
    let mut open: Vec<Connection> =
        servers.iter().map(|server| Connection::open(&fixed.ns, *server, TIMEOUT)).collect::<Result<_>>()?;
    let node = scene.agent.kill9()?;
    let talk = |open: &mut Vec<Connection>| -> Result<()> {
        for (connection, server) in open.iter_mut().zip(servers) {
            connection.exchange(100_000)?;
            ensure!(Connection::open(&denied.ns, server, SHORT).is_err(), "leaked to {server}");
        }
        Ok(())
    };
    talk(&mut open)?;
    scene.agent = Agent::start(node)?;
    talk(&mut open)?;
    for server in plan::INTERNET.both() {
        scene.await_internet(&fixed.ns, server)?;
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
    fs::write(scene.vm.manifests().join(POLICIES), policies(deny))?;
    eventually("the connection to be cut", PATIENCE, || Ok(connection.exchange(1000).is_err()))?;
    let refused = Connection::open(&fixed.ns, server, TIMEOUT).err().context("let through")?;
    ensure!(format!("{refused:#}").contains("refused"), "{refused:#}");
    fs::write(scene.vm.manifests().join(POLICIES), policies(""))?;
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
    scene.vm.ns().ip(&format!("address del {}/24 dev eth0", FIXED.v4))?;
    let fixed = scene.fixed();
    let server = plan::INTERNET.v4.into();
    eventually("the pod to be cut off", PATIENCE, || Ok(http_get(&fixed.ns, server, SHORT).is_err()))?;
    let shown = scene.agent.cli(&["egress", "list"])?.succeeded()?;
    let line = shown.lines().find(|line| line.contains("fixed")).context("no such policy")?;
    ensure!(line.contains("Degraded"), "{shown}");
    sniffer.saw_nothing()
}
