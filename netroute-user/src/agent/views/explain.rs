//! `explain`: one packet's way through the data plane, with the names that people know.

mod begin;
mod hook;
mod kernel;
mod names;
mod policy;
mod route;
mod way;

use std::net::SocketAddr;
use std::sync::Arc;

use netroute_common::host::HostPacket;
use netroute_common::packet::HEADERS;
use netroute_common::pipeline::Arrival;
use netroute_common::verdict::{Hook, Reason, Verdict};

use crate::agent::core::{Agent, Snapshot};
use crate::api::explain_types::{ExplainView, StepView};
use crate::api::request::Refusal;
use crate::compile::interfaces::Interfaces;
use crate::error::chain;
use crate::explain::packet::{Shape, Shown};
use crate::explain::query::{Protocol, Query};
use crate::explain::{LiveMaps, LiveTables};
use begin::{Begin, Parties};

/// Answers from the live maps and one snapshot; lives in whatever thread asks, inside a runtime.
pub struct Explainer {
    snapshot: Snapshot,
    maps: Arc<LiveMaps>,
    /// Calls of processes are translated at the socket.
    sockets: bool,
}

/// What one explanation is made of.
struct Scene<'a> {
    snapshot: &'a Snapshot,
    interfaces: Interfaces,
    tables: LiveTables<'a>,
    sockets: bool,
    query: &'a Query,
}

/// Where a packet is on its way.
struct Place {
    hook: Hook,
    ifindex: u32,
    shape: Shape,
}

impl Explainer {
    #[must_use]
    pub fn of(agent: &Agent) -> Self {
        let served = agent.attached.as_ref().is_some_and(|attached| attached.sockets_refused.is_none());
        Self {
            snapshot: agent.snapshot.clone(),
            maps: agent.live_maps.clone(),
            sockets: served && agent.config.sockets.is_some(),
        }
    }

    /// # Errors
    /// Who or what is named is not there, or a map cannot be read.
    pub fn explain(&self, query: &Query) -> Result<ExplainView, Refusal> {
        let Snapshot { desired, kernel, .. } = &self.snapshot;
        let scene = Scene {
            snapshot: &self.snapshot,
            interfaces: Interfaces::resolve(desired, kernel),
            tables: LiveTables::new(&self.maps),
            sockets: self.sockets,
            query,
        };
        let view = scene.explain()?;
        scene.tables.complete().map_err(|error| Refusal::new(chain(&error)))?;
        Ok(view)
    }
}

impl Scene<'_> {
    fn explain(&self) -> Result<ExplainView, Refusal> {
        let Query { from, to, protocol, port, source_port, interface: _ } = self.query;
        let parties = self.parties()?;
        let Parties { source, destination, .. } = parties;
        let mut view = ExplainView {
            from: from.to_string(),
            to: to.to_string(),
            protocol: protocol.to_string(),
            source: SocketAddr::new(source, *source_port),
            destination: SocketAddr::new(destination, *port),
            steps: Vec::new(),
            notes: Vec::new(),
        };
        if *protocol != Protocol::Icmp {
            view.notes.push(format!(
                "the source port is {source_port}: with another one (--source-port), endpoint, port and next hop may be others"
            ));
        }
        let first = match self.begin(&parties)? {
            Begin::At(place) => Some(place),
            Begin::Node => self.sent_by_node(&mut view),
        };
        let mut next = first;
        while let Some(place) = next {
            next = self.step(&place, &mut view)?;
        }
        Ok(view)
    }

    /// Judges the packet at one hook, and says where it goes on.
    fn step(&self, place: &Place, view: &mut ExplainView) -> Result<Option<Place>, Refusal> {
        let Place { hook, ifindex, shape } = *place;
        if hook == Hook::TcPod && self.sockets && self.is_front_end(shape.destination, shape.protocol) {
            view.notes.push(
                "where sockets are served, the pod's own connect() goes to an endpoint at once: \
                 this is what a packet to the front end meets"
                    .to_owned(),
            );
        }
        let mut packet = HostPacket::new(&shape.frame(), shape.destination_mac);
        if hook != Hook::XdpNic {
            packet = packet.with_linear(HEADERS);
        }
        let arrival = Arrival { hook, ifindex };
        let judged = self.tables.judge(&mut packet, arrival).map_err(|error| Refusal::new(chain(&error)))?;
        view.steps.push(StepView::Hook(Box::new(self.hook_view(place, &judged))));
        let Verdict::Pass(reason) = judged.verdict else { return Ok(None) };
        Ok(match hook {
            Hook::XdpNic => Some(Place { hook: Hook::TcNic, ..*place }),
            Hook::TcNic | Hook::TcPod if goes_on(reason) => {
                let shown = Shown::of(&judged.frame);
                let (from, to) = shown
                    .map_or((shape.source, shape.destination), |shown| (shown.source, shown.destination));
                let onward =
                    self.kernel_step(Shape { source: from, destination: to, ..shape }, ifindex, view);
                // What the programs have translated they do not look at again.
                onward.filter(|_| reason != Reason::Translated)
            }
            _ => None,
        })
    }
}

/// Whether the kernel forwards what the fast path leaves to it for this reason.
const fn goes_on(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoRoute
            | Reason::NeighbourUnresolved
            | Reason::NextHopDown
            | Reason::TooBig
            | Reason::KernelRoute
            | Reason::Translated
    )
}
