//! A packet that may be to a Service, or an answer from one: the flow it belongs to, or the endpoint of the
//! one it opens. What is decided lies in the family's [`Scratch`]; the route table then says the way.

use super::family::{Family, tuple_of};
use super::follow::{Transition, begins_anew, carry_out, forget, is_quiet, refresh, transition};
use super::open::{Chosen, choose, enter};
use super::translate::translate;
use super::tuple::Tuple;
use crate::layout::flow::{FLOW_REPLY, Flow};
use crate::layout::route::{KIND_NEIGHBOUR, KIND_SERVICE};
use crate::packet::Packet;
use crate::pipeline::Arrival;
use crate::services::{Place, ServiceEvent, Services};
use crate::tables::Tables;
use crate::verdict::Reason;
use crate::wire::eth::ETH_LEN;
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
    const OVER: Self = Self(4);
    const REFUSED: u32 = 0x100;

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

/// Decides for a packet whose destination is of this kind. Out of line: most packets in XDP do not come
/// here.
#[inline(never)]
pub fn decide<F: Family, P: Packet, T: Tables + Services>(
    packet: &P,
    tables: &T,
    arrival: Arrival,
    destination: u8,
) -> Decision {
    let Some((tuple, tcp)) = tuple_of::<F, P>(packet) else {
        let ours = destination == KIND_SERVICE;
        return if ours { Decision::refused(without_ports::<F, P>(packet)) } else { Decision::NONE };
    };
    let decision = F::scratch(tables, |scratch| {
        // The length is read behind a helper's call: else the compiler hands over the packet's two ends in
        // place of the packet, and the verifier refuses what it then makes of them.
        scratch.asked = Asked { tuple, now: 0, arrival, bytes: packet.frame_length(), tcp, destination };
        let Scratch { asked, to, transition, chosen, .. } = scratch;
        let known = F::flow(tables, &asked.tuple, |place, flow| {
            follow::<F, T>(tables, asked, (place, flow), (to, transition))
        });
        match known {
            Some(Decision::OVER) => forget::<F, T>(tables, &asked.tuple),
            Some(decision) => return decision,
            // No front end has such an address.
            None if destination == KIND_NEIGHBOUR => return Decision::NONE,
            None => {}
        }
        asked.now = tables.now();
        match choose::<F, P, T>(tables, asked, chosen) {
            Ok(true) => {
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
    (to, changes): (&mut F::Tuple, &mut Transition),
) -> Decision {
    let Some(timers) = tables.timers() else { return Decision::refused(Reason::TableInconsistent) };
    // Not before: at TC most packets are of no flow, and the clock is what costs them most.
    let now = tables.now();
    if begins_anew(flow, asked.tcp) || is_quiet(flow, timers, now) || endpoint_is_gone(tables, flow) {
        return Decision::OVER;
    }
    *to = F::Tuple::rewritten_by(flow);
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

/// UDP to an endpoint that is not there any more goes to another; TCP is left to find out (S18).
#[inline(always)]
fn endpoint_is_gone<T: Services>(tables: &T, flow: &Flow) -> bool {
    flow.protocol != PROTOCOL_TCP
        && flow.flags & FLOW_REPLY == 0
        && tables.backend(flow.backend).is_none_or(|backend| backend.generation != flow.generation)
}

/// What is to an address of a Service and shows no ports.
#[inline(always)]
fn without_ports<F: Family, P: Packet>(packet: &P) -> Reason {
    match packet.get::<F>(ETH_LEN) {
        Some(ip) if ip.transport().is_none() => Reason::ServiceFragment,
        Some(_) => Reason::ServiceProtocol,
        None => Reason::Truncated,
    }
}

/// Does what was decided, now that the way is known: enters a new flow, rewrites the packet. `obstacle`
/// says why there is no way, else the packet leaves by the interface `ifindex`. Where only the kernel knows
/// the way, the packet is handed up rewritten, at TC.
#[inline(never)]
pub fn carry<F: Family, P: Packet, T: Tables + Services>(
    packet: &mut P,
    tables: &T,
    decision: Decision,
    obstacle: Decision,
    ifindex: u32,
) -> Decision {
    let carried = F::scratch(tables, |scratch| {
        let obstructed = obstacle.refusal();
        if let Some(reason) = obstructed {
            // The kernel answers the last two by the packet as it came; XDP leaves the others to TC.
            let left = scratch.asked.arrival.at_xdp::<P>();
            if left || matches!(reason, Reason::TtlExpired | Reason::Truncated) {
                unrefresh::<F, T>(tables, decision, &scratch.asked);
                return obstacle;
            }
        }
        if decision == Decision::OPENS {
            let entered = enter::<F, T>(tables, scratch, ifindex);
            if entered != Decision::NONE {
                return entered;
            }
        }
        let Scratch { asked, to, transition, .. } = scratch;
        if decision == Decision::CHANGES && !carry_out::<F, T>(tables, &asked.tuple, transition) {
            unrefresh::<F, T>(tables, decision, asked);
            return Decision::refused(Reason::FlowTableFull);
        }
        match translate::<F, P>(packet, &asked.tuple, to) {
            None => Decision::refused(Reason::Truncated),
            Some(()) if obstructed.is_some() => Decision::refused(Reason::Translated),
            Some(()) => Decision::NONE,
        }
    });
    carried.unwrap_or(Decision::refused(Reason::TableInconsistent))
}

/// The packet was counted and is not sent: it comes again at TC, or is dropped.
#[inline(always)]
fn unrefresh<F: Family, S: Services>(services: &S, decision: Decision, asked: &Asked<F::Tuple>) {
    if decision == Decision::OPENS {
        return;
    }
    let service = F::flow(services, &asked.tuple, |_, flow| {
        flow.packets = flow.packets.wrapping_sub(1);
        flow.bytes = flow.bytes.wrapping_sub(asked.bytes.into());
        flow.service
    });
    if let Some(service) = service {
        services.count_service(service, asked.bytes, ServiceEvent::LeftToTc);
    }
}
