//! A packet that may be to a Service, or an answer from one: the flow it belongs to, or the endpoint of the
//! one it opens. What is decided lies in the family's [`Scratch`]; the route table then says the way.

use super::answer::Answering;
use super::family::{Family, Transport, transport_of, tuple_of};
use super::follow::{Transition, begins_anew, carry_out, forget, is_quiet, refresh, transition};
use super::hold::unrefresh;
use super::leave::Question;
use super::open::{Chosen, back_to, choose};
use super::stages::Stages;
use super::translate::translate;
use super::tuple::Tuple;
use crate::egress::{Egress, EgressEvent};
use crate::layout::egress::DEFAULT_POLICY;
use crate::layout::flow::{Back, FLOW_EGRESS, FLOW_REPLY, Flow, Fragment, FragmentKey, PeerKey};
use crate::layout::route::{KIND_KERNEL, KIND_NEIGHBOUR, KIND_SERVICE, KIND_UNRESOLVED};
use crate::packet::Packet;
use crate::pipeline::Arrival;
use crate::services::{Place, ServiceEvent, Services};
use crate::tables::Tables;
use crate::verdict::{Hook, Reason};
use crate::wire::eth::Eth;
use crate::wire::l4::PROTOCOL_TCP;

/// Working memory of one packet, too large for the stack: one for each processor and family.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Scratch<A> {
    pub asked: Asked<A>,
    /// What the packet becomes.
    pub to: A,
    pub answers: A,
    pub transition: Transition,
    pub chosen: Chosen,
    pub flow: Flow,
    pub fragment: FirstFragment,
    /// What is asked before the route, of packets that go back.
    pub back: Back,
    /// When the packet before it came.
    pub seen: u64,
    pub standing: Standing,
    pub question: Question,
    /// Index into `GROUPS` of the next hops that a policy names; 0 for the route's.
    pub via: u32,
}

/// What a packet is to its flow.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Standing {
    /// An answer.
    pub reply: bool,
    /// Let out by an egress policy, to where it was going anyway: what stands in its way is the kernel's to see,
    /// with the packet as it came.
    pub outward: bool,
    pub zero: [u8; 2],
}

/// A packet's first fragment on its way into `FRAGMENTS`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct FirstFragment {
    pub key: FragmentKey,
    pub becomes: Fragment,
}

/// A packet with ports, as Services see it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Asked<A> {
    pub tuple: A,
    pub now: u64,
    pub arrival: Arrival,
    /// Of the whole frame.
    pub bytes: u32,
    /// TCP's control bits.
    pub tcp: u8,
    /// `KIND_*` of its destination by the route table.
    pub destination: u8,
    /// A first fragment, of a packet with this identification.
    pub fragmented: bool,
    pub identification: u32,
    /// Where its ports are; of an error the ports of the packet that it quotes.
    pub at: u32,
}

/// What Services have to do with a packet; a number, so that it comes out of a function in a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision(u32);

impl Decision {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// It belongs to a flow.
    pub const KNOWN: Self = Self(1);
    /// It belongs to a flow, whose entries it changes.
    pub const CHANGES: Self = Self(2);
    /// It opens a flow.
    pub const OPENS: Self = Self(3);
    /// It shows no ports: [`super::relate`] may know what it belongs to.
    pub const WITHOUT_PORTS: Self = Self(4);
    /// It is an error about a packet of a flow.
    pub const ERROR: Self = Self(5);
    /// It is a fragment behind the first.
    pub const FRAGMENT: Self = Self(6);
    const OVER: Self = Self(7);
    /// It is of no flow and to no Service: policies may have a say.
    pub const LEAVES: Self = Self(8);
    /// As [`Self::KNOWN`], and policies have changed since.
    pub const STALE: Self = Self(9);
    /// As [`Self::CHANGES`], and policies have changed since.
    pub const STALE_CHANGES: Self = Self(10);
    /// As [`Self::LEAVES`], without ports.
    pub const PORTLESS: Self = Self(11);
    /// A policy lets it out as it is, without a flow.
    pub const ALLOWED: Self = Self(12);
    const REFUSED: u32 = 0x100;

    /// As an argument or result of a function.
    #[inline(always)]
    pub fn number(self) -> u32 {
        self.0
    }

    /// The opposite.
    #[inline(always)]
    pub fn from_number(number: u32) -> Self {
        Self(number)
    }

    #[inline(always)]
    pub fn refused(reason: Reason) -> Self {
        Self(Self::REFUSED | reason as u32)
    }

    /// What it is where no policy has a say.
    #[inline(always)]
    pub fn unjudged(self) -> Self {
        match self {
            Self::LEAVES | Self::PORTLESS => Self::NONE,
            Self::STALE => Self::KNOWN,
            Self::STALE_CHANGES => Self::CHANGES,
            decision => decision,
        }
    }

    /// Why the packet goes no further as it is, if it does not.
    #[inline(always)]
    pub fn refusal(self) -> Option<Reason> {
        if self.0 < Self::REFUSED { None } else { Reason::from_number(self.0 as u8) }
    }
}

/// Decides for a packet whose destination is of this kind.
#[inline(always)]
pub fn decide<F: Family, P: Packet, T: Tables + Services + Egress>(
    packet: &P,
    tables: &T,
    arrival: Arrival,
    destination: u8,
) -> Decision {
    let Some(transport) = transport_of::<F, P>(packet, arrival.at_xdp::<P>()) else {
        return Decision::WITHOUT_PORTS;
    };
    if transport.protocol == F::ICMP && destination == KIND_SERVICE {
        return Decision::WITHOUT_PORTS;
    }
    let Some((tuple, tcp)) = tuple_of::<F, P>(packet, transport) else {
        let ours = destination == KIND_SERVICE;
        return if ours { Decision::refused(Reason::ServiceProtocol) } else { Decision::WITHOUT_PORTS };
    };
    let Transport { at, fragmented, identification, .. } = transport;
    let decision = F::scratch(tables, |scratch| {
        // The length is read behind a helper's call: else the compiler hands over the packet's two ends in
        // place of the packet, and the verifier refuses what it then makes of them.
        let bytes = packet.frame_length();
        let at = at as u32;
        scratch.asked =
            Asked { tuple, now: 0, arrival, bytes, tcp, destination, fragmented, identification, at };
        scratch.standing = Standing::default();
        scratch.via = 0;
        let Scratch { asked, to, transition, chosen, back, seen, standing, .. } = scratch;
        let known = F::flow(tables, &asked.tuple, |place, flow| {
            follow::<F, P, T>(tables, asked, (place, flow), (to, transition, back, seen, standing))
        });
        match known {
            Some(Decision::OVER) => forget::<F, T>(tables, &asked.tuple),
            Some(decision) => {
                let changes = matches!(decision, Decision::CHANGES | Decision::STALE_CHANGES);
                if changes && transition.forth {
                    transition.back = back_to(tables, &peer_of::<P>(packet, arrival));
                }
                return decision;
            }
            None if asked.tuple.protocol() == F::ICMP && asked.tuple.ports().1 != 0 => {
                // Nobody asked for this reply.
                return Decision::WITHOUT_PORTS;
            }
            None => {}
        }
        *back = Back::default();
        chosen.peer = peer_of::<P>(packet, arrival);
        // No front end has such an address.
        if leads_out(destination) {
            return Decision::LEAVES;
        }
        asked.now = tables.now();
        match choose::<F, P, T>(tables, asked, chosen) {
            Ok(true) => {
                *to = F::Tuple::new(&chosen.endpoint, &chosen.endpoint, (0, chosen.port), 0);
                Decision::OPENS
            }
            // The node's own address.
            Ok(false) => Decision::NONE,
            Err(reason) => Decision::refused(reason),
        }
    });
    decision.unwrap_or(Decision::refused(Reason::TableInconsistent))
}

/// Whether a destination of this kind may be outside of the cluster.
#[inline(always)]
pub(super) fn leads_out(destination: u8) -> bool {
    matches!(destination, KIND_NEIGHBOUR | KIND_UNRESOLVED | KIND_KERNEL)
}

/// What the entry of its flow makes of a packet.
#[inline(always)]
fn follow<F: Family, P: Packet, T: Tables + Services + Egress>(
    tables: &T,
    asked: &Asked<F::Tuple>,
    (place, flow): (Place, &mut Flow),
    (to, changes, back, seen, standing): (&mut F::Tuple, &mut Transition, &mut Back, &mut u64, &mut Standing),
) -> Decision {
    let Some(timers) = tables.timers() else { return Decision::refused(Reason::TableInconsistent) };
    // Not before: at TC most packets are of no flow, and the clock is what costs them most.
    let now = tables.now();
    if begins_anew(flow, asked.tcp) || is_quiet(flow, timers, now) || endpoint_is_gone(tables, flow) {
        return Decision::OVER;
    }
    let let_out = !asked.arrival.at_xdp::<P>() && flow.flags & (FLOW_EGRESS | FLOW_REPLY) == FLOW_EGRESS;
    if let_out && path_is_gone(tables, flow, asked.arrival) {
        return Decision::OVER;
    }
    let outward = let_out && flow.service == 0;
    if outward && asked.arrival.hook == Hook::TcPod && flow.back.next_hop == 0 {
        // Only the kernel knows the neighbour; and it may know a way that nobody watches.
        let strays = asked.destination == KIND_KERNEL && flow.source != asked.tuple.source();
        return Decision::refused(if strays { Reason::EgressUnmanaged } else { Reason::NeighbourUnresolved });
    }
    standing.reply = flow.flags & FLOW_REPLY != 0;
    standing.outward = outward;
    *to = F::Tuple::rewritten_by(flow);
    *back = way_back(flow);
    *seen = flow.seen;
    let transition = transition(flow, place, asked.tcp, now);
    refresh(flow, now, asked.bytes);
    count(tables, flow, asked.bytes, now, (ServiceEvent::Packet, EgressEvent::Packet));
    let stale = !asked.arrival.at_xdp::<P>() && flow.flags & FLOW_EGRESS != 0 && is_stale(tables, flow);
    match transition {
        None if stale => Decision::STALE,
        None => Decision::KNOWN,
        Some(transition) => {
            *changes = transition;
            if stale { Decision::STALE_CHANGES } else { Decision::CHANGES }
        }
    }
}

/// The way of an answer.
#[inline(always)]
pub fn way_back(flow: &Flow) -> Back {
    if flow.flags & (FLOW_REPLY | FLOW_EGRESS) == 0 { Back::default() } else { flow.back }
}

/// Counts a packet of a flow for its Service and its policy.
#[inline(always)]
pub(super) fn count<T: Services + Egress>(
    tables: &T,
    flow: &Flow,
    bytes: u32,
    now: u64,
    (of_service, of_policy): (ServiceEvent, EgressEvent),
) {
    if flow.service != 0 {
        tables.count_service(flow.service, bytes, of_service);
    }
    if flow.flags & FLOW_EGRESS != 0 {
        tables.count_egress(flow.policy, bytes, now, of_policy);
    }
}

/// Whether the path that a flow's address belongs to is no more: it begins anew, with whatever path and address
/// it is given now.
#[inline(always)]
fn path_is_gone<T: Tables>(tables: &T, flow: &Flow, arrival: Arrival) -> bool {
    let Back { next_hop, mac, .. } = flow.back;
    if next_hop == 0 {
        // Only the kernel knows the neighbour: by that NIC, or not at all.
        return arrival.hook == Hook::TcOut && flow.back.interface() != arrival.ifindex;
    }
    tables.next_hop(next_hop).is_none_or(|hop| hop.alive == 0 || hop.destination_mac != mac)
}

/// Whether policies have changed since the flow was let out.
#[inline(always)]
fn is_stale<E: Egress>(tables: &E, flow: &Flow) -> bool {
    tables.policy(DEFAULT_POLICY).is_some_and(|policy| policy.generation != flow.policies)
}

/// Who handed the packet over.
#[inline(always)]
fn peer_of<P: Packet>(packet: &P, arrival: Arrival) -> PeerKey {
    let mac = packet.get::<Eth>(0).map_or([0; 6], |eth| eth.source.octets());
    PeerKey { ifindex: arrival.ifindex, mac, zero: 0 }
}

/// UDP to an endpoint that is not there any more goes to another; TCP is left to find out (S18).
#[inline(always)]
fn endpoint_is_gone<T: Services>(tables: &T, flow: &Flow) -> bool {
    flow.protocol != PROTOCOL_TCP
        && flow.flags & FLOW_REPLY == 0
        && flow.service != 0
        && tables.backend(flow.backend).is_none_or(|backend| backend.generation != flow.generation)
}

/// Rewrites the packet, whose flow is entered. With an obstacle only the kernel knows the way: the packet is handed
/// up rewritten, at TC.
#[inline(always)]
pub fn carry<F: Answering, P: Packet, T: Stages<P>>(
    packet: &mut P,
    tables: &T,
    decision: Decision,
    obstacle: Decision,
) -> Decision {
    let carried = F::scratch(tables, |scratch| {
        let Scratch { asked, to, transition, fragment, back, seen, .. } = scratch;
        if decision == Decision::CHANGES && !carry_out::<F, T>(tables, &asked.tuple, transition) {
            unrefresh::<F, T>(tables, decision, asked, *seen);
            return Decision::refused(Reason::FlowTableFull);
        }
        // In XDP no number from memory: fewer places that the verifier must think of.
        let at = if asked.arrival.at_xdp::<P>() { F::TRANSPORT_AT } else { asked.at as usize };
        if translate::<F, P>(packet, at, &asked.tuple, to).is_none() {
            // Half rewritten, maybe: nobody is to see it.
            return Decision::refused(Reason::ServiceProtocol);
        }
        if P::AT_XDP != Some(true) && asked.fragmented {
            keep_fragment::<F, T>(tables, asked, to, (fragment, back));
        }
        if obstacle == Decision::NONE { Decision::NONE } else { Decision::refused(Reason::Translated) }
    });
    carried.unwrap_or(Decision::refused(Reason::TableInconsistent))
}

/// What is behind a first fragment goes the same way.
#[inline(always)]
fn keep_fragment<F: Family, S: Services>(
    services: &S,
    asked: &Asked<F::Tuple>,
    to: &F::Tuple,
    (fragment, back): (&mut FirstFragment, &Back),
) {
    fragment.key = FragmentKey {
        source: asked.tuple.source(),
        destination: asked.tuple.destination(),
        identification: asked.identification,
        protocol: asked.tuple.protocol().into(),
    };
    let (source, destination) = (to.source(), to.destination());
    fragment.becomes = Fragment { seen: services.now(), source, destination, back: *back, reserved: 0 };
    services.keep_fragment(&fragment.key, &fragment.becomes);
}
