//! Both VMs with an agent each, the master's with the test's own processes as what it serves at sockets.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, Node, eventually},
    appliance::Appliance,
    capture::Counters,
    cgroup::Cgroup,
    lab::{Vm, plan::Dual},
    netns::Netns,
    peer::{Server, Service},
    traffic::Connection,
};
use serde_json::Value;

pub const TIMEOUT: Duration = Duration::from_secs(3);
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The front ends of the Service.
pub const CLUSTER: Dual = Dual::new([10, 96, 0, 10], [0xfd96, 0, 0, 0, 0, 0, 0, 0x10]);
pub const BALANCER: Dual = Dual::new([10, 128, 60, 1], [0xfd60, 0, 0, 0, 0, 0, 0, 1]);
/// Its port, TCP and UDP, and where its endpoints listen.
pub const ECHO: u16 = 7777;
pub const ECHO_NODE_PORT: u16 = 30_007;
pub const TARGET: u16 = 7007;
const QUESTION: &[u8] = b"is there anybody?";

/// Where an endpoint is: VM, and number of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Pod(usize, usize),
    Node(usize),
}

pub struct Scene {
    pub agents: Vec<Agent>,
    pub master: Vm,
    worker: Vm,
    endpoints: Vec<Endpoint>,
    /// Lines of the Service's `spec`.
    spec: String,
    _servers: Vec<Server>,
    _on: Appliance,
    /// Goes last: agents are in it.
    pub group: Cgroup,
}

impl Scene {
    /// `None` where the kernel has no control groups of version 2 mounted.
    pub fn new(endpoints: &[Endpoint]) -> Result<Option<Self>> {
        Self::with(endpoints, "")
    }

    pub fn with(endpoints: &[Endpoint], spec: &str) -> Result<Option<Self>> {
        let on = Appliance::new()?;
        let Some(group) = Cgroup::enter()? else {
            let test = std::thread::current().name().unwrap_or("e2e_sockets").to_owned();
            println!("SKIP {test}: no control groups of version 2 are mounted");
            return Ok(None);
        };
        let mut scene = Self {
            agents: Vec::new(),
            master: on.lab.vm("master"),
            worker: on.lab.vm("worker"),
            endpoints: endpoints.to_vec(),
            spec: spec.to_owned(),
            _servers: Vec::new(),
            _on: on,
            group,
        };
        for &endpoint in endpoints {
            let ns = scene.ns(endpoint);
            scene._servers.push(Server::start(&ns, Service::Echo, TARGET)?);
            scene._servers.push(Server::start(&ns, Service::Udp, TARGET)?);
        }
        scene.set(endpoints)?;
        let group = format!("sockets: {{cgroup: {}}}", scene.group.path().display());
        Node::from(&scene.master).reconfigure("sockets: null", &group)?;
        scene.agents = scene.vms().into_iter().map(Agent::start).collect::<Result<_>>()?;
        scene.await_endpoints()?;
        Ok(Some(scene))
    }

    fn vms(&self) -> [&Vm; 2] {
        [&self.master, &self.worker]
    }

    fn ns(&self, endpoint: Endpoint) -> Netns {
        match endpoint {
            Endpoint::Pod(vm, pod) => self.vms()[vm].pods()[pod].ns.clone(),
            Endpoint::Node(vm) => self.vms()[vm].ns().clone(),
        }
    }

    /// Until the way to each endpoint is known to everybody on it.
    fn await_endpoints(&self) -> Result<()> {
        for &endpoint in &self.endpoints {
            for address in self.address(endpoint).both() {
                for from in [self.master.ns(), &self.master.pods()[0].ns] {
                    eventually("endpoints to answer", PATIENCE, || {
                        let open = TcpStream::connect_timeout;
                        let within = Duration::from_millis(500);
                        from.run(|| Ok(open(&(address, TARGET).into(), within).is_ok()))
                    })?;
                }
            }
        }
        Ok(())
    }

    fn address(&self, endpoint: Endpoint) -> Dual {
        match endpoint {
            Endpoint::Pod(vm, pod) => self.vms()[vm].pods()[pod].address,
            Endpoint::Node(vm) => self.vms()[vm].port("Port2").address,
        }
    }

    /// The Service has these endpoints now.
    pub fn set(&self, endpoints: &[Endpoint]) -> Result<()> {
        let text = self.manifest(endpoints);
        self.vms().into_iter().try_for_each(|vm| Ok(fs::write(vm.manifests().join("service.yaml"), &text)?))
    }

    fn manifest(&self, endpoints: &[Endpoint]) -> String {
        let mut text: String = self
            .vms()
            .map(|vm| format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {}}}\n---\n", vm.name()))
            .concat();
        text += &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: echo}}\nspec:\n  type: LoadBalancer\n  \
             externalTrafficPolicy: Local\n  {4}\n  \
             ipFamilyPolicy: RequireDualStack\n  ipFamilies: [IPv4, IPv6]\n  \
             clusterIP: {0}\n  clusterIPs: [\"{0}\", \"{1}\"]\n  ports:\n  \
             - {{name: tcp, port: {ECHO}, targetPort: {TARGET}, nodePort: {ECHO_NODE_PORT}}}\n  \
             - {{name: udp, port: {ECHO}, targetPort: {TARGET}, protocol: UDP, nodePort: {ECHO_NODE_PORT}}}\n\
             status: {{loadBalancer: {{ingress: [{{ip: \"{2}\"}}, {{ip: \"{3}\"}}]}}}}\n",
            CLUSTER.v4, CLUSTER.v6, BALANCER.v4, BALANCER.v6, self.spec
        );
        for (pick, family) in ["IPv4", "IPv6"].into_iter().enumerate() {
            text += &format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: echo-{}, \
                 labels: {{kubernetes.io/service-name: echo}}}}\naddressType: {family}\nports:\n\
                 - {{name: tcp, port: {TARGET}, protocol: TCP}}\n\
                 - {{name: udp, port: {TARGET}, protocol: UDP}}\nendpoints:{}\n",
                family.to_lowercase(),
                if endpoints.is_empty() { " []" } else { "" }
            );
            for &endpoint in endpoints {
                let (Endpoint::Pod(vm, _) | Endpoint::Node(vm)) = endpoint;
                text += &format!(
                    "- {{addresses: [\"{}\"], nodeName: {}, conditions: {{ready: true}}}}\n",
                    self.address(endpoint).both()[pick],
                    self.vms()[vm].name()
                );
            }
        }
        text
    }

    /// No agent has seen a flow that it translated.
    pub fn ensure_no_flows(&self) -> Result<()> {
        for agent in &self.agents {
            let flows = agent.json(&["flow", "list"])?;
            ensure!(flows["total"] == 0, "{flows:#}");
        }
        Ok(())
    }

    fn ports(&self) -> Result<Vec<Value>> {
        let list = self.agents[0].json(&["service", "list"])?;
        Ok(list.as_array().context("no list of Services")?.clone())
    }

    /// How often the master chose an endpoint.
    pub fn new_flows(&self) -> Result<u64> {
        Ok(self.ports()?.iter().filter_map(|port| port["newFlows"].as_u64()).sum())
    }

    /// How many endpoints the master uses.
    pub fn used(&self) -> Result<usize> {
        let ports = self.ports()?;
        let endpoints =
            ports.first().and_then(|port| port["endpoints"].as_array()).context("no endpoints")?;
        Ok(endpoints.iter().filter(|endpoint| endpoint["used"] == true).count())
    }

    /// Packets that the pod of each endpoint has sent.
    pub fn sent(&self) -> Result<Vec<u64>> {
        let sent = |&endpoint: &Endpoint| Ok(Counters::read(&self.ns(endpoint), "eth0")?.tx_packets);
        self.endpoints.iter().map(sent).collect()
    }

    /// Ids of the master's socket programs.
    pub fn programs(&self) -> Result<Vec<u64>> {
        let status = self.agents[0].json(&["status"])?;
        let programs = status["programs"].as_array().context("no programs")?;
        let group = self.group.path().to_string_lossy().into_owned();
        let ours = programs.iter().filter(|program| program["interface"] == group.as_str());
        Ok(ours.filter_map(|program| program["id"].as_u64()).collect())
    }
}

/// A UDP socket, of the family of whom it will ask.
pub struct Datagrams(UdpSocket);

impl Datagrams {
    pub fn open(ns: &Netns, server: SocketAddr) -> Result<Self> {
        ns.run(|| {
            let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_read_timeout(Some(TIMEOUT))?;
            Ok(Self(socket))
        })
    }

    /// Who answers what is sent to a server.
    pub fn unconnected(&self, server: SocketAddr) -> Result<SocketAddr> {
        self.0.send_to(QUESTION, server)?;
        self.answer()
    }

    /// The same by a connected socket, which this one is from then on.
    pub fn connected(&self, server: SocketAddr) -> Result<SocketAddr> {
        self.0.connect(server)?;
        let peer = self.0.peer_addr()?;
        ensure!(peer == server, "connected to {server}, and getpeername says {peer}");
        self.0.send(QUESTION)?;
        self.answer()
    }

    fn answer(&self) -> Result<SocketAddr> {
        let mut answer = [0; 64];
        let (length, from) = self.0.recv_from(&mut answer)?;
        ensure!(&answer[..length] == QUESTION, "another answer");
        Ok(from)
    }
}

/// An IPv4 address as a socket of IPv6 names it.
pub fn mapped(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => Some(address.to_ipv6_mapped().into()),
        IpAddr::V6(_) => None,
    }
}

/// Whether connecting fails with `ECONNREFUSED`.
pub fn refused_at(ns: &Netns, server: SocketAddr) -> Result<bool> {
    ns.run(|| {
        let error = TcpStream::connect_timeout(&server, TIMEOUT).err();
        Ok(error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused))
    })
}

/// What one connection took, in seconds.
pub struct Sample {
    /// For connecting, on average over many.
    pub connect: f64,
    /// For a small exchange, on average over many.
    pub turn: f64,
    /// For a large transfer there and back.
    pub bulk: f64,
}

impl Sample {
    pub fn take(ns: &Netns, server: SocketAddr) -> Result<Self> {
        const CONNECTS: u32 = 100;
        const TURNS: u32 = 2000;
        const BYTES: u64 = 16_000_000;
        let mut connection = Connection::open(ns, server, TIMEOUT)?;
        let bulk = connection.exchange(BYTES)?.elapsed.as_secs_f64();
        ns.run(|| {
            let begin = Instant::now();
            for _ in 0..CONNECTS {
                drop(TcpStream::connect(server)?);
            }
            let connect = begin.elapsed().as_secs_f64() / f64::from(CONNECTS);
            let mut stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            let mut answer = [0; QUESTION.len()];
            let begin = Instant::now();
            for _ in 0..TURNS {
                stream.write_all(QUESTION)?;
                stream.read_exact(&mut answer)?;
            }
            Ok(Self { connect, turn: begin.elapsed().as_secs_f64() / f64::from(TURNS), bulk })
        })
    }
}

/// The least and the median.
pub fn spread(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2])
}
