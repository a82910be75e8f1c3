//! Egress policies that change, paths that die and ports that run out, under traffic (E2, E4, E7, N8, N9).

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, Node, eventually},
    appliance::Appliance,
    capture::{Counters, Tcpdump},
    lab::{Pod, Vm, plan},
    traffic::{Connection, http_get, ping},
};

const TIMEOUT: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);
const POLICIES: &str = "policies.yaml";
const SERVER: Ipv4Addr = plan::INTERNET.v4;
/// Of the network for benchmarks (RFC 2544): a policy for each of these addresses, where nobody is.
const NOBODY: [u8; 3] = [198, 18, 0];
const CHANGING: u8 = 250;
/// How long they change.
const CHURN: Duration = Duration::from_secs(6);
const CHANGES_PER_SECOND: f64 = 1000.0;

struct Scene {
    agent: Agent,
    vm: Vm,
    on: Appliance,
}

impl Scene {
    fn new(policies: &str) -> Result<Self> {
        Self::configured(policies, "failover: {holdTime: 1s}")
    }

    fn configured(policies: &str, configuration: &str) -> Result<Self> {
        let on = Appliance::new()?;
        let vm = on.lab.vm("master");
        let pods: Vec<_> =
            vm.pods().iter().zip(["first", "second"]).map(|(pod, name)| object(&vm, pod, name)).collect();
        fs::write(vm.manifests().join("pods.yaml"), pods.join("---\n"))?;
        fs::write(vm.manifests().join(POLICIES), policies)?;
        // Neighbours are looked after in seconds, not in half minutes.
        vm.ns().sysctl(&[
            ("ipv4/neigh/eth1/base_reachable_time_ms", "1000"),
            ("ipv4/neigh/eth1/retrans_time_ms", "200"),
        ])?;
        let node = Node::from(&vm);
        node.configure(configuration)?;
        Ok(Self { agent: Agent::start(node)?, vm, on })
    }

    fn pod(&self, at: usize) -> Pod {
        self.vm.pods().remove(at)
    }

    fn state(&self) -> String {
        let all =
            [&["drops"][..], &["egress", "list"], &["route", "list"], &["nexthop", "list"]].map(|line| {
                self.agent.cli(line).map_or_else(|error| error.to_string(), |out| out.stdout + &out.stderr)
            });
        all.join("\n")
    }

    fn await_internet(&self, pod: &Pod) -> Result<()> {
        eventually("the internet to answer a pod", PATIENCE, || {
            Ok(http_get(&pod.ns, SERVER.into(), SHORT).is_ok())
        })
        .with_context(|| self.state())
    }

    fn number(&self, policy: &str, field: &str) -> Result<u64> {
        let list = self.agent.json(&["egress", "list"])?;
        let found = list.as_array().and_then(|list| list.iter().find(|one| one["name"] == policy));
        found
            .and_then(|one| one[field].as_u64())
            .with_context(|| format!("no {field} of {policy} in {list:#}"))
    }

    fn action(&self, policy: &str) -> Result<String> {
        let list = self.agent.json(&["egress", "list"])?;
        let found = list.as_array().and_then(|list| list.iter().find(|one| one["name"] == policy));
        Ok(found.and_then(|one| one["action"].as_str()).unwrap_or_default().to_owned())
    }

    /// Bytes that the switch of a port has received from the VM.
    fn arrived(&self, alias: &str) -> Result<u64> {
        let port = self.vm.port(alias);
        Ok(Counters::read(&port.switch, port.switch_device)?.rx_bytes)
    }
}

fn object(vm: &Vm, pod: &Pod, name: &str) -> String {
    let plan::Dual { v4, v6 } = pod.address;
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{app: {name}}}}}\n\
         spec: {{nodeName: {}, containers: []}}\n\
         status: {{podIP: \"{v4}\", podIPs: [{{ip: \"{v4}\"}}, {{ip: \"{v6}\"}}]}}\n",
        vm.name()
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: netroute.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

/// Everything is masqueraded.
fn internet() -> String {
    policy("internet", "{priority: 900, to: {cidrs: [0.0.0.0/0, \"::/0\"]}, action: Masquerade}")
}

/// A policy for each of the addresses, all with this action.
fn changing(action: &str) -> String {
    let one = |to: Ipv4Addr| {
        let spec = format!("{{priority: 100, to: {{cidrs: [{to}/32]}}, action: {action}}}");
        policy(&format!("to-{}", to.octets()[3]), &spec)
    };
    nobody().map(one).collect::<String>() + &internet()
}

fn nobody() -> impl Iterator<Item = Ipv4Addr> {
    let [a, b, c] = NOBODY;
    (0..CHANGING).map(move |d| Ipv4Addr::new(a, b, c, d))
}

const LAST: &str = "to-249";

/// One datagram to each of the addresses.
fn to_all() -> Result<()> {
    for to in nobody() {
        // Each a flow of its own.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // Refused, now and then: by an answer to the one before it.
        let _ = socket.send_to(&[0x5a; 32], (to, 7000));
    }
    Ok(())
}

/// 250 policies change their minds, a thousand times a second and more: not one packet leaves with a pod's
/// address, and what was said last holds.
#[test]
fn e4_e7_a_thousand_changes_a_second_let_nothing_out() -> Result<()> {
    let scene = Scene::new(&changing("Masquerade"))?;
    let pods = [scene.pod(0), scene.pod(1)];
    for pod in &pods {
        scene.await_internet(pod)?;
    }
    let [net4, net6] = plan::POD_NETWORK;
    let (own, gateway) = (scene.vm.port("Port2").address.v4, plan::INTERNAL_GATEWAY.v4);
    let filter = format!(
        "(src net {net4} and not dst net {net4}) or (src net {net6} and not dst net {net6}) \
         or (icmp[icmptype] = icmp-echo and src host {own} and dst host {gateway})"
    );
    let sniffer = Tcpdump::start(scene.vm.ns(), "eth0", &filter)?;
    let mut kept = Connection::open(&pods[0].ns, (SERVER, plan::ECHO_PORT).into(), TIMEOUT)?;
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let rate = thread::scope(|scope| -> Result<f64> {
        for pod in &pods {
            let (over, sent, pod) = (&over, &sent, pod.clone());
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    pod.ns.run(to_all)?;
                    sent.fetch_add(CHANGING.into(), Ordering::Relaxed);
                }
                anyhow::Ok(())
            });
        }
        let churned = churn(&scene, &mut kept);
        over.store(true, Ordering::Relaxed);
        churned
    })?;
    let sent = sent.load(Ordering::Relaxed);
    println!("MEASURED {rate:.0} changes of policies a second under {sent} new flows");
    ensure!(rate >= CHANGES_PER_SECOND, "{rate:.0} changes a second");
    ensure!(sent > u64::from(CHANGING) * 4, "{sent} packets are no traffic");
    // The last word.
    fs::write(scene.vm.manifests().join(POLICIES), changing("Deny"))?;
    eventually("the last policies", PATIENCE, || Ok(scene.action(LAST)? == "Deny"))?;
    let leaving = format!("udp and dst port 7000 or icmp[icmptype] = icmp-echo and dst host {SERVER}");
    let left = Tcpdump::start(scene.vm.ns(), "eth0", &leaving)?;
    pods[0].ns.run(to_all)?;
    ensure!(ping(&pods[0].ns, SERVER.into(), &["-c", "1"])?.answered(), "{}", scene.state());
    let frames = left.wait_for(1, TIMEOUT)?;
    ensure!(frames[0].text.contains("echo request"), "denied, and left: {}", frames[0].text);
    kept.exchange(10_000).context("a connection that nobody denied")?;
    ensure!(ping(scene.vm.ns(), gateway.into(), &["-c", "1"])?.answered());
    let frames = sniffer.wait_for(1, TIMEOUT)?;
    ensure!(frames[0].text.contains(&format!("{own} > {gateway}")), "left by Port2: {}", frames[0].text);
    Ok(())
}

/// Until the time is over: all policies anew, as soon as the agent has taken the ones before. Changes a second.
fn churn(scene: &Scene, kept: &mut Connection) -> Result<f64> {
    let (began, mut changes) = (Instant::now(), 0.0);
    for action in ["Deny", "Masquerade"].into_iter().cycle() {
        fs::write(scene.vm.manifests().join(POLICIES), changing(action))?;
        eventually("the policies", PATIENCE, || Ok(scene.action(LAST)? == action))?;
        changes += f64::from(CHANGING);
        kept.exchange(1000).context("a connection that nobody denied")?;
        if began.elapsed() >= CHURN {
            break;
        }
    }
    Ok(changes / began.elapsed().as_secs_f64())
}

/// The cable of a policy's first path is pulled under a live connection, which goes on by the second; it stays
/// there when the first one is back, and new connections do not.
#[test]
fn e2_a_connection_outlives_its_path_and_stays_on_the_next() -> Result<()> {
    let (camera, gateway3, gateway2) = (plan::CAMERA.v4, plan::CAMERA_GATEWAY.v4, plan::INTERNAL_GATEWAY.v4);
    let cameras = policy(
        "cameras",
        &format!(
            "{{priority: 10, to: {{cidrs: [192.168.20.0/24]}}, action: Allow, via: [{{interface: Port3, nextHop: \
             {gateway3}, metric: 100}}, {{interface: Port2, nextHop: {gateway2}, metric: 200}}]}}"
        ),
    );
    let scene = Scene::new(&(cameras + &internet()))?;
    let (intsw, camgw) = (scene.on.lab.ns("intsw"), scene.on.lab.ns("camgw"));
    intsw.ip_script(&format!(
        "link add tocam index 60 type veth peer name toint index 160 netns {camgw}
         addr add 10.77.0.1/30 dev tocam
         link set tocam up\n"
    ))?;
    camgw.ip_script("addr add 10.77.0.2/30 dev toint\nlink set toint up\n")?;
    intsw.ip("route add 192.168.20.0/24 via 10.77.0.2")?;
    let pod = scene.pod(0);
    let server: SocketAddr = (IpAddr::from(camera), plan::ECHO_PORT).into();
    eventually("the camera to answer", PATIENCE, || Ok(Connection::open(&pod.ns, server, SHORT).is_ok()))
        .with_context(|| scene.state())?;
    let mut old = Connection::open(&pod.ns, server, PATIENCE)?;
    // Whether what the connection sends leaves by this port.
    let by = |alias: &str, connection: &mut Connection| -> Result<bool> {
        const BYTES: u64 = 500_000;
        let before = scene.arrived(alias)?;
        connection.exchange(BYTES).with_context(|| scene.state())?;
        Ok(scene.arrived(alias)? - before >= BYTES)
    };
    ensure!(by("Port3", &mut old)?, "not by Port3 at first: {}", scene.state());
    scene.vm.unplug("Port3")?;
    // What a routing protocol would do there.
    camgw.ip(&format!("route replace {}/32 via 10.77.0.1", pod.address.v4))?;
    let pulled = Instant::now();
    old.exchange(1000).with_context(|| scene.state())?;
    println!("MEASURED a live connection goes on {:.0?} after the cable was pulled", pulled.elapsed());
    ensure!(by("Port2", &mut old)?, "not by Port2: {}", scene.state());
    scene.vm.plug("Port3")?;
    let mut new = None;
    eventually("new connections by Port3", PATIENCE, || {
        let mut connection = Connection::open(&pod.ns, server, TIMEOUT)?;
        let back = by("Port3", &mut connection)?;
        new = Some(connection);
        Ok(back)
    })
    .with_context(|| scene.state())?;
    ensure!(by("Port2", &mut old)?, "the old connection has left Port2: {}", scene.state());
    ensure!(by("Port3", new.as_mut().context("no new connection")?)?, "{}", scene.state());
    Ok(())
}

/// More flows to one destination than an address has ports: the rest is dropped and counted, nothing leaves
/// untranslated, and whoever wants to go elsewhere, or was there before, is not disturbed.
#[test]
fn n8_n9_seventy_thousand_flows_to_one_destination() -> Result<()> {
    const EACH: u64 = 35_000;
    const PORTS: u64 = 1_000;
    let scene = Scene::configured(&internet(), "nat: {ports: 62000-62999}")?;
    let pods = [scene.pod(0), scene.pod(1)];
    for pod in &pods {
        scene.await_internet(pod)?;
    }
    let mut kept = Connection::open(&pods[0].ns, (SERVER, plan::ECHO_PORT).into(), TIMEOUT)?;
    let own = scene.vm.port("Port2").address.v4;
    let [net4, _] = plan::POD_NETWORK;
    let filter =
        format!("(src net {net4} and not dst net {net4}) or (icmp[icmptype] = icmp-echo and src host {own})");
    let sniffer = Tcpdump::start(scene.vm.ns(), "eth0", &filter)?;
    let before = (scene.number("internet", "newFlows")?, scene.number("internet", "denied")?);
    let began = Instant::now();
    for pod in &pods {
        pod.ns.run(|| {
            for number in 0..EACH {
                let port = 1024 + u16::try_from(number)?;
                // Of those that others have, another one is as good.
                let socket = UdpSocket::bind((pod.address.v4, port))
                    .or_else(|_| UdpSocket::bind((pod.address.v4, 0)))?;
                let _ = socket.send_to(&[0x5a; 32], (SERVER, 9999));
            }
            Ok(())
        })?;
    }
    let (opened, denied) =
        (scene.number("internet", "newFlows")? - before.0, scene.number("internet", "denied")? - before.1);
    println!(
        "MEASURED {opened} of {} flows have a port, {denied} have none, {:.1?}",
        2 * EACH,
        began.elapsed()
    );
    // Of the ones before, some have waited for too long meanwhile.
    ensure!((PORTS / 2..2 * EACH).contains(&opened), "{opened} flows opened: {}", scene.state());
    ensure!(opened + denied >= 2 * EACH, "{opened} opened, {denied} denied: {}", scene.state());
    ensure!(scene.agent.verdict("tc-pod", "no-masquerade-port")? >= denied / 2, "{}", scene.state());
    // Every address's ports in use can be seen.
    let in_use = format!("netroute_flow_translated{{address=\"{own}\"}}");
    eventually("the gauge of the address", PATIENCE, || {
        Ok(scene.agent.metric(&in_use).is_ok_and(|flows| flows >= PORTS / 2))
    })?;
    kept.exchange(10_000).context("a connection from before")?;
    http_get(&pods[1].ns, SERVER.into(), TIMEOUT).context("to another port of the same server")?;
    ensure!(ping(scene.vm.ns(), plan::INTERNAL_GATEWAY.v4.into(), &["-c", "1"])?.answered());
    let frames = sniffer.wait_for(1, TIMEOUT)?;
    ensure!(frames[0].text.contains("echo request"), "left by Port2: {}", frames[0].text);
    Ok(())
}
