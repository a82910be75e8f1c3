//! `netroute explain` says what then happens (E1, E6, S1, R1, N7): addresses, ports, NICs and MACs are those that a
//! packet sent afterwards has, and explaining leaves no trace in any map.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netroute_common::abi::PIN_FOLDER;
use netroute_tests::{
    agent::{Agent, Node, eventually},
    appliance::Appliance,
    capture::Tcpdump,
    lab::{
        Pod, Vm,
        plan::{self, Dual},
    },
    netns::Netns,
    peer::{Server, Service},
    router::Router,
    traffic::http_get,
};
use netroute_user::apply::flows::{FlowTables, Tuple};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(3);
const SHORT: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(20);
/// The fixed pod's, on Port2.
const FIXED: Dual = Dual::new([10, 128, 44, 21], [0xfd44, 0, 0, 0, 0, 0, 0, 0x21]);
const CLUSTER: Dual = Dual::new([10, 96, 0, 10], [0xfd96, 0, 0, 0, 0, 0, 0, 0x10]);
const FRONT: u16 = 7777;
const ECHO: u16 = 7;

/// The master with its agent; its first pod leaves with an address of its own, the second not at all.
struct Scene {
    agent: Agent,
    vm: Vm,
    _servers: Vec<Server>,
    _on: Appliance,
}

impl Scene {
    fn new() -> Result<Self> {
        let on = Appliance::new()?;
        let vm = on.lab.vm("master");
        for address in [format!("{}/24", FIXED.v4), format!("{}/64 nodad", FIXED.v6)] {
            vm.ns().ip(&format!("address add {address} dev eth0"))?;
        }
        let endpoints = [vm.pods().remove(1), on.lab.vm("worker").pods().remove(0)];
        let servers = endpoints.iter().map(|pod| Server::start(&pod.ns, Service::Udp, ECHO));
        let servers = servers.collect::<Result<_>>()?;
        fs::write(vm.manifests().join("pods.yaml"), pods(&vm))?;
        fs::write(vm.manifests().join("policies.yaml"), policies())?;
        fs::write(vm.manifests().join("service.yaml"), service(&endpoints))?;
        let agent = Agent::start(&vm)?;
        let scene = Self { agent, vm, _servers: servers, _on: on };
        for server in plan::INTERNET.both() {
            eventually("the internet to answer a pod", PATIENCE, || {
                Ok(http_get(&scene.fixed().ns, server, SHORT).is_ok())
            })
            .with_context(|| scene.agent.cli(&["drops"]).map_or_else(|e| e.to_string(), |out| out.stdout))?;
        }
        Ok(scene)
    }

    fn fixed(&self) -> Pod {
        self.vm.pods().remove(0)
    }

    fn sealed(&self) -> Pod {
        self.vm.pods().remove(1)
    }

    fn explain(&self, from: &str, to: &str, source_port: u16) -> Result<Explained> {
        explain(&self.agent, &["--from", from, "--to", to, "--source-port", &source_port.to_string()])
    }

    /// Every flow, to the last bit, and what was counted of traffic.
    fn state(&self) -> Result<(BTreeMap<Tuple, String>, Vec<Value>)> {
        let tables = FlowTables::open(&self.vm.bpffs().join(PIN_FOLDER).join("maps"))?;
        let mut flows = BTreeMap::new();
        tables.each(|entry| drop(flows.insert(entry.tuple, format!("{:?}", entry.flow))))?;
        let counted = |line: &[&str], fields: &[&str]| -> Result<Vec<Value>> {
            let list = self.agent.json(line)?;
            let list = list.as_array().cloned().unwrap_or_default();
            Ok(list.iter().flat_map(|one| fields.iter().map(|field| one[*field].clone())).collect())
        };
        let mut all = counted(&["egress", "list"], &["name", "packets", "newFlows", "denied"])?;
        all.extend(counted(&["service", "list"], &["name", "packets", "newFlows", "noEndpoint"])?);
        let drops = self.agent.json(&["drops"])?;
        let of_traffic = ["forwarded", "egress-denied", "spoofed-source"];
        let drops = drops.as_array().cloned().unwrap_or_default();
        all.extend(
            drops.into_iter().filter(|one| of_traffic.contains(&one["reason"].as_str().unwrap_or(""))),
        );
        Ok((flows, all))
    }
}

/// What was said.
struct Explained(Value);

fn explain(agent: &Agent, arguments: &[&str]) -> Result<Explained> {
    let line = [&["explain", "--json"], arguments].concat();
    let text = agent.cli(&line)?.succeeded().with_context(|| line.join(" "))?;
    Ok(Explained(serde_json::from_str(&text)?))
}

impl Explained {
    /// The last hook.
    fn hook(&self) -> &Value {
        let steps = self.0["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
        steps.iter().rfind(|step| step["step"] == "hook").unwrap_or(&Value::Null)
    }

    fn at(&self, pointer: &str) -> &Value {
        self.hook().pointer(pointer).unwrap_or(&Value::Null)
    }

    fn expect(&self, pointer: &str, expected: impl Into<Value>) -> Result<()> {
        let expected = expected.into();
        ensure!(*self.at(pointer) == expected, "{pointer} is not {expected}: {:#}", self.0);
        Ok(())
    }

    fn address(&self, pointer: &str) -> Result<SocketAddr> {
        let text = self.at(pointer).as_str().with_context(|| format!("no {pointer} in {:#}", self.0))?;
        Ok(text.parse()?)
    }

    /// Sends the packet, and compares it with what was said of its frame where it arrives.
    fn comes_true(&self, from: (&Netns, SocketAddr), to: SocketAddr, seen_at: (&Netns, &str)) -> Result<()> {
        let (source, destination) = (self.address("/frame/source")?, self.address("/frame/destination")?);
        let filter = format!("udp and dst host {} and dst port {}", destination.ip(), destination.port());
        let capture = Tcpdump::start(seen_at.0, seen_at.1, &filter)?;
        send(from.0, from.1, to)?;
        let frame = capture.wait_for(1, TIMEOUT).with_context(|| format!("{:#}", self.0))?.remove(0);
        let pair = format!("{}.{} > {}.{}", source.ip(), source.port(), destination.ip(), destination.port());
        ensure!(frame.text.contains(&pair), "explained {pair}, came {}", frame.text);
        for (pointer, mac) in
            [("/frame/sourceMac", &frame.source_mac), ("/frame/destinationMac", &frame.destination_mac)]
        {
            ensure!(self.at(pointer) == mac.as_str(), "{pointer}: {:#}, came {}", self.0, frame.text);
        }
        Ok(())
    }
}

fn send(ns: &Netns, from: SocketAddr, to: SocketAddr) -> Result<()> {
    ns.run(|| {
        UdpSocket::bind(from)?.send_to(b"explained", to)?;
        Ok(())
    })
}

fn pods(vm: &Vm) -> String {
    let mut text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
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

fn policies() -> String {
    let policy = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: netroute.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        )
    };
    let all = "to: {cidrs: [0.0.0.0/0, \"::/0\"]}";
    let gateway = plan::INTERNAL_GATEWAY;
    let via = format!(
        "via: [{{interface: Port2, nextHop: {}, metric: 5}}, {{interface: Port2, nextHop: \"{}\", metric: 5}}]",
        gateway.v4, gateway.v6
    );
    let sealed = "from: {namespaceSelector: {matchLabels: {internet: \"no\"}}}";
    let fixed = "from: {podSelector: {matchLabels: {app: fixed}}}";
    let snat = format!("snat: {{addresses: [{}, \"{}\"]}}", FIXED.v4, FIXED.v6);
    policy("sealed", &format!("{{priority: 20, {sealed}, {all}, action: Deny}}"))
        + &policy("fixed", &format!("{{priority: 30, {fixed}, {all}, action: Snat, {snat}, {via}}}"))
        + &policy("internet", &format!("{{priority: 40, {all}, action: Masquerade, {via}}}"))
}

fn service(endpoints: &[Pod]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: echo, namespace: shop}}\nspec:\n  \
         ipFamilyPolicy: RequireDualStack\n  ipFamilies: [IPv4, IPv6]\n  clusterIP: {0}\n  \
         clusterIPs: [\"{0}\", \"{1}\"]\n  ports: [{{name: echo, port: {FRONT}, targetPort: {ECHO}, protocol: UDP}}]\n",
        CLUSTER.v4, CLUSTER.v6
    );
    for (family, pick) in [("IPv4", 0), ("IPv6", 1)] {
        text += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: echo-{}, \
             namespace: shop, labels: {{kubernetes.io/service-name: echo}}}}\naddressType: {family}\n\
             ports: [{{name: echo, port: {ECHO}, protocol: UDP}}]\nendpoints:\n",
            family.to_lowercase()
        );
        for pod in endpoints {
            let address = pod.address.both()[pick];
            text += &format!("- {{addresses: [\"{address}\"], conditions: {{ready: true}}}}\n");
        }
    }
    text
}

fn target(address: IpAddr, port: u16) -> String {
    format!("{}/udp", SocketAddr::new(address, port))
}

fn number(value: &Value) -> Result<u16> {
    Ok(value.as_u64().context("no number")?.try_into()?)
}

/// A pod's flow that gets another address, over both families: policy, whom it shadows, address, port and NIC.
#[test]
fn e1_what_is_explained_of_a_translated_flow_is_what_leaves() -> Result<()> {
    let scene = Scene::new()?;
    let pod = scene.fixed();
    for (at, server) in plan::INTERNET.both().into_iter().enumerate() {
        let port = 40_100 + u16::try_from(at)?;
        let said = scene.explain("shop/fixed", &target(server, ECHO), port)?;
        said.expect("/policy/policy", "fixed")?;
        said.expect("/policy/shadows", vec!["internet"])?;
        said.expect("/policy/action", "Snat")?;
        said.expect("/sourceCheck/passed", true)?;
        said.expect("/flow/kind", "new")?;
        said.expect("/snat/address", FIXED.both()[at].to_string())?;
        let given = said.at("/snat/port").clone();
        said.expect("/frame/source", format!("{}", SocketAddr::new(FIXED.both()[at], number(&given)?)))?;
        said.expect("/route/metric", 5)?;
        said.expect("/frame/interface", "Port2")?;
        said.expect("/verdict", "forward")?;
        let source = SocketAddr::new(pod.address.both()[at], port);
        let to = SocketAddr::new(server, ECHO);
        said.comes_true((&pod.ns, source), to, (scene.vm.ns(), "eth0"))?;
        let again = scene.explain(&pod.address.both()[at].to_string(), &target(server, ECHO), port)?;
        again.expect("/flow/kind", "known")?;
        again.expect("/snat/port", given)?;
        again.expect("/frame", said.at("/frame").clone())?;
    }
    Ok(())
}

/// What is denied is said to be, by whom and before whom; and it is.
#[test]
fn e1_e6_what_is_explained_as_dropped_goes_nowhere() -> Result<()> {
    let scene = Scene::new()?;
    let server = plan::INTERNET.v4.into();
    let denied = scene.explain("sealed/recorder", "203.0.113.10:80/tcp", 40_000)?;
    denied.expect("/policy/policy", "sealed")?;
    denied.expect("/policy/shadows", vec!["internet"])?;
    denied.expect("/verdict", "drop")?;
    denied.expect("/reason", "egress-denied")?;
    denied.expect("/frame", Value::Null)?;
    let before = scene.agent.verdict("tc-pod", "egress-denied")?;
    ensure!(http_get(&scene.sealed().ns, server, SHORT).is_err(), "let out");
    ensure!(scene.agent.verdict("tc-pod", "egress-denied")? > before);

    let pod = scene.fixed();
    let spoofed = ["--from", "10.244.1.99", "--to", "203.0.113.10:7/udp", "--in", &pod.host_device];
    let spoofed = explain(&scene.agent, &spoofed)?;
    spoofed.expect("/reason", "spoofed-source")?;
    spoofed.expect("/sourceCheck/passed", false)?;
    let text = scene.agent.cli(&["explain", "--from", "sealed/recorder", "--to", "203.0.113.10:80/tcp"])?;
    let text = text.succeeded()?;
    ensure!(text.contains("\npolicy     sealed (priority 20, Deny); comes before internet\n"), "{text}");
    for (from, to, part) in [
        ("shop/nobody", "203.0.113.10:80/tcp", "no object tells of a pod shop/nobody"),
        ("shop/fixed", "shop/nobody:80/tcp", "there is no Service shop/nobody"),
        ("shop/fixed", "203.0.113.10:80", "say the protocol behind a slash"),
        ("10.244.1.10", "[fd20::50]:80/tcp", "one is IPv4, the other IPv6"),
    ] {
        let refused = scene.agent.cli(&["explain", "--from", from, "--to", to])?;
        ensure!(refused.code == 1 && refused.stderr.contains(part), "{from} {to}: {refused:?}");
        ensure!(refused.stderr.lines().count() == 1, "{}", refused.stderr);
    }
    Ok(())
}

/// Each flow to a Service comes to the endpoint that was named for its source port, on this node or another.
#[test]
fn s1_the_endpoint_that_is_explained_is_the_one_that_hears() -> Result<()> {
    let scene = Scene::new()?;
    let (pod, local) = (scene.fixed(), scene.sealed());
    let mut heard = BTreeMap::new();
    for (at, front) in CLUSTER.both().into_iter().enumerate() {
        for port in 40_200..40_208 {
            let said = scene.explain("shop/fixed", &target(front, FRONT), port)?;
            said.expect("/service/service", "shop/echo")?;
            said.expect("/service/endpoints", 2)?;
            let endpoint = said.address("/service/endpoint")?;
            *heard.entry(endpoint).or_insert(0) += 1;
            let source = SocketAddr::new(pod.address.both()[at], port);
            let here = local.address.both()[at] == endpoint.ip();
            said.expect("/frame/interface", if here { local.host_device.as_str() } else { "Port2" })?;
            let seen_at = if here { (&local.ns, "eth0") } else { (scene.vm.ns(), "eth0") };
            said.comes_true((&pod.ns, source), SocketAddr::new(front, FRONT), seen_at)?;
        }
    }
    ensure!(heard.len() == 4, "not all endpoints were asked for: {heard:?}");
    let named = scene.explain("shop/fixed", &format!("shop/echo:{FRONT}/udp"), 40_300)?;
    named.expect("/service/frontEnd", format!("{}:{FRONT}", CLUSTER.v4))?;
    let unknown = scene.explain("shop/fixed", "shop/echo:9/udp", 40_300)?;
    unknown.expect("/reason", "no-service-port")
}

/// The node's own packets: the kernel's way, then the hook on the NIC.
#[test]
fn what_the_node_sends_is_explained_from_the_kernels_choice_on() -> Result<()> {
    let scene = Scene::new()?;
    let own = scene.vm.port("Port2").address.v4.into();
    let (source, to) = (SocketAddr::new(own, 40_400), SocketAddr::new(plan::INTERNET.v4.into(), ECHO));
    let said = scene.explain(&own.to_string(), &format!("{to}/udp"), 40_400)?;
    ensure!(said.0["steps"][0]["step"] == "kernel", "{:#}", said.0);
    ensure!(said.0["steps"][0]["nextHop"] == plan::INTERNAL_GATEWAY.v4.to_string(), "{:#}", said.0);
    said.expect("/hook", "tc-out")?;
    said.expect("/reason", "outgoing")?;
    said.comes_true((scene.vm.ns(), source), to, (scene.vm.ns(), "eth0"))
}

/// Explaining writes nothing: no flow, no counter, no time of a last packet.
#[test]
fn explaining_changes_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let server = SocketAddr::new(plan::INTERNET.v4.into(), ECHO);
    let source = SocketAddr::new(scene.fixed().address.v4.into(), 40_500);
    send(&scene.fixed().ns, source, server)?;
    eventually("the flow to be answered", PATIENCE, || {
        let said = scene.explain("shop/fixed", &format!("{server}/udp"), 40_500)?;
        Ok(said.at("/flow/state") == "established")
    })?;
    let before = scene.state()?;
    for port in [40_500, 40_501] {
        for (from, to) in [
            ("shop/fixed", "203.0.113.10:7/udp"),
            ("shop/fixed", "203.0.113.10:443/tcp"),
            ("shop/fixed", "203.0.113.10/icmp"),
            ("shop/fixed", "shop/echo:7777/udp"),
            ("sealed/recorder", "203.0.113.10:7/udp"),
            ("10.128.44.11", "203.0.113.10:7/udp"),
            ("203.0.113.10", "10.244.1.10:80/tcp"),
        ] {
            scene.explain(from, to, port)?;
        }
    }
    let after = scene.state()?;
    ensure!(before == after, "before {before:#?}\nafter {after:#?}");
    Ok(())
}

/// Transit by a custom route; and by the next metric when the first one's next hop is gone, with the reason.
#[test]
fn r1_the_route_that_is_explained_is_the_one_that_is_taken() -> Result<()> {
    let router = Router::triple()?;
    let folder = tempfile::tempdir()?;
    let node = Node::beside(&router, folder.path())?;
    node.reconfigure("source:", "  - {alias: Port4, device: eth2, role: external}\nsource:")?;
    let agent = Agent::start(node)?;
    let (left, right, third) = (router.left(), router.right(), router.third());
    for (host, dev, metric) in [(right, "Port3", "100"), (third, "Port4", "200")] {
        let via = host.address.v4.to_string();
        let add = ["route", "add", "198.51.100.0/24", "--via", &via, "--dev", dev, "--metric", metric];
        agent.cli(&add)?.succeeded()?;
    }
    agent.await_state("198.51.100.0/24", "Port3", "active")?;
    agent.await_state("198.51.100.0/24", "Port4", "standby")?;
    let source = SocketAddr::new(left.address.v4.into(), 40_600);
    let to: SocketAddr = "198.51.100.1:9".parse()?;
    let arguments =
        ["--from", &left.address.v4.to_string(), "--to", "198.51.100.1:9/udp", "--source-port", "40600"];
    let said = explain(&agent, &arguments)?;
    said.expect("/route/prefix", "198.51.100.0/24")?;
    said.expect("/route/metric", 100)?;
    said.expect("/route/origin", "cli")?;
    said.expect("/frame/interface", "Port3")?;
    said.comes_true((&left.ns, source), to, (&right.ns, "eth0"))?;

    right.ns.ip("link set eth0 down")?;
    agent.await_state("198.51.100.0/24", "Port4", "active")?;
    let said = explain(&agent, &arguments)?;
    said.expect("/route/metric", 200)?;
    said.expect("/frame/interface", "Port4")?;
    let why = said.at("/route/why").as_str().unwrap_or_default();
    ensure!(why.starts_with("10.0.2.2 on Port3 comes first and is down: "), "{why}");
    said.comes_true((&left.ns, source), to, (&third.ns, "eth0"))
}
