//! What the node itself sends out of a NIC, and what the kernel forwards: the same flows and policies as
//! elsewhere. The kernel has chosen the way, looked at the TTL and the size; all of that stays unless a flow or
//! a policy names another way.

use super::answer::Answering;
use super::forward::{answered, carry, judged, portless, route_of_scratch};
use super::serve::Decision;
use super::stages::Stages;
use super::way::Way;
use crate::layout::flow::PeerKey;
use crate::layout::route::KIND_NEIGHBOUR;
use crate::packet::Packet;
use crate::pipeline::Arrival;
use crate::verdict::{Exit, Reason};
use crate::wire::eth::Eth;

/// Lets the packet go on, sends it elsewhere, or says why not.
#[inline(always)]
pub fn outgoing<F: Answering, P: Packet, T: Stages<P>>(
    packet: &mut P,
    tables: &T,
    arrival: Arrival,
) -> Result<Exit, Reason> {
    let decision = match tables.decide::<F>(packet, arrival, KIND_NEIGHBOUR) {
        Decision::WITHOUT_PORTS => portless::<F, P, T>(packet, tables, arrival, KIND_NEIGHBOUR),
        decision => judged::<F, P, T>(tables, arrival, decision),
    };
    if decision == Decision::NONE {
        return Err(Reason::Outgoing);
    }
    if let Some(reason) = decision.refusal() {
        return Err(answered::<F, P, T>(packet, tables, arrival, reason, 0));
    }
    let named = F::scratch(tables, |scratch| scratch.via).unwrap_or(0) != 0;
    let found = match Way::back::<F, P, T>(tables, arrival, decision) {
        None if named => {
            let route = route_of_scratch::<F, T>(tables);
            Some(Way::find::<F, P, T>(packet, tables, arrival, route))
        }
        back => back,
    };
    match found {
        None => {
            let next_hop = neighbour::<P, T>(packet, tables, arrival);
            let carried = carry::<F, P, T>(packet, tables, decision, Decision::NONE, next_hop);
            carried.refusal().map_or(Ok(Exit::Onward), Err)
        }
        Some(Err(_)) => {
            give_up::<F, P, T>(packet, tables, decision, Reason::EgressPathGone);
            Err(Reason::EgressPathGone)
        }
        Some(Ok(way)) => {
            if way.too_big::<F, P>(packet) {
                give_up::<F, P, T>(packet, tables, decision, Reason::ServiceTooBig);
                let mtu = way.next_hop.mtu;
                return Err(answered::<F, P, T>(packet, tables, arrival, Reason::ServiceTooBig, mtu));
            }
            let carried = carry::<F, P, T>(packet, tables, decision, Decision::NONE, way.choice.id());
            if let Some(reason) = carried.refusal() {
                return Err(reason);
            }
            way.redirect::<P, T>(packet, tables, arrival).ok_or(Reason::Truncated)
        }
    }
}

/// The packet stays as it came.
#[inline(always)]
fn give_up<F: Answering, P: Packet, T: Stages<P>>(
    packet: &mut P,
    tables: &T,
    decision: Decision,
    reason: Reason,
) {
    let obstacle = Decision::refused(reason);
    if decision == Decision::ALLOWED {
        tables.hold::<F>(decision, obstacle, 0);
    } else {
        carry::<F, P, T>(packet, tables, decision, obstacle, 0);
    }
}

/// The next hop that the kernel sends the packet to; 0 if it is none of ours.
#[inline(always)]
fn neighbour<P: Packet, T: Stages<P>>(packet: &P, tables: &T, arrival: Arrival) -> u32 {
    let Some(eth) = packet.get::<Eth>(0) else { return 0 };
    let key = PeerKey { ifindex: arrival.ifindex, mac: eth.destination.octets(), zero: 0 };
    tables.neighbour(&key).unwrap_or(0)
}
