//! One hook's stages, in the order in which the packet meets them.

use std::net::SocketAddr;

use netroute_common::egress::Egress as _;
use netroute_common::layout::egress::{DEFAULT_POLICY, POLICY_OWN_SOURCES};
use netroute_common::layout::flow::Flow;
use netroute_common::layout::route::KIND_POD;
use netroute_common::stage::open::{Chosen, From};
use netroute_common::stage::serve::Decision;
use netroute_common::verdict::{Exit, Hook, Reason, Verdict};

use super::{Place, Scene};
use crate::agent::views::{mac_text, verdict};
use crate::api::explain_types::{
    FlowKind, FlowStageView, FrameView, HookStepView, ServiceStageView, SnatStageView, SourceCheckView,
};
use crate::apply::flows::FlowState;
use crate::compile::services::image::unmapped;
use crate::explain::packet::Shown;
use crate::explain::{Judged, Worked};

impl Scene<'_> {
    pub(super) fn hook_view(&self, place: &Place, judged: &Judged) -> HookStepView {
        let Place { hook, ifindex, .. } = *place;
        let reason = judged.verdict.reason();
        let way = self.way(place, judged);
        HookStepView {
            hook: hook.name().to_owned(),
            interface: self.name_of(ifindex),
            source_check: (hook == Hook::TcPod).then(|| self.source_check(place, reason)),
            service: self.service(place, judged),
            flow: flow(judged),
            policy: self.policy(judged),
            snat: snat(judged),
            route: way.as_ref().and_then(|way| way.route.clone()),
            next_hop: way.and_then(|way| way.next_hop),
            frame: self.frame(place, judged),
            verdict: verdict(reason).to_owned(),
            reason: reason.name().to_owned(),
            explanation: reason.explanation().trim().to_owned(),
        }
    }

    fn source_check(&self, place: &Place, reason: Reason) -> SourceCheckView {
        let flags = self.tables.policy(DEFAULT_POLICY).map_or(0, |policy| policy.flags);
        let owner = self.hop_to(place.shape.source.ip()).filter(|hop| hop.kind == KIND_POD);
        SourceCheckView {
            passed: reason != Reason::SpoofedSource,
            owner: owner.map(|hop| self.name_of(hop.ifindex)),
            in_force: flags & POLICY_OWN_SOURCES != 0,
        }
    }

    fn service(&self, place: &Place, judged: &Judged) -> Option<ServiceStageView> {
        let worked = judged.worked.as_ref()?;
        let protocol = place.shape.protocol;
        if let Some(flow) = known(judged).filter(|flow| flow.service != 0) {
            let [source, destination] = worked.asked;
            // Of an answer the front end is what it seems to come from.
            let (front_end, endpoint) = match worked.standing.reply {
                true => (SocketAddr::new(unmapped(flow.source), flow.source_port), source),
                false => (destination, SocketAddr::new(unmapped(flow.destination), flow.destination_port)),
            };
            return Some(ServiceStageView {
                service: self.service_name(flow.service),
                front_end,
                endpoints: self.endpoints(front_end, protocol),
                endpoint: Some(endpoint),
            });
        }
        let (key, front_end) = judged.trace.front_end?;
        let front = SocketAddr::new(unmapped(key.address), key.port);
        let Chosen { endpoint, port, .. } = worked.chosen;
        let chosen = judged.trace.decided == Some(Decision::OPENS);
        // Protocol 0 stands for the address itself, which is a Service's, whatever the port.
        (key.protocol != 0).then(|| ServiceStageView {
            service: self.service_name(front_end.service),
            front_end: front,
            endpoints: if front_end.size == 0 { 0 } else { self.endpoints(front, protocol) },
            endpoint: chosen.then(|| SocketAddr::new(unmapped(endpoint), port)),
        })
    }

    fn frame(&self, place: &Place, judged: &Judged) -> Option<FrameView> {
        let ifindex = match judged.verdict {
            Verdict::Forward(Exit::SameNic | Exit::Onward)
            | Verdict::Answer(_)
            | Verdict::Pass(Reason::Outgoing) => place.ifindex,
            Verdict::Forward(Exit::Port(slot)) => self.tables.port(slot)?,
            Verdict::Forward(Exit::Interface(ifindex) | Exit::Pod(ifindex)) => ifindex,
            Verdict::Pass(_) | Verdict::Drop(_) => return None,
        };
        let Shown { source_mac, destination_mac, source, destination } = Shown::of(&judged.frame)?;
        Some(FrameView {
            interface: self.name_of(ifindex),
            source_mac: mac_text(source_mac),
            destination_mac: mac_text(destination_mac),
            source,
            destination,
        })
    }
}

/// The entry of the flow that the packet belongs to.
pub(super) fn known(judged: &Judged) -> Option<&Flow> {
    let of_flow = match judged.trace.decided? {
        Decision::KNOWN | Decision::CHANGES | Decision::STALE | Decision::STALE_CHANGES => true,
        // Of a flow whose way only the kernel knows.
        decision => {
            matches!(decision.refusal(), Some(Reason::NeighbourUnresolved | Reason::EgressUnmanaged))
        }
    };
    judged.trace.known.as_ref().filter(|_| of_flow).map(|(_, flow)| flow)
}

/// What is decided in the end.
pub(super) fn decision(judged: &Judged) -> Option<Decision> {
    judged.trace.judged.or(judged.trace.decided)
}

fn flow(judged: &Judged) -> Option<FlowStageView> {
    let worked = judged.worked.as_ref()?;
    let none =
        FlowStageView { kind: FlowKind::None, state: None, reply: false, source: None, destination: None };
    if let Some(flow) = known(judged) {
        return Some(FlowStageView {
            kind: FlowKind::Known,
            state: Some(FlowState::of(flow)),
            reply: worked.standing.reply,
            source: Some(SocketAddr::new(unmapped(flow.source), flow.source_port)),
            destination: Some(SocketAddr::new(unmapped(flow.destination), flow.destination_port)),
        });
    }
    let [source, destination] = worked.to;
    let entered = judged.trace.entered;
    Some(match decision(judged)? {
        Decision::OPENS => FlowStageView {
            kind: FlowKind::New,
            source: entered.then_some(source),
            destination: entered.then_some(destination),
            ..none
        },
        _ => none,
    })
}

fn snat(judged: &Judged) -> Option<SnatStageView> {
    let worked: &Worked = judged.worked.as_ref()?;
    let [asked, _] = worked.asked;
    if let Some(flow) = known(judged) {
        let source = SocketAddr::new(unmapped(flow.source), flow.source_port);
        let own = worked.standing.reply || source == asked;
        return (!own).then(|| SnatStageView {
            address: source.ip(),
            port: Some(source.port()),
            first_port: None,
            last_port: None,
        });
    }
    if decision(judged) != Some(Decision::OPENS) {
        return None;
    }
    let Chosen { from, source, first_port, ports, .. } = worked.chosen;
    let [becomes, _] = worked.to;
    let entered = judged.trace.entered;
    let full = judged.verdict.reason() == Reason::NoMasqueradePort;
    let changed = from != From::Client || (entered && becomes != asked);
    (changed && (entered || full)).then(|| SnatStageView {
        address: unmapped(source),
        port: entered.then_some(becomes.port()),
        first_port: Some(first_port),
        last_port: Some(first_port.saturating_add(ports.saturating_sub(1))),
    })
}
