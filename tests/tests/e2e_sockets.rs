//! Services at the sockets of processes of the node and of its pods: no packet is translated
//! (S3, S5, S6, S9, S10, S12, S13, S17, S18, N14).

mod sockets;

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netroute_tests::{
    agent::{Agent, eventually},
    netns::Netns,
    traffic::Connection,
};

use sockets::{
    BALANCER, CLUSTER, Datagrams, ECHO, ECHO_NODE_PORT, Endpoint, PATIENCE, Sample, Scene, TARGET, TIMEOUT,
    mapped, refused_at, spread,
};

/// Of a measurement.
const ROUNDS: usize = 21;

/// What a socket of either family names: the front end as it is, and IPv4 ones as IPv6 too.
fn names(address: IpAddr, port: u16) -> Vec<SocketAddr> {
    let mut names = vec![SocketAddr::new(address, port)];
    names.extend(mapped(address).map(|address| SocketAddr::new(address, port)));
    names
}

/// A connection to the front end works, and both calls that name the peer name the front end.
fn reaches(ns: &Netns, server: SocketAddr) -> Result<()> {
    let mut echo = Connection::open(ns, server, TIMEOUT)?;
    let peer = echo.peer_addr()?;
    ensure!(peer == server, "{ns} is connected to {server}, and getpeername says {peer}");
    echo.exchange(20_000).with_context(|| format!("{ns} to {server}"))?;
    Ok(())
}

/// The same for datagrams, by sockets that are connected and by ones that are not.
fn asks(ns: &Netns, server: SocketAddr) -> Result<()> {
    for connected in [false, true] {
        let socket = Datagrams::open(ns, server)?;
        let from = if connected { socket.connected(server)? } else { socket.unconnected(server)? };
        ensure!(from == server, "{ns} asked {server} (connected: {connected}) and was answered by {from}");
    }
    Ok(())
}

/// The external address of a Local Service, without an endpoint here: by the set of the whole cluster.
#[test]
fn s5_s13_the_node_reaches_every_front_end() -> Result<()> {
    let Some(scene) = Scene::new(&[Endpoint::Pod(1, 0)])? else { return Ok(()) };
    let node = scene.master.ns();
    for address in CLUSTER.both().into_iter().chain(BALANCER.both()) {
        for name in names(address, ECHO) {
            reaches(node, name)?;
            asks(node, name)?;
        }
    }
    for address in scene.master.port("Port2").address.both() {
        for name in names(address, ECHO_NODE_PORT) {
            reaches(node, name)?;
            asks(node, name)?;
        }
    }
    ensure!(refused_at(node, "127.0.0.1:30007".parse()?)?, "a node port on loopback");
    scene.ensure_no_flows()
}

/// Endpoints in a pod of this node, of the other, and in the node's own network.
#[test]
fn s9_s10_pods_and_nodes_reach_endpoints_everywhere() -> Result<()> {
    for endpoint in [Endpoint::Pod(0, 1), Endpoint::Pod(1, 0), Endpoint::Node(0), Endpoint::Node(1)] {
        let Some(scene) = Scene::new(&[endpoint])? else { return Ok(()) };
        for ns in [scene.master.ns(), &scene.master.pods()[0].ns] {
            for address in CLUSTER.both() {
                for name in names(address, ECHO) {
                    reaches(ns, name).with_context(|| format!("{endpoint:?}"))?;
                    // A server of datagrams on a node that listens at all its addresses answers from any.
                    if let Endpoint::Pod(..) = endpoint {
                        asks(ns, name).with_context(|| format!("{endpoint:?}"))?;
                    }
                }
            }
        }
        scene.ensure_no_flows()?;
        ensure!(scene.new_flows()? >= 6, "not counted");
    }
    Ok(())
}

/// A pod that is its own endpoint.
#[test]
fn s17_a_pod_reaches_itself_at_the_socket() -> Result<()> {
    let Some(scene) = Scene::new(&[Endpoint::Pod(0, 0)])? else { return Ok(()) };
    for address in CLUSTER.both() {
        reaches(&scene.master.pods()[0].ns, (address, ECHO).into())?;
        asks(&scene.master.pods()[0].ns, (address, ECHO).into())?;
    }
    scene.ensure_no_flows()
}

/// Refused in the call itself: no endpoint, no such port, no such address.
#[test]
fn s3_s6_what_leads_nowhere_is_refused_at_once() -> Result<()> {
    let Some(scene) = Scene::new(&[])? else { return Ok(()) };
    for ns in [scene.master.ns(), &scene.master.pods()[0].ns] {
        for address in CLUSTER.both().into_iter().chain(BALANCER.both()) {
            for server in names(address, ECHO).into_iter().chain(names(address, 4444)) {
                let begin = Instant::now();
                ensure!(refused_at(ns, server)?, "{ns} to {server}: not refused");
                let socket = Datagrams::open(ns, server)?;
                for error in [socket.unconnected(server), socket.connected(server)].map(Result::err) {
                    let error = error.context("a datagram was taken")?;
                    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                    ensure!(kind == Some(ErrorKind::ConnectionRefused), "{server}: {error:#}");
                }
                ensure!(begin.elapsed() < Duration::from_millis(200), "took {:?}", begin.elapsed());
            }
        }
        ensure!(refused_at(ns, "10.96.7.7:80".parse()?)?, "an address that no Service has");
    }
    Ok(())
}

/// Whoever has no address of his own yet is known by his network.
#[test]
fn s12_clients_stay_with_their_endpoint() -> Result<()> {
    let endpoints = [Endpoint::Pod(0, 1), Endpoint::Pod(1, 0), Endpoint::Pod(1, 1)];
    let Some(scene) = Scene::with(&endpoints, "sessionAffinity: ClientIP")? else { return Ok(()) };
    for ns in [scene.master.ns(), &scene.master.pods()[0].ns] {
        for address in CLUSTER.both() {
            let before = scene.sent()?;
            for _ in 0..20 {
                let open = ns.run(|| Ok(TcpStream::connect_timeout(&(address, ECHO).into(), TIMEOUT)?))?;
                drop(open);
            }
            let after = scene.sent()?;
            let used = before.iter().zip(&after).filter(|&(before, after)| after - before > 20).count();
            ensure!(used == 1, "{ns} was sent to {used} endpoints at {address}: {before:?} {after:?}");
        }
    }
    Ok(())
}

/// Datagrams of one socket stay with one endpoint, and go to another when that is gone.
#[test]
fn s18_datagrams_move_on_when_their_endpoint_is_gone() -> Result<()> {
    let endpoints = [Endpoint::Pod(0, 1), Endpoint::Pod(1, 0)];
    let Some(scene) = Scene::new(&endpoints)? else { return Ok(()) };
    let pod = &scene.master.pods()[0].ns;
    for address in CLUSTER.both() {
        let server = SocketAddr::from((address, ECHO));
        let socket = Datagrams::open(pod, server)?;
        let before = scene.sent()?;
        for _ in 0..20 {
            ensure!(socket.unconnected(server)? == server);
        }
        let after = scene.sent()?;
        let used: Vec<usize> = (0..2).filter(|&place| after[place] >= before[place] + 20).collect();
        ensure!(used.len() == 1, "not one endpoint: {before:?} {after:?}");
        let rest = endpoints[1 - used[0]];
        scene.set(&[rest])?;
        eventually("datagrams to go to the other", PATIENCE, || {
            ensure!(socket.unconnected(server)? == server);
            let now = scene.sent()?;
            Ok(now[1 - used[0]] > after[1 - used[0]] + 20)
        })?;
        scene.set(&endpoints)?;
        eventually("the endpoint to be back", PATIENCE, || Ok(scene.used()? == 2))?;
    }
    scene.ensure_no_flows()
}

/// Killed, started again, and taken off.
#[test]
fn n14_the_translation_outlives_the_agent() -> Result<()> {
    let Some(mut scene) = Scene::new(&[Endpoint::Pod(1, 0)])? else { return Ok(()) };
    let node = scene.master.ns().clone();
    let server = SocketAddr::from((CLUSTER.both()[0], ECHO));
    let mut open = Connection::open(&node, server, TIMEOUT)?;
    let datagrams = Datagrams::open(&node, server)?;
    datagrams.unconnected(server)?;
    let programs = scene.programs()?;
    ensure!(programs.len() == 8 && programs.iter().all(|&id| id > 0), "{programs:?}");
    for _ in 0..2 {
        let killed = scene.agents.remove(0).kill9()?;
        reaches(&node, server).context("without an agent")?;
        scene.agents.insert(0, Agent::start(killed)?);
        reaches(&node, server).context("with a new agent")?;
        ensure!(open.peer_addr()? == server, "the new agent forgot whom a socket is connected to");
        ensure!(datagrams.unconnected(server)? == server);
        open.exchange(20_000).context("a connection was cut")?;
        let now = scene.programs()?;
        ensure!(now.len() == 8 && now.iter().all(|id| !programs.contains(id)), "not replaced: {now:?}");
    }
    let ended = scene.agents.remove(0).stop()?;
    reaches(&node, server).context("after the agent was stopped")?;
    ended.cli(&["detach", "--config", &ended.config.display().to_string()])?.succeeded()?;
    ensure!(open.peer_addr()? != server, "still translated");
    ensure!(reaches(&node, server).is_err(), "still translated");
    open.exchange(20_000).context("a connection was cut by taking programs off")?;
    Ok(())
}

/// A pod's connection to another by the Service's address, against one to that pod itself, in turns.
#[test]
fn measured_a_translated_connection_costs_nothing() -> Result<()> {
    let Some(scene) = Scene::new(&[Endpoint::Pod(0, 1)])? else { return Ok(()) };
    let pod = &scene.master.pods()[0].ns;
    let direct = SocketAddr::from((scene.master.pods()[1].address.both()[0], TARGET));
    let service = SocketAddr::from((CLUSTER.both()[0], ECHO));
    let mut samples = [const { Vec::new() }; 2];
    for round in 0..ROUNDS {
        for place in [round % 2, 1 - round % 2] {
            samples[place].push(Sample::take(pod, [direct, service][place])?);
        }
    }
    let of = |what: fn(&Sample) -> f64| {
        let [plain, translated] = samples.each_ref().map(|taken| spread(taken.iter().map(what).collect()));
        (translated.0 / plain.0, translated.1 / plain.1, plain.0, translated.0)
    };
    let (turn, bulk, connect) = (of(|one| one.turn), of(|one| one.bulk), of(|one| one.connect));
    println!(
        "MEASURED pod to pod by the Service's address against directly, best (median) of {ROUNDS} in turns: time \
         of a small exchange {:.3} ({:.3}), of a transfer {:.3} ({:.3}), of connecting {:.3} ({:.3}; {:.1} us, \
         {:.1} us)",
        turn.0,
        turn.1,
        bulk.0,
        bulk.1,
        connect.0,
        connect.1,
        connect.2 * 1e6,
        connect.3 * 1e6
    );
    scene.ensure_no_flows()?;
    // The target is 2 %; on a machine with other work this can only tell what is plainly wrong.
    ensure!(turn.0 < 1.5 && bulk.0 < 1.5, "slower once connected: {turn:?} {bulk:?}");
    Ok(())
}

/// The agent runs without, and says what is wrong and what to do; it serves sockets when it can.
#[test]
fn a_group_that_is_not_there_is_no_reason_to_end() -> Result<()> {
    let Some(mut scene) = Scene::new(&[Endpoint::Pod(1, 0)])? else { return Ok(()) };
    let node = scene.agents.remove(0).stop()?;
    let group = scene.group.path().join("later");
    node.reconfigure(&scene.group.path().display().to_string(), &group.display().to_string())?;
    let agent = Agent::start(node)?;
    let (finding, complains) = agent.doctor("sockets")?.pop().context("no such check")?;
    ensure!(complains && finding.contains("later cannot be opened"), "{finding}");
    ensure!(agent.json(&["status"])?["health"] == "degraded");
    std::fs::create_dir(&group)?;
    eventually("sockets to be served", PATIENCE, || Ok(!agent.doctor("sockets")?[0].1))?;
    drop(agent);
    std::fs::remove_dir(&group)?;
    Ok(())
}
