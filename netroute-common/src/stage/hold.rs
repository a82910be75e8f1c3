//! What stands between a decision and its translation: no way, or where a new flow leaves by. And what was counted
//! for a packet that goes no further is taken back.

use super::family::Family;
use super::open::From;
use super::serve::{Asked, Decision, Scratch, count};
use super::tuple::Tuple;
use crate::egress::{Egress, EgressEvent};
use crate::layout::flow::{Back, FLOW_EGRESS};
use crate::layout::route::KIND_LOCAL;
use crate::services::{ServiceEvent, Services};
use crate::tables::Tables;
use crate::verdict::{Hook, Reason};

/// What stands before the translation: `obstacle` says why there is no way, else the packet leaves by `next_hop`,
/// an index into `NEXTHOPS`. [`Decision::NONE`] if the packet is to be translated. A function of its own, as is the
/// entry of a new flow, and neither is called by [`super::serve::carry`]: their stacks would add up.
#[inline(always)]
pub fn hold<F: Family, T: Tables + Services + Egress>(
    tables: &T,
    decision: Decision,
    obstacle: Decision,
    next_hop: u32,
) -> Decision {
    if decision == Decision::ALLOWED {
        // Comes again at TC egress.
        F::scratch(tables, |Scratch { asked, chosen, .. }| {
            tables.count_egress(chosen.policy, asked.bytes, tables.now(), EgressEvent::LeftToTc);
        });
        return obstacle;
    }
    if let Some(reason) = obstacle.refusal() {
        // These are answered by the packet as it came; XDP leaves the others to TC.
        let as_it_came = matches!(reason, Reason::TtlExpired | Reason::Truncated | Reason::ServiceTooBig);
        let (stays, strays) = F::scratch(tables, |Scratch { asked, standing, chosen, .. }| {
            let translated = decision == Decision::OPENS && chosen.from != From::Client;
            let strays = standing.outward && translated && reason == Reason::KernelRoute;
            (asked.arrival.hook == Hook::XdpNic || standing.outward, strays)
        })
        .unwrap_or((true, false));
        if strays {
            // There is no hook where the kernel's way leads.
            return denied::<F, T>(tables, Reason::EgressUnmanaged);
        }
        if stays || as_it_came {
            give_back::<F, T>(tables, decision);
            return obstacle;
        }
        if reason == Reason::TooBig && becomes_the_nodes::<F, T>(tables, decision) {
            give_back::<F, T>(tables, decision);
            return Decision::refused(Reason::ServiceTooBig);
        }
    }
    if decision == Decision::OPENS {
        F::scratch(tables, |scratch| leaves_by(tables, scratch, next_hop));
    }
    Decision::NONE
}

/// What opens a flow and goes no further counts for its policy, if it has one.
#[inline(always)]
pub(super) fn denied<F: Family, T: Services + Egress>(tables: &T, reason: Reason) -> Decision {
    F::scratch(tables, |Scratch { asked, chosen, .. }| {
        if chosen.flags & FLOW_EGRESS != 0 {
            tables.count_egress(chosen.policy, asked.bytes, asked.now, EgressEvent::Denied);
        }
    });
    Decision::refused(reason)
}

/// Notes the interface that a new flow leaves by, and the next hop for one that sticks to it.
#[inline(always)]
fn leaves_by<A, T: Tables>(tables: &T, scratch: &mut Scratch<A>, next_hop: u32) {
    let Scratch { asked, chosen, back, .. } = scratch;
    match tables.next_hop(next_hop).filter(|_| next_hop != 0) {
        Some(hop) => {
            chosen.out = Back { next_hop, mac: hop.destination_mac, zero: [0; 2] };
            chosen.ifindex = hop.ifindex;
        }
        None => {
            chosen.ifindex = if asked.arrival.hook == Hook::TcOut { asked.arrival.ifindex } else { 0 };
            chosen.out = Back::by_interface(chosen.ifindex);
        }
    }
    if chosen.flags & FLOW_EGRESS != 0 {
        // Fragments behind the first go there too.
        *back = chosen.out;
    }
}

/// Whether the packet will be from an address of the node: coming from outside, the kernel takes that for a
/// martian's and does not fragment it.
#[inline(always)]
fn becomes_the_nodes<F: Family, T: Tables + Services>(tables: &T, decision: Decision) -> bool {
    let own = F::scratch(tables, |Scratch { to, chosen, .. }| {
        if decision == Decision::OPENS {
            return chosen.from != From::Client;
        }
        F::route_to(tables, &to.source()).is_some_and(|route| route.group == u32::from(KIND_LOCAL))
    });
    own == Some(true)
}

/// What was counted for the packet of a flow is taken back.
#[inline(always)]
pub(super) fn give_back<F: Family, T: Services + Egress>(tables: &T, decision: Decision) {
    F::scratch(tables, |scratch| unrefresh::<F, T>(tables, decision, &scratch.asked, scratch.seen));
}

/// The packet was counted and is not sent: it comes again at TC, or is dropped.
#[inline(always)]
pub(super) fn unrefresh<F: Family, T: Services + Egress>(
    tables: &T,
    decision: Decision,
    asked: &Asked<F::Tuple>,
    seen: u64,
) {
    if !matches!(decision, Decision::KNOWN | Decision::CHANGES) {
        return;
    }
    F::flow(tables, &asked.tuple, |_, flow| {
        let event = (ServiceEvent::LeftToTc, EgressEvent::LeftToTc);
        count(tables, flow, asked.bytes, flow.seen, event);
        flow.seen = seen;
        flow.packets = flow.packets.wrapping_sub(1);
        flow.bytes = flow.bytes.wrapping_sub(asked.bytes.into());
    });
}
