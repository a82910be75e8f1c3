//! Services whose endpoints are processes of the node itself: clients outside and in pods get their answers from
//! the front end (N13, S1).

use std::{fs, net::IpAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, eventually},
    appliance::Appliance,
    lab::{
        Vm,
        plan::{self, Dual},
    },
    netns::Netns,
    peer::{Server, Service},
    traffic::{Connection, http_get},
};

const TIMEOUT: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);
const CLUSTER: Dual = Dual::new([10, 96, 0, 30], [0xfd96, 0, 0, 0, 0, 0, 0, 0x30]);
const BALANCER: Dual = Dual::new([10, 128, 60, 3], [0xfd60, 0, 0, 0, 0, 0, 0, 3]);
const ELSEWHERE: [&str; 2] = ["172.31.0.0/16", "fd31::/64"];
const WEB: u16 = 8080;
const ECHO: u16 = 7007;

struct Scene {
    agent: Agent,
    vm: Vm,
    _servers: [Server; 2],
    on: Appliance,
}

impl Scene {
    fn new() -> Result<Self> {
        let on = Appliance::new()?;
        let vm = on.lab.vm("master");
        let servers = [(Service::Http, WEB), (Service::Echo, ECHO)];
        let [web, echo] = servers.map(|(service, port)| Server::start(vm.ns(), service, port));
        fs::write(vm.manifests().join("service.yaml"), manifest(&vm))?;
        let (port2, port3) = (vm.port("Port2").address, vm.port("Port3").address);
        for (host, by) in [("intsw", port2), ("camgw", port3), ("cam", plan::CAMERA_GATEWAY)] {
            for (address, via) in BALANCER.both().into_iter().zip(by.both()) {
                on.lab.ns(host).ip(&format!("route add {address} via {via}"))?;
            }
        }
        fs::write(vm.manifests().join("routes.yaml"), routes())?;
        let agent = Agent::start(&vm)?;
        for destination in ELSEWHERE {
            agent.await_state(destination, "Port3", "active")?;
        }
        let scene = Self { agent, vm, _servers: [web?, echo?], on };
        for address in BALANCER.both() {
            scene.await_answer(&scene.on.lab.ns("intsw"), address)?;
        }
        Ok(scene)
    }

    fn await_answer(&self, from: &Netns, address: IpAddr) -> Result<()> {
        eventually("the balancer's address to answer", PATIENCE, || {
            Ok(ask(from, address, Duration::from_millis(500)).is_ok())
        })
        .with_context(|| self.drops())
    }

    fn drops(&self) -> String {
        let all = [&["drops"][..], &["flow", "list"], &["service", "list"]];
        let said = all.map(|line| self.agent.cli(line).map_or_else(|e| e.to_string(), |out| out.stdout));
        said.join("\n")
    }
}

fn ask(from: &Netns, address: IpAddr, timeout: Duration) -> Result<std::net::SocketAddr> {
    http_get(from, address, timeout)
}

/// Next hops on Port3, for the node to know who hands it packets there; not for where clients are.
fn routes() -> String {
    let via = plan::PORT3_GATEWAY.both();
    let route = |(name, (to, via)): (usize, (&str, IpAddr))| {
        format!(
            "---\napiVersion: netroute.dev/v1alpha1\nkind: NetRoute\nmetadata: {{name: r{name}}}\n\
             spec: {{destination: \"{to}\", nextHop: \"{via}\", interface: Port3}}\n"
        )
    };
    ELSEWHERE.into_iter().zip(via).enumerate().map(route).collect()
}

/// The node's own addresses as endpoints.
fn manifest(vm: &Vm) -> String {
    let name = vm.name();
    let mut text = format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: host}}\nspec:\n  type: LoadBalancer\n  \
         ipFamilies: [IPv4, IPv6]\n  clusterIPs: [\"{}\", \"{}\"]\n  \
         ports: [{{name: http, port: 80, targetPort: {WEB}}}, {{name: echo, port: 7, targetPort: {ECHO}}}]\n\
         status: {{loadBalancer: {{ingress: [{{ip: \"{}\"}}, {{ip: \"{}\"}}]}}}}\n",
        CLUSTER.v4, CLUSTER.v6, BALANCER.v4, BALANCER.v6
    );
    let address = vm.port("Port2").address;
    for (family, address) in ["IPv4", "IPv6"].into_iter().zip(address.both()) {
        text += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: host-{}, \
             labels: {{kubernetes.io/service-name: host}}}}\naddressType: {family}\n\
             ports: [{{name: http, port: {WEB}}}, {{name: echo, port: {ECHO}}}]\nendpoints:\n\
             - {{addresses: [\"{address}\"], nodeName: {name}, conditions: {{ready: true}}}}\n",
            family.to_lowercase()
        );
    }
    text
}

/// Clients outside, by the port that has the default route and by the other one, which no route of the node names:
/// the answers go back by it.
#[test]
fn n13_answers_of_the_nodes_processes_leave_as_the_front_end() -> Result<()> {
    let scene = Scene::new()?;
    for host in ["intsw", "cam"] {
        let outside = scene.on.lab.ns(host);
        for address in BALANCER.both() {
            ask(&outside, address, TIMEOUT).with_context(|| format!("{host}: {}", scene.drops()))?;
            let mut echo = Connection::open(&outside, (address, 7).into(), TIMEOUT)?;
            echo.exchange(3_000_000).with_context(|| format!("{host}: {}", scene.drops()))?;
        }
    }
    ensure!(scene.agent.verdict("tc-out", "forwarded")? > 0, "{}", scene.drops());
    Ok(())
}

/// Pods without translated sockets reach them too, by the cluster's address.
#[test]
fn s1_pods_reach_the_nodes_processes() -> Result<()> {
    let scene = Scene::new()?;
    for pod in scene.vm.pods() {
        for address in CLUSTER.both() {
            ask(&pod.ns, address, TIMEOUT).with_context(|| scene.drops())?;
            let mut echo = Connection::open(&pod.ns, (address, 7).into(), TIMEOUT)?;
            echo.exchange(1_000_000).with_context(|| scene.drops())?;
        }
    }
    // Outside of Services nothing changes for the node's own traffic.
    ensure!(http_get(scene.vm.ns(), plan::INTERNET.v4.into(), TIMEOUT).is_ok());
    Ok(())
}
