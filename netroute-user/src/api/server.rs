//! Answers HTTP requests by asking the agent.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::path;
use super::request::{FlowFilter, Refusal, Reply, Request, Requests, ServiceFilter};
use super::types::{ErrorView, FlowState, RouteEntry};
use crate::desired::route::{CustomRoute, Origin, Probe, RouteKey};
use crate::desired::service::ServiceKey;
use crate::explain::query::Query as Question;
use crate::input::address::{LeadingZeros, parse_address, parse_prefix};
use crate::input::objects::NetRouteSpec;

/// Largest import, bytes: about a million routes.
const LARGEST_IMPORT: usize = 256 << 20;

#[derive(Clone)]
struct Context {
    requests: Requests,
    default_probe: Option<Probe>,
}

/// Serves until `shutdown` is ready and the answers under way are sent. `default_probe` is for
/// routes that name none.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: UnixListener,
    requests: Requests,
    default_probe: Option<Probe>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(requests, default_probe)).with_graceful_shutdown(shutdown).await
}

/// The API without a socket.
pub fn router(requests: Requests, default_probe: Option<Probe>) -> Router {
    let context = Context { requests, default_probe };
    Router::new()
        .route(path::ROUTES, get(list).post(add).delete(remove))
        .route(path::IMPORT, post(import).layer(DefaultBodyLimit::max(LARGEST_IMPORT)))
        .route(path::EXPORT, get(export))
        .route(path::ROUTE_GET, get(route_get))
        .route(path::NEXT_HOPS, get(|s: Ctx| ask(s, |reply| Request::NextHops { reply })))
        .route(path::DROPS, get(|s: Ctx| ask(s, |reply| Request::Drops { reply })))
        .route(path::SERVICES, get(services))
        .route(path::EGRESS, get(egress))
        .route(path::EXPLAIN, get(explain))
        .route(path::FLOWS, get(flows).delete(flush_flows))
        .route(path::STATUS, get(|s: Ctx| ask(s, |reply| Request::Status { reply })))
        .route(path::DOCTOR, get(|s: Ctx| ask(s, |reply| Request::Doctor { reply })))
        .route(path::DIFF, get(|s: Ctx| ask(s, |reply| Request::Diff { reply })))
        .route(path::DETACH, post(|s: Ctx| ask(s, |reply| Request::Detach { reply })))
        .with_state(context)
}

type Ctx = State<Context>;
type Answer<T> = Result<Json<T>, Failure>;

enum Failure {
    Refused(Refusal),
    /// The agent is on its way out.
    Gone,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Refused(Refusal::new(error))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::Refused(Refusal { message, starting: true }) => (StatusCode::SERVICE_UNAVAILABLE, message),
            Self::Refused(Refusal { message, starting: false }) => {
                (StatusCode::UNPROCESSABLE_ENTITY, message)
            }
            Self::Gone => {
                let message = "the agent is stopping; try again when it runs".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, message)
            }
        };
        (status, Json(ErrorView { message })).into_response()
    }
}

async fn ask<T: Serialize>(State(context): Ctx, request: impl FnOnce(Reply<T>) -> Request) -> Answer<T> {
    let (reply, answer) = oneshot::channel();
    context.requests.send(request(reply)).await.map_err(|_| Failure::Gone)?;
    match answer.await {
        Ok(Ok(value)) => Ok(Json(value)),
        Ok(Err(refusal)) => Err(Failure::Refused(refusal)),
        Err(_) => Err(Failure::Gone),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListQuery {
    interface: Option<String>,
    #[serde(default)]
    all: bool,
}

async fn list(context: Ctx, Query(query): Query<ListQuery>) -> Answer<impl Serialize> {
    let ListQuery { interface, all } = query;
    ask(context, |reply| Request::ListRoutes { interface, all, reply }).await
}

async fn add(context: Ctx, Json(entry): Json<RouteEntry>) -> Answer<impl Serialize> {
    let route = entry.route(context.default_probe)?;
    ask(context, |reply| Request::AddRoute { route, reply }).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RemoveQuery {
    destination: String,
    interface: String,
    next_hop: Option<String>,
}

async fn remove(context: Ctx, Query(query): Query<RemoveQuery>) -> Answer<impl Serialize> {
    let RemoveQuery { destination, interface, next_hop } = query;
    let destination = parse_prefix(&destination, LeadingZeros::Refused)?;
    let next_hop = next_hop.map(|text| parse_address(&text, LeadingZeros::Refused)).transpose()?;
    ask(context, |reply| Request::RemoveRoute { destination, interface, next_hop, reply }).await
}

/// One [`RouteEntry`] as JSON per line.
async fn import(context: Ctx, body: Bytes) -> Answer<impl Serialize> {
    let mut routes: BTreeMap<RouteKey, CustomRoute> = BTreeMap::new();
    for (number, line) in (1..).zip(body.split(|&byte| byte == b'\n')) {
        if line.is_empty() {
            continue;
        }
        let refused = |error: &dyn std::error::Error| {
            Failure::Refused(Refusal::new(format!("route {number}: {error}")))
        };
        let entry: RouteEntry = serde_json::from_slice(line).map_err(|error| refused(&error))?;
        let route = entry.route(context.default_probe).map_err(|error| refused(&error))?;
        let key = route.key.clone();
        if routes.insert(key, route).is_some() {
            return Err(Failure::Refused(Refusal::new(format!(
                "route {number}: the same route is there twice"
            ))));
        }
    }
    let routes = routes.into_values().collect();
    ask(context, |reply| Request::ImportRoutes { routes, reply }).await
}

#[derive(Deserialize)]
struct ExportQuery {
    #[serde(default)]
    all: bool,
}

async fn export(context: Ctx, Query(ExportQuery { all }): Query<ExportQuery>) -> Answer<Vec<RouteEntry>> {
    ask(context, |reply| Request::ExportRoutes { all, reply }).await
}

#[derive(Deserialize)]
struct RouteGetQuery {
    address: IpAddr,
    from: Option<IpAddr>,
}

async fn route_get(context: Ctx, Query(query): Query<RouteGetQuery>) -> Answer<impl Serialize> {
    let RouteGetQuery { address, from } = query;
    ask(context, |reply| Request::RouteGet { address, from, reply }).await
}

#[derive(Deserialize)]
struct ServicesQuery {
    namespace: Option<String>,
    name: Option<String>,
}

async fn services(context: Ctx, Query(query): Query<ServicesQuery>) -> Answer<impl Serialize> {
    let ServicesQuery { namespace, name } = query;
    let filter = ServiceFilter { namespace, name };
    ask(context, |reply| Request::Services { filter, reply }).await
}

#[derive(Deserialize)]
struct EgressQuery {
    name: Option<String>,
}

async fn egress(context: Ctx, Query(query): Query<EgressQuery>) -> Answer<impl Serialize> {
    let EgressQuery { name } = query;
    ask(context, |reply| Request::Egress { name, reply }).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExplainQuery {
    from: String,
    to: String,
    source_port: Option<u16>,
    interface: Option<String>,
}

async fn explain(context: Ctx, Query(query): Query<ExplainQuery>) -> Answer<impl Serialize> {
    let ExplainQuery { from, to, source_port, interface } = query;
    let query = Question::parse(&from, &to, source_port, interface)?;
    ask(context, |reply| Request::Explain { query, reply }).await
}

#[derive(Deserialize)]
struct FlowsQuery {
    service: Option<String>,
    client: Option<IpAddr>,
    state: Option<FlowState>,
    #[serde(default = "most_flows")]
    limit: usize,
}

const fn most_flows() -> usize {
    super::MOST_FLOWS
}

async fn flows(context: Ctx, Query(query): Query<FlowsQuery>) -> Answer<impl Serialize> {
    let FlowsQuery { service, client, state, limit } = query;
    let filter = FlowFilter { service: service.as_deref().map(service_key), client, state };
    ask(context, |reply| Request::Flows { filter, limit, reply }).await
}

#[derive(Deserialize)]
struct FlushQuery {
    service: Option<String>,
    client: Option<IpAddr>,
    #[serde(default)]
    all: bool,
}

async fn flush_flows(context: Ctx, Query(query): Query<FlushQuery>) -> Answer<impl Serialize> {
    let FlushQuery { service, client, all } = query;
    if service.is_none() && client.is_none() && !all {
        return Err(Failure::Refused(Refusal::new("say which flows: a service, a client, or all")));
    }
    let filter = FlowFilter { service: service.as_deref().map(service_key), client, state: None };
    ask(context, |reply| Request::FlushFlows { filter, reply }).await
}

/// `NAMESPACE/NAME`, or a name in the namespace `default`.
fn service_key(text: &str) -> ServiceKey {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    ServiceKey { namespace: namespace.to_owned(), name: name.to_owned() }
}

impl RouteEntry {
    /// # Errors
    /// As [`NetRouteSpec::route`]; leading zeros are refused.
    pub fn route(
        self,
        default_probe: Option<Probe>,
    ) -> Result<CustomRoute, crate::input::objects::RouteRefusal> {
        let Self { destination, next_hop, interface, metric, weight, force } = self;
        let spec = NetRouteSpec {
            destination,
            next_hop,
            interface,
            metric,
            weight,
            probe: None,
            node_selector: BTreeMap::new(),
        };
        spec.route(LeadingZeros::Refused, default_probe, force, Origin::Cli)
    }
}

impl From<&CustomRoute> for RouteEntry {
    fn from(route: &CustomRoute) -> Self {
        let CustomRoute { key, metric, weight, forced, probe: _, origin: _ } = route;
        Self {
            destination: key.destination.to_string(),
            next_hop: key.next_hop.to_string(),
            interface: key.interface.clone(),
            metric: Some(*metric),
            weight: (*weight != 1).then_some(*weight),
            force: *forced,
        }
    }
}
