//! What comes over the socket, and its answers.

use super::core::Agent;
use super::sources::{Change, Touched};
use super::{health_views, views};
use crate::api::request::{Refusal, Reply, Request, ServiceFilter};
use crate::api::types::{ImportView, RouteEntry, RouteView};
use crate::desired::route::CustomRoute;
use crate::observe::metrics::Sample;

/// A change of the routes, waiting for its turn.
pub struct Mutation {
    pub change: Change,
    pub answer: Answer,
}

/// Who waits for a change, and what he needs to be told.
pub struct Answer {
    to: To,
    touched: Touched,
    removed: Vec<RouteView>,
}

enum To {
    Add(Reply<RouteView>),
    Import(Reply<ImportView>),
    Remove(Reply<Vec<RouteView>>),
}

impl Answer {
    fn new(to: To) -> Self {
        Self { to, touched: Touched::default(), removed: Vec::new() }
    }

    /// Notes what the change touched, and of the routes that are about to go, what they are.
    #[must_use]
    pub fn before(mut self, agent: &Agent, mut touched: Touched) -> Self {
        self.removed = views::routes_of(agent, &touched.removed);
        // An unchanged route is answered with what it is: its key was noted when it was asked for.
        touched.changed.append(&mut self.touched.changed);
        self.touched = touched;
        self
    }

    /// Nothing was changed.
    pub fn refuse(self, refusal: Refusal) {
        // A client that hung up needs no answer.
        match self.to {
            To::Add(reply) => drop(reply.send(Err(refusal))),
            To::Import(reply) => drop(reply.send(Err(refusal))),
            To::Remove(reply) => drop(reply.send(Err(refusal))),
        }
    }

    /// The change is in the maps.
    pub fn done(self, agent: &Agent) {
        let Touched { added, changed, unchanged, .. } = self.touched;
        match self.to {
            To::Remove(reply) => drop(reply.send(Ok(self.removed))),
            To::Import(reply) => {
                let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                let view = ImportView {
                    added: count(added.len()),
                    changed: count(changed.len()),
                    unchanged: count(unchanged),
                };
                drop(reply.send(Ok(view)));
            }
            To::Add(reply) => {
                let key = added.into_iter().chain(changed).next();
                let view = views::routes_of(agent, key.as_slice()).pop();
                drop(reply.send(
                    view.ok_or_else(|| Refusal::new("the route was replaced meanwhile by one of a manifest")),
                ));
            }
        }
    }
}

impl Agent {
    /// Takes a request; gives back a request to remove everything and end, which is not done here.
    pub fn on_request(&mut self, request: Request) -> Option<Reply<()>> {
        if self.attached.is_none() && !matches!(request, Request::Detach { .. }) {
            request.refuse(self.starting());
            return None;
        }
        match request {
            Request::AddRoute { route, reply } => self.add(route, reply),
            Request::ImportRoutes { routes, reply } => {
                self.queue(Change::Set(routes), Answer::new(To::Import(reply)));
            }
            Request::RemoveRoute { destination, interface, next_hop, reply } => {
                let change = Change::Remove { destination, interface, next_hop };
                self.queue(change, Answer::new(To::Remove(reply)));
            }
            Request::ListRoutes { interface, all, reply } => {
                let reader = views::Reader::of(self);
                answer_aside(reply, move || reader.routes(interface.as_deref(), all));
            }
            Request::ExportRoutes { all, reply } => {
                let desired = self.snapshot.desired.clone();
                let cli = if all { None } else { Some(self.sources.cli.clone()) };
                answer_aside(reply, move || {
                    let routes = cli.as_ref().unwrap_or(&desired.routes).values();
                    Ok(routes.map(RouteEntry::from).collect())
                });
            }
            Request::RouteGet { address, from, reply } => {
                let reader = views::Reader::of(self);
                answer_aside(reply, move || Ok(reader.route_get(address, from)));
            }
            Request::NextHops { reply } => {
                let reader = views::Reader::of(self);
                answer_aside(reply, move || reader.next_hops());
            }
            Request::Services { filter, reply } => {
                let reader = views::Reader::of(self);
                answer_aside(reply, move || reader.services(&filter));
            }
            Request::Egress { name, reply } => {
                let reader = views::Reader::of(self);
                answer_aside(reply, move || reader.egress(name.as_deref()));
            }
            Request::Explain { query, reply } => {
                let explainer = views::Explainer::of(self);
                answer_aside(reply, move || explainer.explain(&query));
            }
            Request::Flows { filter, limit, reply } => {
                let reader = views::FlowReader::of(self);
                answer_aside(reply, move || reader.list(filter, limit));
            }
            Request::FlushFlows { filter, reply } => {
                let reader = views::FlowReader::of(self);
                answer_aside(reply, move || reader.flush(filter));
            }
            Request::Drops { reply } => {
                let reader = views::Reader::of(self);
                answer_aside(reply, move || reader.drops());
            }
            Request::Status { reply } => {
                let status = health_views::status(self);
                drop(reply.send(status));
            }
            Request::Diff { reply } => {
                drop(reply.send(health_views::diff(self)));
            }
            Request::Doctor { reply } => self.doctor(reply),
            Request::Metrics { reply } => self.metrics(reply),
            Request::Detach { reply } => return Some(reply),
        }
        None
    }

    /// What is said until the maps are filled and the programs attached.
    fn starting(&self) -> Refusal {
        Refusal::starting(match &self.apply_problem {
            Some(reason) => format!("the agent is starting and cannot go on: {reason}"),
            None => "the agent is starting: try again when its maps are filled".to_owned(),
        })
    }

    fn add(&mut self, route: CustomRoute, reply: Reply<RouteView>) {
        let key = route.key.clone();
        let mut answer = Answer::new(To::Add(reply));
        answer.touched.changed.push(super::sources::canonical_key(&key, &self.config.interfaces));
        self.queue(Change::Set(vec![route]), answer);
    }

    fn queue(&mut self, change: Change, answer: Answer) {
        self.mutations.push_back(Mutation { change, answer });
    }

    fn metrics(&self, reply: Reply<Sample>) {
        let status = match health_views::status(self) {
            Ok(status) => status,
            Err(refusal) => return drop(reply.send(Err(refusal))),
        };
        let reader = views::Reader::of(self);
        let tally = self.tally.clone();
        answer_aside(reply, move || {
            Ok(Sample {
                status,
                routes: reader.routes(None, false)?,
                next_hops: reader.next_hops()?,
                services: reader.services(&ServiceFilter::default())?,
                egress: reader.egress(None)?,
                verdicts: reader.drops()?,
                map_writes: tally.map_writes,
                applies: tally.applies,
                apply_errors: tally.apply_errors,
            })
        });
    }

    fn doctor(&self, reply: Reply<crate::api::types::DoctorView>) {
        let inputs = health_views::DoctorInputs::of(self);
        tokio::spawn(async move {
            drop(reply.send(inputs.run().await));
        });
    }
}

/// Reads maps in a thread of its own: the loop must stay free to hear failures.
fn answer_aside<T: Send + 'static>(
    reply: Reply<T>,
    read: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) {
    tokio::task::spawn_blocking(move || drop(reply.send(read())));
}
