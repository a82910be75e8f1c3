//! Server and client against each other, over a real socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::client::{Client, ClientError};
use super::request::{Refusal, Request};
use super::types::{ImportView, RouteEntry, RouteView, State};
use super::{server, socket};
use crate::desired::route::{CustomRoute, Probe, ProbeKind};

const PROBE: Probe = Probe { kind: ProbeKind::Echo, interval: Duration::from_secs(1), threshold: 3 };

struct Agent {
    _directory: tempfile::TempDir,
    socket: PathBuf,
    requests: mpsc::Receiver<Request>,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

fn agent() -> Agent {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("run/netroute.sock");
    let (sender, requests) = mpsc::channel(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = socket::bind(&socket).unwrap();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let served = tokio::spawn(server::serve(listener, sender, Some(PROBE), shutdown));
    Agent { _directory: directory, socket, requests, stop, served }
}

fn view(route: &CustomRoute) -> RouteView {
    RouteView {
        destination: route.key.destination,
        next_hop: Some(route.key.next_hop),
        interface: route.key.interface.clone(),
        metric: route.metric,
        weight: route.weight,
        state: State::Active,
        reason: String::new(),
        origin: route.origin.to_string(),
        packets: 1,
        bytes: 2,
    }
}

fn entry(destination: &str) -> RouteEntry {
    RouteEntry {
        destination: destination.into(),
        next_hop: "192.168.20.1".into(),
        interface: "Port 3 & more".into(),
        metric: None,
        weight: None,
        force: true,
    }
}

#[tokio::test]
async fn a_route_goes_to_the_agent_and_its_view_comes_back() {
    let mut agent = agent();
    let client = Client::new(&agent.socket);
    let loop_ = tokio::spawn(async move {
        let Some(Request::AddRoute { route, reply }) = agent.requests.recv().await else { panic!("add") };
        reply.send(Ok(view(&route))).unwrap();
        let Some(Request::ListRoutes { interface, all, reply }) = agent.requests.recv().await else {
            panic!("list")
        };
        assert_eq!((interface.as_deref(), all), (Some("Port 3 & more"), true));
        reply.send(Ok(vec![view(&route)])).unwrap();
        route
    });
    let added = client.add(&entry("192.168.20.0/24")).await.unwrap();
    let listed = client.routes(Some("Port 3 & more"), true).await.unwrap();
    assert_eq!(listed, [added]);
    let route = loop_.await.unwrap();
    assert_eq!((route.metric, route.forced, route.probe), (256, true, Some(PROBE)));
}

#[tokio::test]
async fn refusals_come_back_as_they_were_said() {
    let mut agent = agent();
    let client = Client::new(&agent.socket);
    let message = |result: Result<RouteView, ClientError>| match result {
        Err(ClientError::Refused(message)) => message,
        other => panic!("{other:?}"),
    };
    let refused = message(client.add(&entry("192.168.20.7/24")).await);
    assert!(refused.starts_with("destination: 192.168.20.7/24 has host bits set"), "{refused}");
    let loop_ = tokio::spawn(async move {
        let Some(Request::AddRoute { reply, .. }) = agent.requests.recv().await else { panic!("add") };
        reply.send(Err(Refusal::new("Port3 is a port of br0"))).unwrap();
        agent
    });
    assert_eq!(message(client.add(&entry("10.0.0.0/8")).await), "Port3 is a port of br0");
    let mut agent = loop_.await.unwrap();
    agent.requests.close();
    let stopping = client.add(&entry("10.0.0.0/8")).await.unwrap_err();
    assert!(
        matches!(&stopping, ClientError::NotServing(message) if message.contains("stopping")),
        "{stopping}"
    );
}

#[tokio::test]
async fn an_agent_that_is_starting_is_told_apart_from_one_that_refuses() {
    let mut agent = agent();
    let client = Client::new(&agent.socket);
    tokio::spawn(async move {
        let request = agent.requests.recv().await.unwrap();
        request.refuse(Refusal::starting("the agent is starting: maps are filled"));
    });
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::NotServing(_)), "{error:?}");
    let failure = crate::cli::failure::Failure::from(error);
    assert_eq!(failure.to_string(), "the agent is starting: maps are filled");
    assert_eq!(failure.status(), std::process::ExitCode::from(3));
}

#[tokio::test]
async fn an_import_arrives_whole_or_not_at_all() {
    let mut agent = agent();
    let client = Client::new(&agent.socket);
    let entries: Vec<_> = (0..2500).map(|n| entry(&format!("10.{}.{}.0/24", n / 256, n % 256))).collect();
    let (sent, mut chunks) = mpsc::unbounded_channel();
    let loop_ = tokio::spawn(async move {
        let Some(Request::ImportRoutes { routes, reply }) = agent.requests.recv().await else {
            panic!("import")
        };
        reply.send(Ok(ImportView { added: 2500, changed: 0, unchanged: 0 })).unwrap();
        (routes.len(), agent)
    });
    let view = client.import(entries.clone(), move |n| sent.send(n).unwrap()).await.unwrap();
    assert_eq!(view.added, 2500);
    let (routes, mut agent) = loop_.await.unwrap();
    assert_eq!(routes, 2500);
    let mut progress = Vec::new();
    while let Some(n) = chunks.recv().await {
        progress.push(n);
    }
    assert_eq!(progress, [1000, 1000, 500]);
    let twice = entries.iter().take(2).chain(entries.iter().take(1)).cloned().collect();
    let error = client.import(twice, |_| {}).await.unwrap_err();
    assert_eq!(error.to_string(), "route 3: the same route is there twice");
    assert!(agent.requests.try_recv().is_err(), "nothing reached the agent");
}

#[tokio::test]
async fn no_agent_is_told_apart_from_a_refusal() {
    let error = Client::new(Path::new("/nonexistent/netroute.sock")).status().await.unwrap_err();
    assert!(matches!(error, ClientError::NoAgent { .. }), "{error}");
}

#[tokio::test]
async fn a_live_socket_is_refused_and_a_stale_one_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let agent = agent();
    let mode = std::fs::metadata(&agent.socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    let error = socket::bind(&agent.socket).unwrap_err();
    assert!(error.to_string().starts_with("another agent answers at "), "{error}");
    agent.stop.send(()).unwrap();
    agent.served.await.unwrap().unwrap();
    assert!(agent.socket.exists(), "left behind, as after kill -9");
    drop(socket::bind(&agent.socket).unwrap());
    std::fs::remove_file(&agent.socket).unwrap();
    std::fs::write(&agent.socket, "text").unwrap();
    assert!(socket::bind(&agent.socket).unwrap_err().to_string().contains("not a socket"));
}
