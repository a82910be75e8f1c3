//! A packet that may be to a Service, or an answer from one: the flow it belongs to, or the endpoint of the
//! one it opens. What is decided lies in the family's [`Scratch`]; the route table then says the way.

use super::answer::Answering;
use super::family::{Family, Transport, transport_of, tuple_of};
use super::follow::{Transition, begins_anew, carry_out, forget, is_quiet, refresh, transition};
use super::open::{Chosen, back_to, choose};
use super::stages::Stages;
use super::translate::translate;
use super::tuple::Tuple;
use crate::layout::flow::{Back, FLOW_REPLY, Flow, Fragment, FragmentKey, PeerKey};
use crate::layout::route::{KIND_NEIGHBOUR, KIND_SERVICE};
use crate::packet::Packet;
use crate::pipeline::Arrival;
use crate::services::{Place, ServiceEvent, Services};
use crate::tables::Tables;
use crate::verdict::Reason;
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

    /// Why the packet goes no further as it is, if it does not.
    #[inline(always)]
    pub fn refusal(self) -> Option<Reason> {
        if self.0 < Self::REFUSED { None } else { Reason::from_number(self.0 as u8) }
    }
}

/// Decides for a packet whose destination is of this kind.
#[inline(always)]
pub fn decide<F: Family, P: Packet, T: Tables + Services>(
    packet: &P,
    tables: &T,
    arrival: Arrival,
    destination: u8,
) -> Decision {
    let Some(transport) = transport_of::<F, P>(packet, arrival.at_xdp::<P>()) else {
        return Decision::WITHOUT_PORTS;
    };
    let Some((tuple, tcp)) = tuple_of::<F, P>(packet, transport) else {
        let ours = destination == KIND_SERVICE;
        return if ours { Decision::refused(Reason::Truncated) } else { Decision::NONE };
    };
    let Transport { at, fragmented, identification, .. } = transport;
    let decision = F::scratch(tables, |scratch| {
        // The length is read behind a helper's call: else the compiler hands over the packet's two ends in
        // place of the packet, and the verifier refuses what it then makes of them.
        let bytes = packet.frame_length();
        let at = at as u32;
        scratch.asked =
            Asked { tuple, now: 0, arrival, bytes, tcp, destination, fragmented, identification, at };
        let Scratch { asked, to, transition, chosen, back, seen, .. } = scratch;
        let known = F::flow(tables, &asked.tuple, |place, flow| {
            follow::<F, T>(tables, asked, (place, flow), (to, transition, back, seen))
        });
        match known {
            Some(Decision::OVER) => forget::<F, T>(tables, &asked.tuple),
            Some(decision) => {
                if decision == Decision::CHANGES && transition.forth {
                    transition.back = back_to(tables, &peer_of::<P>(packet, arrival));
                }
                return decision;
            }
            // No front end has such an address.
            None if destination == KIND_NEIGHBOUR => return Decision::NONE,
            None => {}
        }
        asked.now = tables.now();
        match choose::<F, P, T>(tables, asked, chosen) {
            Ok(true) => {
                *back = Back::default();
                chosen.peer = peer_of::<P>(packet, arrival);
                *to = F::Tuple::new(&chosen.endpoint, &chosen.endpoint, (0, chosen.port), 0);
                Decision::OPENS
            }
            Ok(false) => Decision::NONE,
            Err(reason) => Decision::refused(reason),
        }
    });
    decision.unwrap_or(Decision::refused(Reason::TableInconsistent))
}

/// What the entry of its flow makes of a packet.
#[inline(always)]
fn follow<F: Family, T: Tables + Services>(
    tables: &T,
    asked: &Asked<F::Tuple>,
    (place, flow): (Place, &mut Flow),
    (to, changes, back, seen): (&mut F::Tuple, &mut Transition, &mut Back, &mut u64),
) -> Decision {
    let Some(timers) = tables.timers() else { return Decision::refused(Reason::TableInconsistent) };
    // Not before: at TC most packets are of no flow, and the clock is what costs them most.
    let now = tables.now();
    if begins_anew(flow, asked.tcp) || is_quiet(flow, timers, now) || endpoint_is_gone(tables, flow) {
        return Decision::OVER;
    }
    *to = F::Tuple::rewritten_by(flow);
    *back = way_back(flow);
    *seen = flow.seen;
    let transition = transition(flow, place, asked.tcp, now);
    refresh(flow, now, asked.bytes);
    tables.count_service(flow.service, asked.bytes, ServiceEvent::Packet);
    match transition {
        None => Decision::KNOWN,
        Some(transition) => {
            *changes = transition;
            Decision::CHANGES
        }
    }
}

/// The way of an answer.
#[inline(always)]
pub fn way_back(flow: &Flow) -> Back {
    if flow.flags & FLOW_REPLY == 0 { Back::default() } else { flow.back }
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
        && tables.backend(flow.backend).is_none_or(|backend| backend.generation != flow.generation)
}

/// Does what was decided, now that the way is known: enters a new flow, rewrites the packet. `obstacle`
/// says why there is no way, else the packet leaves by the interface `ifindex`. Where only the kernel knows
/// the way, the packet is handed up rewritten, at TC.
#[inline(always)]
pub fn carry<F: Answering, P: Packet, T: Stages<P>>(
    packet: &mut P,
    tables: &T,
    decision: Decision,
    obstacle: Decision,
    ifindex: u32,
) -> Decision {
    if let Some(reason) = obstacle.refusal() {
        // These are answered by the packet as it came; XDP leaves the others to TC.
        let as_it_came = matches!(reason, Reason::TtlExpired | Reason::Truncated | Reason::ServiceTooBig);
        let at_xdp = F::scratch(tables, |scratch| scratch.asked.arrival.at_xdp::<P>());
        if at_xdp != Some(false) || as_it_came {
            give_back::<F, T>(tables, decision);
            return obstacle;
        }
    }
    if decision == Decision::OPENS {
        let entered = tables.enter::<F>(ifindex);
        if entered != Decision::NONE {
            return entered;
        }
    }
    let carried = F::scratch(tables, |scratch| {
        let Scratch { asked, to, transition, fragment, back, seen, .. } = scratch;
        if decision == Decision::CHANGES && !carry_out::<F, T>(tables, &asked.tuple, transition) {
            unrefresh::<F, T>(tables, decision, asked, *seen);
            return Decision::refused(Reason::FlowTableFull);
        }
        // In XDP no number from memory: fewer places that the verifier must think of.
        let at = if asked.arrival.at_xdp::<P>() { F::TRANSPORT_AT } else { asked.at as usize };
        if translate::<F, P>(packet, at, &asked.tuple, to).is_none() {
            return Decision::refused(Reason::Truncated);
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

#[inline(always)]
fn give_back<F: Family, S: Services>(services: &S, decision: Decision) {
    F::scratch(services, |scratch| unrefresh::<F, S>(services, decision, &scratch.asked, scratch.seen));
}

/// The packet was counted and is not sent: it comes again at TC, or is dropped.
#[inline(always)]
fn unrefresh<F: Family, S: Services>(services: &S, decision: Decision, asked: &Asked<F::Tuple>, seen: u64) {
    if !matches!(decision, Decision::KNOWN | Decision::CHANGES) {
        return;
    }
    let service = F::flow(services, &asked.tuple, |_, flow| {
        flow.seen = seen;
        flow.packets = flow.packets.wrapping_sub(1);
        flow.bytes = flow.bytes.wrapping_sub(asked.bytes.into());
        flow.service
    });
    if let Some(service) = service {
        services.count_service(service, asked.bytes, ServiceEvent::LeftToTc);
    }
}
