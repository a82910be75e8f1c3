//! Routing of one IP packet: checks, lookup, choice, and only when all is certain the rewrite.

use core::hint::black_box;

use super::answer::Answering;
use super::family::Family;
use super::serve::Decision;
use super::stages::Stages;
use super::tuple::Tuple;
use super::way::Way;
use crate::egress::Egress;
use crate::layout::egress::{DEFAULT_POLICY, POLICY_OWN_SOURCES};
use crate::layout::route::{
    FIRST_FREE_ID, KIND_KERNEL, KIND_LOCAL, KIND_NEIGHBOUR, KIND_NOT_FORWARDED, KIND_POD, KIND_SERVICE,
    KIND_UNRESOLVED, Member, Route, UNCOUNTED, fixed_id,
};
use crate::packet::Packet;
use crate::pipeline::Arrival;
use crate::services::Services;
use crate::tables::Tables;
use crate::verdict::{Exit, Fate, Hook, Reason};
use crate::wire::eth::ETH_LEN;
use crate::wire::ip::Ip;

/// Forwards the packet by the route table, to where its Service sends it if it is to one, or says why it
/// goes up to the kernel unchanged.
#[inline(always)]
pub fn forward<F: Answering, P: Packet, T: Stages<P>>(
    packet: &mut P,
    tables: &T,
    arrival: Arrival,
) -> Result<Exit, Reason> {
    let available = packet.frame_length().wrapping_sub(ETH_LEN as u32);
    let gso = packet.segment().is_some();
    let ip: &F = packet.get(ETH_LEN).ok_or(Reason::Truncated)?;
    if let Err(reason) = ip.check(available, gso) {
        // The kernel would send it on as it is, which is not where the Service is.
        let route = ip.route(tables).unwrap_or(Route::NONE);
        if reason == Reason::IpOptions && !arrival.at_xdp::<P>() && arrival.hook == Hook::TcPod {
            own_source::<F, P, T>(packet, tables, arrival, kind_of(route.group))?;
        }
        let ours = reason == Reason::IpOptions && kind_of(route.group) == KIND_SERVICE;
        return Err(if ours { Reason::ServiceProtocol } else { reason });
    }
    if ip.source_is_martian() {
        return Err(Reason::MartianSource);
    }
    let route = ip.route(tables).unwrap_or(Route::NONE);
    if !arrival.at_xdp::<P>() && arrival.hook == Hook::TcPod {
        own_source::<F, P, T>(packet, tables, arrival, kind_of(route.group))?;
    }
    let decision = ask_services::<F, P, T>(packet, tables, arrival, kind_of(route.group));
    if let Some(reason) = decision.refusal() {
        return Err(answered::<F, P, T>(packet, tables, arrival, reason, 0));
    }
    let found = match Way::back::<F, P, T>(tables, arrival, decision) {
        Some(back) => back,
        None => {
            let known = decision == Decision::NONE;
            let route = if known { route } else { route_of_scratch::<F, T>(tables) };
            Way::find::<F, P, T>(packet, tables, arrival, route)
        }
    };
    let (obstacle, mtu, next_hop) = match &found {
        Ok(way) => (way.obstacle::<F, P>(packet), way.next_hop.mtu, way.choice.id()),
        Err(reason) => (Some(*reason), 0, 0),
    };
    let way = match (found, obstacle) {
        (Ok(way), None) => way,
        (_, obstacle) => {
            let reason = obstacle.unwrap_or(Reason::TableInconsistent);
            if decision == Decision::NONE {
                return Err(reason);
            }
            if decision == Decision::ALLOWED {
                tables.hold::<F>(decision, Decision::refused(reason), 0);
                return Err(reason);
            }
            let reason = too_big_for_service::<F, P>(packet, arrival, decision, reason);
            let obstacle = Decision::refused(reason);
            let carried = carry::<F, P, T>(packet, tables, decision, obstacle, next_hop);
            let reason = carried.refusal().unwrap_or(reason);
            return Err(answered::<F, P, T>(packet, tables, arrival, reason, mtu));
        }
    };
    let carried = carry::<F, P, T>(packet, tables, decision, Decision::NONE, next_hop);
    if let Some(reason) = carried.refusal() {
        return Err(reason);
    }
    way.leave::<F, P, T>(packet, tables).ok_or(Reason::Truncated)
}

/// Does what was decided.
#[inline(always)]
pub(super) fn carry<F: Answering, P: Packet, T: Stages<P>>(
    packet: &mut P,
    tables: &T,
    decision: Decision,
    obstacle: Decision,
    next_hop: u32,
) -> Decision {
    match decision {
        Decision::NONE | Decision::ALLOWED => Decision::NONE,
        Decision::ERROR | Decision::FRAGMENT => tables.carry_related::<F>(packet, decision, obstacle),
        _ => {
            if decision == Decision::OPENS || obstacle != Decision::NONE {
                let held = tables.hold::<F>(decision, obstacle, next_hop);
                if held != Decision::NONE {
                    return held;
                }
            }
            if decision == Decision::OPENS {
                let entered = tables.enter::<F>();
                if entered != Decision::NONE {
                    return entered;
                }
            }
            tables.carry::<F>(packet, decision, obstacle)
        }
    }
}

/// A pod sends from its own addresses (E6). Where the route table does not say whose one is, the kernel
/// looks after it. What a router does not forward (neighbour discovery, say) goes nowhere anyway.
#[inline(always)]
fn own_source<F: Family, P: Packet, T: Tables + Egress>(
    packet: &P,
    tables: &T,
    arrival: Arrival,
    destination: u8,
) -> Result<(), Reason> {
    let checks = tables.policy(DEFAULT_POLICY).is_some_and(|policy| policy.flags & POLICY_OWN_SOURCES != 0);
    if !checks || destination == KIND_NOT_FORWARDED {
        return Ok(());
    }
    let source = packet.get::<F>(ETH_LEN).ok_or(Reason::Truncated)?.tuple((0, 0), 0).source();
    let Route { group, .. } = F::route_to(tables, &source).unwrap_or(Route::NONE);
    if group == fixed_id(KIND_KERNEL) || group == fixed_id(KIND_UNRESOLVED) {
        return Ok(());
    }
    let group = tables.group(group).ok_or(Reason::SpoofedSource)?;
    let [Member { next_hop, .. }, ..] = group.members;
    let owner = tables.next_hop(next_hop).ok_or(Reason::TableInconsistent)?;
    let own = owner.kind == KIND_POD && owner.ifindex == arrival.ifindex;
    if own { Ok(()) } else { Err(Reason::SpoofedSource) }
}

/// What Services and policies have to do with a packet whose destination is of this kind.
#[inline(always)]
fn ask_services<F: Answering, P: Packet, T: Stages<P>>(
    packet: &mut P,
    tables: &T,
    arrival: Arrival,
    destination: u8,
) -> Decision {
    let at_xdp = arrival.at_xdp::<P>();
    // At TC, what comes from a pod or goes to one may be an answer.
    if at_xdp && destination != KIND_LOCAL && destination != KIND_SERVICE {
        return Decision::NONE;
    }
    match tables.decide::<F>(packet, arrival, destination) {
        Decision::WITHOUT_PORTS if !at_xdp => portless::<F, P, T>(packet, tables, arrival, destination),
        Decision::WITHOUT_PORTS if destination == KIND_SERVICE => {
            let icmp = packet.get::<F>(ETH_LEN).and_then(Ip::transport) == Some(F::ICMP);
            let left = icmp || F::fragment(packet).is_some();
            Decision::refused(if left { Reason::ServiceAtTc } else { Reason::ServiceProtocol })
        }
        Decision::WITHOUT_PORTS => Decision::NONE,
        decision if at_xdp => decision.unjudged(),
        decision => judged::<F, P, T>(tables, arrival, decision),
    }
}

/// What policies make of a decision, at TC. A function of its own calls no other large one: their stacks add up.
#[inline(always)]
pub(super) fn judged<F: Answering, P: Packet, T: Stages<P>>(
    tables: &T,
    arrival: Arrival,
    decision: Decision,
) -> Decision {
    match decision {
        Decision::LEAVES | Decision::STALE | Decision::STALE_CHANGES => tables.leave::<F>(decision),
        // An endpoint may be outside of the cluster.
        Decision::OPENS if arrival.hook == Hook::TcPod => tables.leave::<F>(decision),
        decision => decision,
    }
}

/// What is decided for a packet without ports, at TC.
#[inline(always)]
pub(super) fn portless<F: Answering, P: Packet, T: Stages<P>>(
    packet: &mut P,
    tables: &T,
    arrival: Arrival,
    destination: u8,
) -> Decision {
    match tables.relate::<F>(packet, arrival, destination) {
        Decision::PORTLESS => tables.leave::<F>(Decision::PORTLESS),
        decision => decision,
    }
}

/// Makes the packet the answer that the reason asks for, if it asks for one.
#[inline(always)]
pub(super) fn answered<F: Answering, P: Packet, T: Stages<P>>(
    packet: &mut P,
    tables: &T,
    arrival: Arrival,
    reason: Reason,
    mtu: u32,
) -> Reason {
    match reason.fate() {
        // A veth keeps what XDP sends back; and it is no hurry.
        Fate::Answer if arrival.at_xdp::<P>() => Reason::RefusedAtTc,
        Fate::Answer if !tables.answer::<F>(packet, reason, mtu) => Reason::RefusedSilently,
        _ => reason,
    }
}

/// Of a flow, without ports of its own.
#[inline(always)]
fn related(decision: Decision) -> bool {
    matches!(decision, Decision::ERROR | Decision::FRAGMENT)
}

/// The kernel would answer a packet that is too big with the endpoint's address.
#[inline(always)]
fn too_big_for_service<F: Answering, P: Packet>(
    packet: &P,
    arrival: Arrival,
    decision: Decision,
    reason: Reason,
) -> Reason {
    let has_ports = !related(decision);
    let whole = packet.get::<F>(ETH_LEN).is_some_and(|ip| !ip.may_be_fragmented());
    let ours = reason == Reason::TooBig && has_ports && whole && !arrival.at_xdp::<P>();
    if ours { Reason::ServiceTooBig } else { reason }
}

/// The route to where the packet goes once it is rewritten, or what its policy names in its place.
#[inline(always)]
pub(super) fn route_of_scratch<F: Family, T: Tables + Services>(tables: &T) -> Route {
    let route = F::scratch(tables, |scratch| match scratch.via {
        0 => F::route_to(tables, &scratch.to.destination()),
        group => Some(Route { group, stats: UNCOUNTED }),
    });
    let Route { group, stats } = route.flatten().unwrap_or(Route::NONE);
    // In one opaque word: else, where there is none, the compiler leaves registers unset that it copies
    // later, and the verifier refuses the copy.
    let both = black_box(u64::from(stats) << 32 | u64::from(group));
    Route { group: both as u32, stats: (both >> 32) as u32 }
}

/// The kind that a fixed group stands for; that of a neighbour for all others, and where there is no route: a
/// policy may know a way.
#[inline(always)]
fn kind_of(group: u32) -> u8 {
    // Its number is a kind's.
    if group == Route::NONE.group {
        return KIND_NEIGHBOUR;
    }
    if group < FIRST_FREE_ID { group as u8 } else { KIND_NEIGHBOUR }
}
