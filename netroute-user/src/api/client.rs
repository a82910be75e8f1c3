//! The command line's end of the socket.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::path;
use super::types::{
    DiffView, DoctorView, DropsView, EgressView, ErrorView, ExplainView, FlowState, FlowsView, FlushView,
    ImportView, NextHopView, RouteEntry, RouteGetView, RouteView, ServiceView, StatusView,
};

/// Routes per chunk of an import.
const CHUNK: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The agent said no; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// An agent that is starting or stopping; nothing was changed.
    #[error("{0}")]
    NotServing(String),
    #[error("no agent answers at {}: {source}; start it with `netroute agent --config FILE`, or name its socket with --socket", path.display())]
    NoAgent { path: PathBuf, source: io::Error },
    #[error("{}: {source}; run as root or as a member of the socket's group", path.display())]
    NotAllowed { path: PathBuf, source: io::Error },
    #[error("the agent ended before it answered: {0}; see its log")]
    HungUp(hyper::Error),
    #[error("the agent's answer is not understood: {0}; are `netroute` and the agent of the same version?")]
    Answer(serde_json::Error),
    #[error("the request cannot be written: {0}")]
    Request(#[from] hyper::http::Error),
}

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Result<T> = std::result::Result<T, ClientError>;

/// One agent, found by its socket. Each call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// # Errors
    /// As all calls here: refused by the agent, or no agent.
    pub async fn add(&self, route: &RouteEntry) -> Result<RouteView> {
        self.send(Method::POST, path::ROUTES.to_owned(), json(route)).await
    }

    /// # Errors
    /// As [`Client::add`].
    pub async fn remove(
        &self,
        destination: &str,
        interface: &str,
        next_hop: Option<&str>,
    ) -> Result<Vec<RouteView>> {
        let mut query = vec![("destination", destination), ("interface", interface)];
        query.extend(next_hop.map(|address| ("nextHop", address)));
        self.send(Method::DELETE, with_query(path::ROUTES, &query), empty()).await
    }

    /// # Errors
    /// As [`Client::add`].
    pub async fn routes(&self, interface: Option<&str>, all: bool) -> Result<Vec<RouteView>> {
        let mut query: Vec<_> = interface.map(|name| ("interface", name)).into_iter().collect();
        query.extend(all.then_some(("all", "true")));
        self.get(&with_query(path::ROUTES, &query)).await
    }

    /// All or none. `sent` hears how many routes went out with each chunk.
    ///
    /// # Errors
    /// As [`Client::add`].
    pub async fn import(
        &self,
        routes: Vec<RouteEntry>,
        sent: impl Fn(usize) + Send + 'static,
    ) -> Result<ImportView> {
        let chunks: Vec<(usize, Bytes)> =
            routes.chunks(CHUNK).map(|chunk| (chunk.len(), lines(chunk))).collect();
        let frames = stream::iter(chunks.into_iter().map(move |(len, bytes)| {
            sent(len);
            Ok(Frame::data(bytes))
        }));
        let body = StreamBody::new(frames).boxed_unsync();
        self.send(Method::POST, path::IMPORT.to_owned(), body).await
    }

    /// # Errors
    /// As [`Client::add`].
    pub async fn export(&self, all: bool) -> Result<Vec<RouteEntry>> {
        self.get(if all { "/v1/routes/export?all=true" } else { path::EXPORT }).await
    }

    /// # Errors
    /// As [`Client::add`].
    pub async fn route_get(&self, address: &str, from: Option<&str>) -> Result<RouteGetView> {
        let mut query = vec![("address", address)];
        query.extend(from.map(|address| ("from", address)));
        self.get(&with_query(path::ROUTE_GET, &query)).await
    }

    /// # Errors
    /// As [`Client::add`].
    pub async fn next_hops(&self) -> Result<Vec<NextHopView>> {
        self.get(path::NEXT_HOPS).await
    }

    /// # Errors
    /// As [`Client::add`].
    pub async fn services(&self, namespace: Option<&str>, name: Option<&str>) -> Result<Vec<ServiceView>> {
        let mut query: Vec<_> = namespace.map(|namespace| ("namespace", namespace)).into_iter().collect();
        query.extend(name.map(|name| ("name", name)));
        self.get(&with_query(path::SERVICES, &query)).await
    }

    /// # Errors
    /// As [`Client::add`].
    pub async fn egress(&self, name: Option<&str>) -> Result<Vec<EgressView>> {
        let query: Vec<_> = name.map(|name| ("name", name)).into_iter().collect();
        self.get(&with_query(path::EGRESS, &query)).await
    }

    /// As `explain::query::Query::parse` reads them.
    ///
    /// # Errors
    /// As [`Client::add`].
    pub async fn explain(
        &self,
        from: &str,
        to: &str,
        source_port: Option<u16>,
        interface: Option<&str>,
    ) -> Result<ExplainView> {
        let source_port = source_port.map(|port| port.to_string());
        let mut query = vec![("from", from), ("to", to)];
        query.extend(source_port.as_deref().map(|port| ("sourcePort", port)));
        query.extend(interface.map(|name| ("interface", name)));
        self.get(&with_query(path::EXPLAIN, &query)).await
    }

    /// # Errors
    /// As [`Client::add`].
    pub async fn flows(
        &self,
        service: Option<&str>,
        client: Option<IpAddr>,
        state: Option<FlowState>,
        limit: usize,
    ) -> Result<FlowsView> {
        let (client, limit) = (client.map(|address| address.to_string()), limit.to_string());
        let mut query = vec![("limit", limit.as_str())];
        query.extend(service.map(|service| ("service", service)));
        query.extend(client.as_deref().map(|address| ("client", address)));
        query.extend(state.map(|state| ("state", state.name())));
        self.get(&with_query(path::FLOWS, &query)).await
    }

    /// All flows if neither is named.
    ///
    /// # Errors
    /// As [`Client::add`].
    pub async fn flush_flows(&self, service: Option<&str>, client: Option<IpAddr>) -> Result<FlushView> {
        let client = client.map(|address| address.to_string());
        let mut query: Vec<_> = service.map(|service| ("service", service)).into_iter().collect();
        query.extend(client.as_deref().map(|address| ("client", address)));
        if query.is_empty() {
            query.push(("all", "true"));
        }
        self.send(Method::DELETE, with_query(path::FLOWS, &query), empty()).await
    }

    /// # Errors
    /// As [`Client::add`].
    pub async fn drops(&self) -> Result<Vec<DropsView>> {
        self.get(path::DROPS).await
    }

    /// # Errors
    /// As [`Client::add`].
    pub async fn status(&self) -> Result<StatusView> {
        self.get(path::STATUS).await
    }

    /// # Errors
    /// As [`Client::add`].
    pub async fn doctor(&self) -> Result<DoctorView> {
        self.get(path::DOCTOR).await
    }

    /// # Errors
    /// As [`Client::add`].
    pub async fn diff(&self) -> Result<DiffView> {
        self.get(path::DIFF).await
    }

    /// # Errors
    /// As [`Client::add`].
    pub async fn detach(&self) -> Result<()> {
        self.send(Method::POST, path::DETACH.to_owned(), empty()).await
    }

    async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T> {
        self.send(Method::GET, target.to_owned(), empty()).await
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, target: String, body: Body) -> Result<T> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| self.unreachable(source))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::HungUp)?;
        // Its end shows in the answer.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "netroute")
            .header("content-type", "application/json")
            .body(body)?;
        let response = sender.send_request(request).await.map_err(ClientError::HungUp)?;
        let status = response.status();
        let bytes = response.into_body().collect().await.map_err(ClientError::HungUp)?.to_bytes();
        if status == StatusCode::OK {
            return serde_json::from_slice(&bytes).map_err(ClientError::Answer);
        }
        let message = match serde_json::from_slice(&bytes) {
            Ok(ErrorView { message }) => message,
            Err(_) => format!("{status}: {}", String::from_utf8_lossy(&bytes).trim()),
        };
        Err(match status {
            StatusCode::SERVICE_UNAVAILABLE => ClientError::NotServing(message),
            _ => ClientError::Refused(message),
        })
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let path = self.socket.clone();
        match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed { path, source },
            _ => ClientError::NoAgent { path, source },
        }
    }
}

fn empty() -> Body {
    Full::new(Bytes::new()).boxed_unsync()
}

/// Strings, numbers and booleans always have a JSON form.
fn json<T: Serialize>(value: &T) -> Body {
    Full::new(Bytes::from(serde_json::to_vec(value).unwrap_or_default())).boxed_unsync()
}

fn lines(routes: &[RouteEntry]) -> Bytes {
    let mut text = Vec::new();
    for route in routes {
        text.extend(serde_json::to_vec(route).unwrap_or_default());
        text.push(b'\n');
    }
    text.into()
}

fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    let mut target = path.to_owned();
    for (index, (key, value)) in query.iter().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        target.push_str(key);
        target.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    target.push(byte.into())
                }
                _ => target.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    target
}
