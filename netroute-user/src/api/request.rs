//! What the server asks the agent to do. The agent owns all state and answers one request after
//! the other.

use std::net::IpAddr;

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};

use super::types::{
    DiffView, DoctorView, DropsView, EgressView, ExplainView, FlowsView, FlushView, ImportView, NextHopView,
    RouteEntry, RouteGetView, RouteView, ServiceView, StatusView,
};
use crate::apply::flows::FlowState;
use crate::desired::route::CustomRoute;
use crate::desired::service::{Service, ServiceKey};
use crate::error::one_line;
use crate::explain::query::Query;
use crate::observe::metrics::Sample;

/// Nothing was changed; one line that says why and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub message: String,
    /// The agent serves nobody yet; it may do so later.
    pub starting: bool,
}

impl Refusal {
    pub fn new(message: impl ToString) -> Self {
        Self { message: one_line(&message.to_string()).into_owned(), starting: false }
    }

    /// Of an agent that does not serve yet.
    pub fn starting(message: impl ToString) -> Self {
        Self { starting: true, ..Self::new(message) }
    }
}

/// Where the answer goes. A receiver that is gone (client hung up) is no error.
pub type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// What the server sends into and the agent receives from.
pub type Requests = mpsc::Sender<Request>;

/// Which Services; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceFilter {
    pub namespace: Option<String>,
    pub name: Option<String>,
}

impl ServiceFilter {
    #[must_use]
    pub fn takes(&self, service: &Service) -> bool {
        let Self { namespace, name } = self;
        namespace.as_ref().is_none_or(|namespace| *namespace == service.key.namespace)
            && name.as_ref().is_none_or(|name| *name == service.key.name)
    }
}

/// Which flows; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    pub service: Option<ServiceKey>,
    pub client: Option<IpAddr>,
    pub state: Option<FlowState>,
}

#[derive(Debug)]
pub enum Request {
    /// Add or update by key; `origin` is `Cli`, `forced` says whether dynamic addresses are accepted.
    AddRoute {
        route: CustomRoute,
        reply: Reply<RouteView>,
    },
    /// All next hops of the prefix on the interface, or the one named; answers what was removed.
    RemoveRoute {
        destination: IpNet,
        interface: String,
        next_hop: Option<IpAddr>,
        reply: Reply<Vec<RouteView>>,
    },
    /// Custom routes; with `all` the whole compiled table.
    ListRoutes {
        interface: Option<String>,
        all: bool,
        reply: Reply<Vec<RouteView>>,
    },
    /// All or none. No key twice.
    ImportRoutes {
        routes: Vec<CustomRoute>,
        reply: Reply<ImportView>,
    },
    /// The routes of the command line, or with `all` every custom route (`RouteEntry::from`).
    ExportRoutes {
        all: bool,
        reply: Reply<Vec<RouteEntry>>,
    },
    RouteGet {
        address: IpAddr,
        from: Option<IpAddr>,
        reply: Reply<RouteGetView>,
    },
    NextHops {
        reply: Reply<Vec<NextHopView>>,
    },
    /// A Service that is named in full and not there is refused.
    Services {
        filter: ServiceFilter,
        reply: Reply<Vec<ServiceView>>,
    },
    /// All policies, or the one of this name; one that is not there is refused.
    Egress {
        name: Option<String>,
        reply: Reply<Vec<EgressView>>,
    },
    /// A pod, Service or interface that is not there is refused.
    Explain {
        query: Query,
        reply: Reply<ExplainView>,
    },
    /// `limit` at most; a Service that is not served is refused, here and below.
    Flows {
        filter: FlowFilter,
        limit: usize,
        reply: Reply<FlowsView>,
    },
    FlushFlows {
        filter: FlowFilter,
        reply: Reply<FlushView>,
    },
    Drops {
        reply: Reply<Vec<DropsView>>,
    },
    Status {
        reply: Reply<StatusView>,
    },
    Doctor {
        reply: Reply<DoctorView>,
    },
    Diff {
        reply: Reply<DiffView>,
    },
    Metrics {
        reply: Reply<Sample>,
    },
    /// Remove programs, maps and mirrored routes, then end.
    Detach {
        reply: Reply<()>,
    },
}

impl Request {
    /// Answers that nothing is done. A client that hung up needs no answer.
    pub fn refuse(self, refusal: Refusal) {
        let no = refusal;
        match self {
            Self::AddRoute { reply, .. } => drop(reply.send(Err(no))),
            Self::RemoveRoute { reply, .. } | Self::ListRoutes { reply, .. } => drop(reply.send(Err(no))),
            Self::ImportRoutes { reply, .. } => drop(reply.send(Err(no))),
            Self::ExportRoutes { reply, .. } => drop(reply.send(Err(no))),
            Self::RouteGet { reply, .. } => drop(reply.send(Err(no))),
            Self::NextHops { reply } => drop(reply.send(Err(no))),
            Self::Services { reply, .. } => drop(reply.send(Err(no))),
            Self::Egress { reply, .. } => drop(reply.send(Err(no))),
            Self::Explain { reply, .. } => drop(reply.send(Err(no))),
            Self::Flows { reply, .. } => drop(reply.send(Err(no))),
            Self::FlushFlows { reply, .. } => drop(reply.send(Err(no))),
            Self::Drops { reply } => drop(reply.send(Err(no))),
            Self::Status { reply } => drop(reply.send(Err(no))),
            Self::Doctor { reply } => drop(reply.send(Err(no))),
            Self::Diff { reply } => drop(reply.send(Err(no))),
            Self::Metrics { reply } => drop(reply.send(Err(no))),
            Self::Detach { reply } => drop(reply.send(Err(no))),
        }
    }
}
