//! The router of the API before an agent that has nothing but its routes.

use axum::body::Body;
use axum::http::{Method, Request as HttpRequest, StatusCode};
use http_body_util::BodyExt;
use netroute_user::agent::sources::{Change, Sources};
use netroute_user::api::request::{Refusal, Reply, Request};
use netroute_user::api::server::router;
use netroute_user::api::types::{ImportView, RouteEntry, RouteView, State};
use netroute_user::desired::interface::{DeviceRef, Interface, Role};
use netroute_user::desired::route::CustomRoute;
use tokio::sync::mpsc;
use tower::ServiceExt;

/// What a request came to.
pub struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

/// The agent's side.
pub struct Agent {
    pub sources: Sources,
    interfaces: Vec<Interface>,
}

impl Default for Agent {
    fn default() -> Self {
        let interface = |alias: &str, device: &str, role| Interface {
            alias: alias.to_owned(),
            device: DeviceRef::Name(device.to_owned()),
            role,
        };
        let interfaces =
            vec![interface("Port2", "eth0", Role::Internal), interface("Port3", "eth1", Role::External)];
        Self { sources: Sources::default(), interfaces }
    }
}

impl Agent {
    /// One request through the router; `None` if it is none.
    pub async fn serve(&mut self, method: &str, uri: &str, body: &[u8]) -> Option<Answer> {
        let request = HttpRequest::builder()
            .method(Method::from_bytes(method.as_bytes()).ok()?)
            .uri(uri)
            .header("content-type", "application/json")
            .body(Body::from(body.to_vec()))
            .ok()?;
        let (sender, mut receiver) = mpsc::channel(1);
        let client = async move {
            let response = router(sender, None).oneshot(request).await.expect("the router answers");
            let status = response.status();
            let body = response.into_body().collect().await.expect("a body in memory");
            Answer { status, body: body.to_bytes().to_vec() }
        };
        let agent = async {
            while let Some(request) = receiver.recv().await {
                self.on(request);
            }
        };
        let (answer, ()) = tokio::join!(client, agent);
        Some(answer)
    }

    /// As the agent does it: on a copy, which counts only if all went well.
    fn on(&mut self, request: Request) {
        match request {
            Request::AddRoute { route, reply } => {
                let answer = self.change(Change::Set(vec![route.clone()])).map(|_| view(&route));
                let _ = reply.send(answer);
            }
            Request::ImportRoutes { routes, reply } => {
                let _ = reply.send(self.change(Change::Set(routes)));
            }
            Request::RemoveRoute { destination, interface, next_hop, reply } => {
                let answer = self.change(Change::Remove { destination, interface, next_hop });
                let _ = reply.send(answer.map(|_| Vec::new()));
            }
            Request::ListRoutes { reply, .. } => {
                let _ = reply.send(Ok(self.sources.cli.values().map(view).collect()));
            }
            Request::ExportRoutes { reply, .. } => {
                let _ = reply.send(Ok(self.sources.cli.values().map(RouteEntry::from).collect()));
            }
            Request::RouteGet { reply, .. } => refuse(reply),
            Request::NextHops { reply } => drop(reply.send(Ok(Vec::new()))),
            Request::Services { reply, .. } => refuse(reply),
            Request::Egress { reply, .. } => refuse(reply),
            Request::Explain { reply, .. } => refuse(reply),
            Request::Flows { reply, .. } => refuse(reply),
            Request::FlushFlows { reply, .. } => refuse(reply),
            Request::Drops { reply } => drop(reply.send(Ok(Vec::new()))),
            Request::Status { reply } => refuse(reply),
            Request::Doctor { reply } => refuse(reply),
            Request::Diff { reply } => refuse(reply),
            Request::Metrics { reply } => refuse(reply),
            Request::Detach { reply } => refuse(reply),
        }
    }

    fn change(&mut self, change: Change) -> Result<ImportView, Refusal> {
        let mut sources = self.sources.clone();
        let touched = sources.apply(&change, &self.interfaces).map_err(Refusal::new)?;
        self.sources = sources;
        let count = |number: usize| number as u32;
        Ok(ImportView {
            added: count(touched.added.len()),
            changed: count(touched.changed.len()),
            unchanged: count(touched.unchanged),
        })
    }
}

fn refuse<T>(reply: Reply<T>) {
    let _ = reply.send(Err(Refusal::new("not in this agent")));
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
