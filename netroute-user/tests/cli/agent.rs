//! The agent's side of the socket: the real server over an in-memory route list, a Service and a flow.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Output;

use netroute_user::api::request::{Refusal, Request};
use netroute_user::api::types::{
    FlowState, FlowView, FlowsView, FlushView, ImportView, RouteEntry, RouteView, ServiceView, State,
};
use netroute_user::api::{server, socket};
use netroute_user::desired::route::{CustomRoute, RouteKey};
use tokio::sync::{mpsc, oneshot};

use super::netroute;

/// Serves until dropped.
pub struct Agent {
    pub directory: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Agent {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("netroute.sock");
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = socket::bind(&path).unwrap();
                ready.send(()).unwrap();
                let (sender, requests) = mpsc::channel(8);
                let routes = tokio::spawn(answer(requests));
                let shutdown = async move {
                    let _ = stopped.await;
                };
                server::serve(listener, sender, None, shutdown).await.unwrap();
                routes.await.unwrap();
            });
        });
        is_ready.recv().unwrap();
        Self { directory, stop: Some(stop), thread: Some(thread) }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("netroute.sock")
    }

    pub fn run(&self, line: &[&str]) -> Output {
        netroute(line).env("NETROUTE_SOCKET", self.socket()).output().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let result = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

async fn answer(mut requests: mpsc::Receiver<Request>) {
    let mut routes: BTreeMap<RouteKey, CustomRoute> = BTreeMap::new();
    while let Some(request) = requests.recv().await {
        match request {
            Request::AddRoute { route, reply } => {
                let view = view(&route);
                routes.insert(route.key.clone(), route);
                let _ = reply.send(Ok(view));
            }
            Request::ListRoutes { interface, reply, .. } => {
                let takes = |route: &&CustomRoute| {
                    interface.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(&route.key.interface))
                };
                let _ = reply.send(Ok(routes.values().filter(takes).map(view).collect()));
            }
            Request::RemoveRoute { destination, interface, next_hop, reply } => {
                let wanted = |key: &RouteKey| {
                    key.destination == destination
                        && key.interface == interface
                        && next_hop.is_none_or(|address| address == key.next_hop)
                };
                let gone: Vec<_> =
                    routes.iter().filter(|(key, _)| wanted(key)).map(|(_, r)| view(r)).collect();
                routes.retain(|key, _| !wanted(key));
                let none = Refusal::new(format!("there is no route to {destination} on {interface}"));
                let _ = reply.send(if gone.is_empty() { Err(none) } else { Ok(gone) });
            }
            Request::ImportRoutes { routes: new, reply } => {
                let before = routes.len();
                let total = new.len();
                routes.extend(new.into_iter().map(|route| (route.key.clone(), route)));
                let added = routes.len() - before;
                let number = |n: usize| u32::try_from(n).unwrap();
                let view = ImportView { added: number(added), changed: 0, unchanged: number(total - added) };
                let _ = reply.send(Ok(view));
            }
            Request::ExportRoutes { reply, .. } => {
                let _ = reply.send(Ok(routes.values().map(RouteEntry::from).collect()));
            }
            Request::Services { filter, reply } => {
                let none = Refusal::new("there is no Service shop/db");
                let _ = reply.send(match filter.name.as_deref() {
                    Some("db") => Err(none),
                    _ => Ok(vec![service(filter.namespace.as_deref().unwrap_or("default"))]),
                });
            }
            Request::Flows { filter, limit, reply } => {
                let taken = filter.state != Some(FlowState::Reset);
                let flows = if taken { vec![flow(); limit.min(1)] } else { Vec::new() };
                let _ = reply.send(Ok(FlowsView { flows, total: if taken { 3 } else { 0 } }));
            }
            Request::FlushFlows { filter, reply } => {
                let removed = if filter.service.is_none() && filter.client.is_none() { 3 } else { 1 };
                let known =
                    filter.service.as_ref().is_none_or(|service| service.to_string() == "default/web");
                let unknown = Refusal::new("no Service shop/web is served");
                let _ = reply.send(if known { Ok(FlushView { removed }) } else { Err(unknown) });
            }
            Request::Drops { reply } => {
                let _ = reply.send(Ok(Vec::new()));
            }
            other => panic!("not asked for in these tests: {other:?}"),
        }
    }
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
        packets: 0,
        bytes: 0,
    }
}

fn service(namespace: &str) -> ServiceView {
    ServiceView {
        namespace: namespace.to_owned(),
        name: "web".to_owned(),
        kind: "ClusterIP".to_owned(),
        port: 80,
        port_name: String::new(),
        protocol: "TCP".to_owned(),
        front_ends: Vec::new(),
        endpoints: Vec::new(),
        packets: 7,
        bytes: 9,
        new_flows: 1,
        no_endpoint: 0,
        conditions: Vec::new(),
        refused: None,
    }
}

fn flow() -> FlowView {
    FlowView {
        protocol: "TCP".to_owned(),
        client: "10.0.0.1:40000".parse().unwrap(),
        front_end: "10.96.0.10:80".parse().unwrap(),
        endpoint: "10.244.1.5:8080".parse().unwrap(),
        masquerade: None,
        service: "default/web".to_owned(),
        policy: String::new(),
        state: FlowState::Established,
        packets: 1,
        bytes: 2,
        reply_packets: 3,
        reply_bytes: 4,
        idle_seconds: 5,
    }
}
