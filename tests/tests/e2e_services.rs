//! Services on real packets: from pods, from outside, over both families, while agents come and go
//! (S1, S3, S6, S10, S13, S17, S18, N2, N14).

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, eventually},
    appliance::Appliance,
    capture::Counters,
    lab::{
        Pod, Vm,
        plan::{self, Dual},
    },
    netns::Netns,
    peer::{Server, Service},
    traffic::{Connection, http_get, ping},
};

const TIMEOUT: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);
/// The front ends of the Service.
const CLUSTER: Dual = Dual::new([10, 96, 0, 10], [0xfd96, 0, 0, 0, 0, 0, 0, 0x10]);
const BALANCER: Dual = Dual::new([10, 128, 60, 1], [0xfd60, 0, 0, 0, 0, 0, 0, 1]);
const NODE_PORT: u16 = 30_080;
const WEB: u16 = 80;
const ECHO: u16 = 7;
const ECHO_NODE_PORT: u16 = 30_007;
/// Connections to one front end; the chance that one of two endpoints gets none is 2^-39.
const MANY: usize = 40;

/// Both VMs with an agent each, and servers in the pods that are endpoints.
struct Scene {
    master: Vm,
    worker: Vm,
    agents: Vec<Agent>,
    _servers: Vec<Server>,
    on: Appliance,
}

impl Scene {
    /// `endpoints` are pods as (VM, number).
    fn new(endpoints: &[(usize, usize)]) -> Result<Self> {
        let on = Appliance::new()?;
        let (master, worker) = (on.lab.vm("master"), on.lab.vm("worker"));
        let vms = [&master, &worker];
        let mut servers = Vec::new();
        for &(vm, pod) in endpoints {
            let pod = &vms[vm].pods()[pod];
            servers.push(Server::start(&pod.ns, Service::Http, WEB)?);
            servers.push(Server::start(&pod.ns, Service::Echo, ECHO)?);
            servers.push(Server::start(&pod.ns, Service::Udp, ECHO)?);
        }
        for vm in vms {
            fs::write(vm.manifests().join("service.yaml"), manifest(vms, endpoints)?)?;
        }
        let agents = vms.into_iter().map(Agent::start).collect::<Result<_>>()?;
        let switch = on.lab.ns("intsw");
        for (address, via) in BALANCER.both().into_iter().zip(master.port("Port2").address.both()) {
            switch.ip(&format!("route add {address} via {via}"))?;
        }
        let scene = Self { master, worker, agents, _servers: servers, on };
        scene.await_answers(&scene.on.lab.ns("intsw"))?;
        Ok(scene)
    }

    /// Until next hops are resolved, and front ends in the maps.
    fn await_answers(&self, outside: &Netns) -> Result<()> {
        let pod = &self.master.pods()[0].ns;
        for address in CLUSTER.both() {
            eventually("the cluster's address to answer", PATIENCE, || {
                Ok(http_get(pod, address, Duration::from_millis(500)).is_ok())
            })?;
        }
        for address in BALANCER.both() {
            eventually("the balancer's address to answer", PATIENCE, || {
                Ok(http_get(outside, address, Duration::from_millis(500)).is_ok())
            })
            .with_context(|| self.drops())?;
        }
        Ok(())
    }

    fn drops(&self) -> String {
        let all = self.agents.iter().map(|agent| agent.cli(&["drops"]).map(|output| output.stdout));
        all.map(|text| text.unwrap_or_default()).collect::<Vec<_>>().join("\n")
    }
}

/// Nodes, Service and slices of both families.
fn manifest(vms: [&Vm; 2], endpoints: &[(usize, usize)]) -> Result<String> {
    let mut text = String::new();
    for vm in vms {
        let name = vm.name();
        text += &format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n---\n");
    }
    text += &format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  type: LoadBalancer\n  \
         ipFamilyPolicy: RequireDualStack\n  ipFamilies: [IPv4, IPv6]\n  \
         clusterIP: {0}\n  clusterIPs: [\"{0}\", \"{1}\"]\n  ports:\n  \
         - {{name: http, port: 80, targetPort: {WEB}, nodePort: {NODE_PORT}}}\n  \
         - {{name: echo, port: 7777, targetPort: {ECHO}, nodePort: {ECHO_NODE_PORT}}}\n  \
         - {{name: udp, port: 7777, targetPort: {ECHO}, protocol: UDP, nodePort: {ECHO_NODE_PORT}}}\n\
         status: {{loadBalancer: {{ingress: [{{ip: \"{2}\"}}, {{ip: \"{3}\"}}]}}}}\n",
        CLUSTER.v4, CLUSTER.v6, BALANCER.v4, BALANCER.v6
    );
    for (family, pick) in [("IPv4", 0), ("IPv6", 1)] {
        text += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-{}, \
             labels: {{kubernetes.io/service-name: web}}}}\naddressType: {family}\nports:\n\
             - {{name: http, port: {WEB}, protocol: TCP}}\n- {{name: echo, port: {ECHO}, protocol: TCP}}\n\
             - {{name: udp, port: {ECHO}, protocol: UDP}}\nendpoints:",
            family.to_lowercase()
        );
        if endpoints.is_empty() {
            text += " []";
        }
        text += "\n";
        for &(vm, pod) in endpoints {
            let vm = vms[vm];
            let address = vm.pods().get(pod).context("no such pod")?.address.both()[pick];
            text += &format!(
                "- {{addresses: [\"{address}\"], nodeName: {}, conditions: {{ready: true}}}}\n",
                vm.name()
            );
        }
    }
    Ok(text)
}

/// Old kernels do not count what is redirected into a pod as received (5.10, `BPF_F_PEER`).
fn sent(pod: &Pod) -> Result<u64> {
    Ok(Counters::read(&pod.ns, "eth0")?.tx_packets)
}

/// A pod is balanced over endpoints on both VMs, and they see its own address.
#[test]
fn s1_s17_pods_reach_all_endpoints_and_keep_their_address() -> Result<()> {
    let scene = Scene::new(&[(0, 1), (1, 0)])?;
    let client = &scene.master.pods()[0];
    let endpoints = [&scene.master.pods()[1], &scene.worker.pods()[0]];
    for (family, address) in CLUSTER.both().into_iter().enumerate() {
        let before = endpoints.iter().map(|pod| sent(pod)).collect::<Result<Vec<_>>>()?;
        for _ in 0..MANY {
            let seen = http_get(&client.ns, address, TIMEOUT)?.ip();
            ensure!(seen == client.address.both()[family], "the endpoint saw {seen}");
        }
        for (pod, before) in endpoints.iter().zip(before) {
            ensure!(sent(pod)? > before + 20, "{} was left out at {address}", pod.ns);
        }
    }
    Ok(())
}

/// From outside by the balancer's address and by node port: masqueraded only to the other VM.
#[test]
fn s13_s17_outside_reaches_endpoints_of_both_nodes() -> Result<()> {
    for (endpoint, masqueraded) in [((1, 0), true), ((0, 0), false)] {
        let scene = Scene::new(&[endpoint])?;
        let outside = scene.on.lab.ns("intsw");
        let node = scene.master.port("Port2").address;
        for (family, address) in BALANCER.both().into_iter().enumerate() {
            let seen = http_get(&outside, address, TIMEOUT).with_context(|| scene.drops())?.ip();
            ensure!((seen == node.both()[family]) == masqueraded, "at {address} the endpoint saw {seen}");
        }
        for address in node.both() {
            let mut echo = Connection::open(&outside, (address, ECHO_NODE_PORT).into(), TIMEOUT)
                .with_context(|| scene.drops())?;
            echo.exchange(200_000)?;
        }
        let hook = scene.agents[0].transit_hook()?;
        let hook = if masqueraded { hook } else { "tc-nic" };
        ensure!(scene.agents[0].verdict(hook, "forwarded")? > 20, "{}", scene.drops());
    }
    Ok(())
}

/// Large transfers with the pods' offloads on, between VMs and inside one, every byte compared.
#[test]
fn n2_large_transfers_arrive_whole() -> Result<()> {
    let scene = Scene::new(&[(0, 1), (1, 0)])?;
    for pod in [&scene.master.pods()[0], &scene.worker.pods()[1]] {
        for address in CLUSTER.both() {
            for _ in 0..4 {
                let mut echo = Connection::open(&pod.ns, (address, 7777).into(), TIMEOUT)?;
                echo.exchange(4_000_000).with_context(|| format!("{} to {address}", pod.ns))?;
            }
        }
    }
    Ok(())
}

/// A pod that is its own endpoint gets an answer (S17).
#[test]
fn s17_a_pod_reaches_itself() -> Result<()> {
    let scene = Scene::new(&[(0, 0)])?;
    let pod = &scene.master.pods()[0];
    for (family, address) in CLUSTER.both().into_iter().enumerate() {
        let seen = http_get(&pod.ns, address, TIMEOUT).with_context(|| scene.drops())?.ip();
        ensure!(seen != pod.address.both()[family], "it answered itself");
    }
    Ok(())
}

/// UDP both ways; a port that no Service has is refused, an address that no Service has is silent.
#[test]
fn s6_s10_datagrams_have_front_ends_of_their_own() -> Result<()> {
    let scene = Scene::new(&[(1, 0)])?;
    let (pod, outside) = (&scene.master.pods()[0].ns, scene.on.lab.ns("intsw"));
    for (ns, address) in
        CLUSTER.both().map(|a| (pod, a)).into_iter().chain(BALANCER.both().map(|a| (&outside, a)))
    {
        ensure!(echoed(ns, (address, 7777).into())?, "no answer from {address}\n{}", scene.drops());
        ensure!(!echoed(ns, (address, 80).into())?, "UDP at a port of TCP");
    }
    ensure!(scene.agents[0].verdict("tc-pod", "no-service-port")? > 0);
    for address in CLUSTER.both() {
        ensure!(is_refused(pod, (address, 4444).into(), false)?, "{address}: no reset");
        ensure!(is_refused(pod, (address, 4444).into(), true)?, "{address}: no error");
    }
    ensure!(!echoed(pod, ("10.96.7.7".parse::<IpAddr>()?, 7777).into())?);
    ensure!(scene.agents[0].verdict("tc-pod", "no-service")? > 0);
    let drops = scene.agents[0].json(&["drops"])?;
    for (reason, verdict) in [("no-service-port", "answer"), ("no-service", "drop"), ("forwarded", "forward")]
    {
        let mut list = drops.as_array().context("no list")?.iter();
        let found = list.find(|one| one["hook"] == "tc-pod" && one["reason"] == reason).context(reason)?;
        ensure!(found["verdict"] == verdict, "{found}");
    }
    Ok(())
}

/// Connections go on while agents are killed, started again and stopped.
#[test]
fn n14_connections_outlive_their_agents() -> Result<()> {
    let mut scene = Scene::new(&[(1, 0), (0, 1)])?;
    let (pod, outside) = (scene.master.pods()[0].ns.clone(), scene.on.lab.ns("intsw"));
    let mut open = Vec::new();
    for (ns, address) in
        CLUSTER.both().map(|a| (&pod, a)).into_iter().chain(BALANCER.both().map(|a| (&outside, a)))
    {
        for _ in 0..4 {
            open.push(Connection::open(ns, (address, 7777).into(), TIMEOUT)?);
        }
    }
    let exchange =
        |open: &mut Vec<Connection>| open.iter_mut().try_for_each(|one| one.exchange(20_000).map(drop));
    exchange(&mut open)?;
    let nodes = scene.agents.drain(..).map(Agent::kill9).collect::<Result<Vec<_>>>()?;
    exchange(&mut open).context("without agents")?;
    for node in nodes {
        scene.agents.push(Agent::start(node)?);
        exchange(&mut open).context("with a new agent")?;
    }
    for agent in scene.agents.drain(..) {
        drop(agent.stop()?);
    }
    exchange(&mut open).context("after agents were stopped")
}

/// A client in the camera network asks by Port3 while the node's default route is by Port2: it gets its answers,
/// from a pod of the node and from one of the other, and finds out that Port2 takes smaller packets.
#[test]
fn n13_n3_answers_leave_by_the_nic_of_the_request() -> Result<()> {
    for endpoint in [(0, 0), (1, 0)] {
        let scene = Scene::new(&[endpoint])?;
        let (camera, gateway) = (scene.on.lab.ns("cam"), scene.on.lab.ns("camgw"));
        for (address, via) in BALANCER.both().into_iter().zip(scene.master.port("Port3").address.both()) {
            gateway.ip(&format!("route add {address} via {via}"))?;
        }
        for vm in [&scene.master, &scene.worker] {
            vm.ns().ip("link set eth0 mtu 1400")?;
        }
        for address in BALANCER.both() {
            let way = scene.agents[0].json(&["route", "get", &plan::CAMERA.both()[0].to_string()])?;
            ensure!(way["interface"] == "Port2", "the route to the client is no other one: {way}");
            eventually("an answer by Port3", PATIENCE, || {
                Ok(http_get(&camera, address, Duration::from_millis(500)).is_ok())
            })
            .with_context(|| format!("{address}, {endpoint:?}\n{}", scene.drops()))?;
            let mut echo = Connection::open(&camera, (address, 7777).into(), TIMEOUT)?;
            echo.exchange(500_000).with_context(|| format!("{address}\n{}", scene.drops()))?;
        }
        let told = scene.agents[0].verdict("tc-nic", "service-too-big")?;
        ensure!((told > 0) == (endpoint.0 == 1), "told {told} times\n{}", scene.drops());
    }
    Ok(())
}

/// The balancer's address answers echo requests.
#[test]
fn s8_the_balancers_address_answers_echo_requests() -> Result<()> {
    let scene = Scene::new(&[(0, 0)])?;
    let outside = scene.on.lab.ns("intsw");
    for address in BALANCER.both() {
        let seen = ping(&outside, address, &["-c", "3", "-i", "0.2"])?;
        ensure!(seen.received == 3, "{}", seen.output);
    }
    ensure!(scene.agents[0].verdict("tc-nic", "echo-answered")? == 6, "{}", scene.drops());
    Ok(())
}

/// Clients of a Service without endpoints are refused at once, and live connections go on.
#[test]
fn s3_s18_endpoints_come_and_go() -> Result<()> {
    let scene = Scene::new(&[(1, 0)])?;
    let pod = &scene.master.pods()[0].ns;
    let vms = [&scene.master, &scene.worker];
    let set = |endpoints: &[(usize, usize)]| -> Result<()> {
        vms.into_iter()
            .try_for_each(|vm| Ok(fs::write(vm.manifests().join("service.yaml"), manifest(vms, endpoints)?)?))
    };
    let mut live = Connection::open(pod, (CLUSTER.both()[0], 7777).into(), TIMEOUT)?;
    live.exchange(1000)?;
    set(&[])?;
    eventually("the Service to have no endpoint", PATIENCE, || {
        drop(http_get(pod, CLUSTER.both()[0], Duration::from_millis(100)));
        Ok(scene.agents[0].verdict("tc-pod", "no-endpoint")? > 0)
    })?;
    live.exchange(1000).context("a live connection was cut")?;
    let outside = scene.on.lab.ns("intsw");
    for (ns, address) in
        CLUSTER.both().map(|a| (pod, a)).into_iter().chain(BALANCER.both().map(|a| (&outside, a)))
    {
        for (port, datagrams) in [(80, false), (7777, true)] {
            let refused = is_refused(ns, (address, port).into(), datagrams)?;
            ensure!(refused, "{ns} to {address}:{port} was not refused\n{}", scene.drops());
        }
    }
    set(&[(1, 0)])?;
    eventually("the endpoint to be back", PATIENCE, || {
        Ok(http_get(pod, CLUSTER.both()[0], Duration::from_millis(300)).is_ok())
    })?;
    live.exchange(1000)?;
    Ok(())
}

/// Whether a datagram to `server` came back within a moment.
fn echoed(ns: &Netns, server: SocketAddr) -> Result<bool> {
    ns.run(|| {
        let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        socket.send(b"is there anybody?")?;
        let mut answer = [0; 64];
        Ok(socket.recv(&mut answer).is_ok_and(|length| &answer[..length] == b"is there anybody?"))
    })
}

/// Whether the server refuses at once: TCP by a reset, datagrams by an ICMP error.
fn is_refused(ns: &Netns, server: SocketAddr, datagrams: bool) -> Result<bool> {
    ns.run(|| {
        if !datagrams {
            let error = std::net::TcpStream::connect_timeout(&server, TIMEOUT).err();
            return Ok(error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused));
        }
        let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.send(b"is there anybody?")?;
        let error = socket.recv(&mut [0; 64]).err();
        Ok(error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused))
    })
}
