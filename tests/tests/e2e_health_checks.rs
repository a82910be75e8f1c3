//! Health check ports of Services, asked as a load balancer does, over both families (S15).

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, Node, eventually},
    appliance::Appliance,
    traffic::{HttpAnswer, http},
};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(15);
const WEB: u16 = 32_100;
const SHOP: u16 = 32_101;
/// More than the agent takes at a time.
const CROWD: usize = 40;

/// A Service of policy Local; `endpoint` is the end of the line of its endpoint on the master.
fn service(scene: &Appliance, name: &str, number: u8, port: u16, endpoint: &str) -> Result<()> {
    let [here, there] = ["master", "worker"].map(|vm| scene.lab.vm(vm).pods()[0].address);
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: LoadBalancer\n  \
         clusterIPs: [\"10.96.0.{number}\", \"fd96::{number}\"]\n  ipFamilies: [IPv4, IPv6]\n  \
         externalTrafficPolicy: Local\n  healthCheckNodePort: {port}\n  \
         ports: [{{name: http, port: 80}}]\n"
    );
    for (family, here, there) in
        [("IPv4", IpAddr::from(here.v4), IpAddr::from(there.v4)), ("IPv6", here.v6.into(), there.v6.into())]
    {
        text += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{}, \
             labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: {family}\n\
             ports: [{{name: http, port: 80}}]\nendpoints:\n\
             - {{addresses: [\"{there}\"], nodeName: worker, conditions: {{ready: true}}}}\n\
             - {{addresses: [\"{here}\"], nodeName: master, conditions: {endpoint}}}\n",
            family.to_lowercase()
        );
    }
    Ok(fs::write(file(scene, name), text)?)
}

fn file(scene: &Appliance, name: &str) -> std::path::PathBuf {
    scene.vm.manifests().join(format!("{name}.yaml"))
}

const READY: &str = "{ready: true}";
const NOT_READY: &str = "{ready: false, serving: false}";
const TERMINATING: &str = "{ready: false, serving: true, terminating: true}";

/// The same answer at all of the node's addresses, from outside and on the node itself.
fn ask(scene: &Appliance, port: u16) -> Result<HttpAnswer> {
    let outside = scene.lab.ns("intsw");
    let node = scene.vm.port("Port2").address.both();
    let own: [IpAddr; 2] = ["127.0.0.1".parse()?, "::1".parse()?];
    let from = |ns, address| http(ns, SocketAddr::new(address, port), "/", TIMEOUT);
    let first = from(&outside, node[0])?;
    let others = [(&outside, node[1]), (scene.vm.ns(), own[0]), (scene.vm.ns(), own[1])];
    for (ns, address) in others {
        let mut other = from(ns, address)?;
        // The only thing that may differ.
        other.headers.insert("date".to_owned(), first.headers["date"].clone());
        ensure!(other == first, "{address} answered {other:?}, not {first:?}");
    }
    Ok(first)
}

fn await_status(scene: &Appliance, port: u16, status: u16) -> Result<HttpAnswer> {
    let mut last = None;
    eventually(&format!("status {status}"), PATIENCE, || {
        last = ask(scene, port).ok();
        Ok(last.as_ref().is_some_and(|answer| answer.status == status))
    })
    .with_context(|| format!("{last:?}"))?;
    last.context("no answer")
}

fn expect(answer: &HttpAnswer, name: &str, endpoints: u64, healthy: bool) -> Result<()> {
    let body: Value = serde_json::from_str(&answer.body)?;
    let expected = json!({
        "service": {"namespace": "default", "name": name},
        "localEndpoints": endpoints,
        "serviceProxyHealthy": healthy,
    });
    ensure!(body == expected, "{body} instead of {expected}");
    let weight = &answer.headers["x-load-balancing-endpoint-weight"];
    ensure!(*weight == endpoints.to_string(), "weight {weight}");
    ensure!(answer.headers["content-type"] == "application/json", "{answer:?}");
    Ok(())
}

fn is_closed(scene: &Appliance, port: u16) -> Result<bool> {
    let node = scene.vm.port("Port2").address.both();
    scene.lab.ns("intsw").run(|| {
        let refused = |address: &IpAddr| {
            let error = TcpStream::connect_timeout(&(*address, port).into(), TIMEOUT).err();
            error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        };
        Ok(node.iter().all(refused))
    })
}

/// Ready, not ready, terminating, gone: the port says so, and the Service's end closes it.
#[test]
fn s15_the_port_follows_the_endpoints_of_the_node() -> Result<()> {
    let scene = Appliance::new()?;
    service(&scene, "web", 10, WEB, READY)?;
    let agent = Agent::start(&scene.vm)?;
    expect(&await_status(&scene, WEB, 200)?, "web", 1, true)?;
    for down in [NOT_READY, TERMINATING] {
        service(&scene, "web", 10, WEB, down)?;
        expect(&await_status(&scene, WEB, 503)?, "web", 0, true)?;
        service(&scene, "web", 10, WEB, READY)?;
        expect(&await_status(&scene, WEB, 200)?, "web", 1, true)?;
    }
    fs::remove_file(file(&scene, "web"))?;
    eventually("the port to be closed", PATIENCE, || is_closed(&scene, WEB))?;
    service(&scene, "web", 10, WEB, READY)?;
    await_status(&scene, WEB, 200)?;
    let node = agent.kill9()?;
    ensure!(is_closed(&scene, WEB)?, "nobody should answer for an agent that is gone");
    let _agent = Agent::start(node)?;
    expect(&await_status(&scene, WEB, 200)?, "web", 1, true)
}

/// Somebody else has the port: said of this Service, tried again; the other one is not touched.
#[test]
fn s15_a_taken_port_is_told_and_had_once_it_is_free() -> Result<()> {
    let scene = Appliance::new()?;
    let taken = scene.vm.ns().run(|| Ok(TcpListener::bind(("127.0.0.1", WEB))?))?;
    service(&scene, "shop", 11, SHOP, READY)?;
    let agent = Agent::start(&scene.vm)?;
    await_status(&scene, SHOP, 200)?;
    let problem = |name: &str| -> Result<String> {
        // Before the agent has read its manifest there is no such Service.
        let shown = agent.cli(&["service", "show", name, "-o", "json"])?.succeeded();
        let shown: Value = shown.map_or(Ok(Value::Null), |text| serde_json::from_str(&text))?;
        Ok(shown[0]["conditions"].to_string())
    };
    // A request that is under way while the other Service comes.
    let mut half = scene.vm.ns().run(|| Ok(TcpStream::connect(("127.0.0.1", SHOP))?))?;
    half.write_all(b"GET / HTTP/1.1\r\n")?;
    service(&scene, "web", 10, WEB, READY)?;
    eventually("the problem to be told", PATIENCE, || {
        Ok(problem("web")?.contains(&format!("health check port {WEB} is not served")))
    })?;
    half.write_all(b"Host: node\r\n\r\n")?;
    let mut text = String::new();
    half.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    ensure!(problem("shop")? == "[]", "{}", problem("shop")?);
    let status = agent.json(&["status"])?;
    ensure!(status["health"] == "degraded" && status["problems"].to_string().contains("default/web"));
    expect(&await_status(&scene, SHOP, 200)?, "shop", 1, true)?;
    drop(taken);
    expect(&await_status(&scene, WEB, 200)?, "web", 1, true)?;
    eventually("the problem to go", PATIENCE, || Ok(problem("web")? == "[]"))?;
    eventually("health", PATIENCE, || Ok(agent.json(&["status"])?["health"] == "ok"))
}

/// Clients that say nothing do not keep others waiting for long, and are sent away.
#[test]
fn s15_silent_clients_are_sent_away() -> Result<()> {
    let scene = Appliance::new()?;
    service(&scene, "web", 10, WEB, READY)?;
    let _agent = Agent::start(&scene.vm)?;
    await_status(&scene, WEB, 200)?;
    let address = SocketAddr::new(scene.vm.port("Port2").address.v4.into(), WEB);
    let silent: Vec<TcpStream> = scene.lab.ns("intsw").run(|| {
        (0..CROWD).map(|_| Ok(TcpStream::connect_timeout(&address, TIMEOUT)?)).collect::<Result<_>>()
    })?;
    thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    let answer = http(&scene.lab.ns("intsw"), address, "/", Duration::from_secs(10))?;
    ensure!(answer.status == 200, "{answer:?}");
    println!(
        "MEASURED a health check behind {CROWD} silent clients is answered after {:.1?}",
        begin.elapsed()
    );
    for mut client in silent {
        client.set_read_timeout(Some(Duration::from_secs(8)))?;
        ensure!(matches!(client.read(&mut [0; 1024]), Ok(0)), "a silent client was kept or answered");
    }
    Ok(())
}

/// A node that has no room for the Service does not ask for its clients.
#[test]
fn s15_a_service_without_room_in_the_maps_is_not_healthy() -> Result<()> {
    let scene = Appliance::new()?;
    service(&scene, "web", 10, WEB, READY)?;
    let node = Node::from(&scene.vm);
    node.configure("limits: {slots: 2}")?;
    let _agent = Agent::start(node)?;
    expect(&await_status(&scene, WEB, 503)?, "web", 1, false)
}
