//! Routing of one IP packet: checks, lookup, choice, and only when all is certain the rewrite.

use core::hint::black_box;

use super::answer::Answering;
use super::choose::{Choice, for_flow, preferred};
use super::family::Family;
use super::serve::Decision;
use super::stages::Stages;
use super::tuple::Tuple;
use crate::egress::Egress;
use crate::hash::Hash;
use crate::layout::egress::{DEFAULT_POLICY, POLICY_OWN_SOURCES};
use crate::layout::flow::Back;
use crate::layout::route::{
    FIRST_FREE_ID, KIND_KERNEL, KIND_LOCAL, KIND_NEIGHBOUR, KIND_NOT_FORWARDED, KIND_POD, KIND_SERVICE,
    KIND_UNRESOLVED, Member, NextHop, Route, UNCOUNTED, XDP_NO_TX, XDP_REDIRECT, fixed_id,
};
use crate::packet::Packet;
use crate::pipeline::Arrival;
use crate::services::Services;
use crate::tables::Tables;
use crate::verdict::{Exit, Fate, Hook, Reason};
use crate::wire::eth::{ETH_LEN, Eth};
use crate::wire::ip::Ip;
use crate::wire::l4::{PROTOCOL_TCP, PROTOCOL_UDP, Ports, TCP_DATA_OFFSET_AT, UDP_LEN, has_ports};

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

/// A next hop that is alive, and how a packet leaves for it.
pub struct Way<'t> {
    pub exit: Exit,
    pub next_hop: &'t NextHop,
    pub(super) choice: Choice,
    stats: u32,
}

impl<'t> Way<'t> {
    /// Finds the next hop of a route for this packet.
    #[inline(always)]
    pub fn find<I: Ip, P: Packet, T: Tables>(
        packet: &P,
        tables: &'t T,
        arrival: Arrival,
        route: Route,
    ) -> Result<Self, Reason> {
        if route.group == Route::NONE.group {
            return Err(Reason::NoRoute);
        }
        let group = tables.group(route.group).ok_or(Reason::TableInconsistent)?;
        let (choice, next_hop) = match preferred(tables, group)? {
            Some(preferred) => preferred,
            None => for_flow(tables, group, flow_hash::<I, P>(packet))?,
        };
        let exit = exit::<P, T>(tables, arrival, next_hop)?;
        Ok(Self { exit, next_hop, choice, stats: route.stats })
    }

    /// The way that the packets of the other direction came by, if the packet goes back and it lives (N13).
    /// What this hook cannot send there is not sent elsewhere.
    #[inline(always)]
    pub(super) fn back<F: Family, P: Packet, T: Tables + Services>(
        tables: &'t T,
        arrival: Arrival,
        decision: Decision,
    ) -> Option<Result<Self, Reason>> {
        if matches!(decision, Decision::NONE | Decision::OPENS | Decision::ALLOWED) {
            return None;
        }
        let Back { next_hop: id, mac, .. } = F::scratch(tables, |scratch| scratch.back)?;
        if id == 0 {
            return None;
        }
        let next_hop = tables.next_hop(id).filter(|hop| hop.alive != 0 && hop.destination_mac == mac)?;
        let choice = Choice::new(id, 0);
        Some(exit::<P, T>(tables, arrival, next_hop).map(|exit| Self {
            exit,
            next_hop,
            choice,
            stats: UNCOUNTED,
        }))
    }

    /// Why the packet may not take it, if it may not.
    #[inline(always)]
    pub(super) fn obstacle<I: Ip, P: Packet>(&self, packet: &P) -> Option<Reason> {
        let Some(ip) = packet.get::<I>(ETH_LEN) else { return Some(Reason::Truncated) };
        if ip.ttl() <= 1 {
            return Some(Reason::TtlExpired);
        }
        match length::<I, P>(packet) {
            None => Some(Reason::Truncated),
            Some(length) => (length > self.next_hop.mtu).then_some(Reason::TooBig),
        }
    }

    /// Whether the interface does not take the packet for its size.
    #[inline(always)]
    pub(super) fn too_big<I: Ip, P: Packet>(&self, packet: &P) -> bool {
        length::<I, P>(packet).is_none_or(|length| length > self.next_hop.mtu)
    }

    /// Writes the packet's link layer and TTL for the next hop, and counts it.
    #[inline(always)]
    pub fn leave<I: Ip, P: Packet, T: Tables>(&self, packet: &mut P, tables: &T) -> Option<Exit> {
        let bytes = packet.frame_length();
        rewrite::<I, P>(packet, self.next_hop)?;
        tables.count_forwarded(self.stats.wrapping_add(self.choice.place()), self.choice.id(), bytes);
        Some(self.exit)
    }

    /// Writes the link layer of a packet that the kernel was about to send.
    #[inline(always)]
    pub(super) fn redirect<P: Packet, T: Tables>(
        &self,
        packet: &mut P,
        tables: &T,
        arrival: Arrival,
    ) -> Option<Exit> {
        let bytes = packet.frame_length();
        address(packet, self.next_hop)?;
        tables.count_forwarded(self.stats.wrapping_add(self.choice.place()), self.choice.id(), bytes);
        Some(if self.next_hop.ifindex == arrival.ifindex { Exit::Onward } else { self.exit })
    }
}

/// IP bytes of the packet, of a GSO packet those of one segment.
#[inline(always)]
fn length<I: Ip, P: Packet>(packet: &P) -> Option<u32> {
    match packet.segment() {
        // With what lies behind the packet: the device counts it, and drops what is too long.
        None => Some(packet.frame_length().wrapping_sub(ETH_LEN as u32)),
        Some(payload) => segment_length::<I, P>(packet, payload),
    }
}

/// How a packet for this next hop leaves from this hook.
#[inline(always)]
fn exit<P: Packet, T: Tables>(tables: &T, arrival: Arrival, next_hop: &NextHop) -> Result<Exit, Reason> {
    let xdp = arrival.at_xdp::<P>();
    match next_hop.kind {
        KIND_NEIGHBOUR if !xdp => Ok(Exit::Interface(next_hop.ifindex)),
        KIND_NEIGHBOUR if next_hop.ifindex == arrival.ifindex && next_hop.xdp & XDP_NO_TX == 0 => {
            Ok(Exit::SameNic)
        }
        KIND_NEIGHBOUR => {
            // Last of what may refuse the next hop: it names the device to the kernel.
            let taken = next_hop.xdp & XDP_REDIRECT != 0 && tables.take_port(next_hop.port);
            if taken { Ok(Exit::Port(next_hop.port)) } else { Err(Reason::NoXdpTransmit) }
        }
        KIND_POD if xdp => Err(Reason::PodAtTc),
        KIND_POD => Ok(Exit::Pod(next_hop.ifindex)),
        KIND_LOCAL => Err(Reason::Local),
        KIND_NOT_FORWARDED => Err(Reason::NotForwarded),
        KIND_KERNEL => Err(Reason::KernelRoute),
        KIND_SERVICE => Err(Reason::NoService),
        _ => Err(Reason::NeighbourUnresolved),
    }
}

/// Hash of the flow: the ports only where every packet of the flow shows them, so that the
/// fragments of a packet stay together.
#[inline(always)]
fn flow_hash<I: Ip, P: Packet>(packet: &P) -> u32 {
    let at = ETH_LEN.wrapping_add(size_of::<I>());
    let Some(ip) = packet.get::<I>(ETH_LEN) else { return 0 };
    let hash = Hash::new().word(ip.hash());
    let Some(protocol) = ip.transport().filter(|&protocol| has_ports(protocol)) else { return hash.finish() };
    let Some(ports) = packet.get::<Ports>(at) else { return hash.finish() };
    let word = u32::from(ports.source.get()) << 16 | u32::from(ports.destination.get());
    hash.word(word).word(u32::from(protocol)).finish()
}

/// IP bytes of one segment of a GSO packet with `payload` bytes in it. Where the headers are not
/// known, those of the whole packet: no segment is larger.
#[inline(always)]
fn segment_length<I: Ip, P: Packet>(packet: &P, payload: u32) -> Option<u32> {
    let at = ETH_LEN.wrapping_add(size_of::<I>());
    let ip: &I = packet.get(ETH_LEN)?;
    let transport = match ip.transport() {
        Some(PROTOCOL_TCP) => {
            let offset: &[u8; 1] = packet.get(at.wrapping_add(TCP_DATA_OFFSET_AT))?;
            let [words] = offset;
            u32::from(words >> 4).wrapping_mul(4)
        }
        Some(PROTOCOL_UDP) => UDP_LEN,
        _ => return Some(packet.frame_length().wrapping_sub(ETH_LEN as u32)),
    };
    Some((size_of::<I>() as u32).wrapping_add(transport).wrapping_add(payload))
}

#[inline(always)]
fn rewrite<I: Ip, P: Packet>(packet: &mut P, next_hop: &NextHop) -> Option<()> {
    address(packet, next_hop)?;
    I::decrement_ttl(packet)
}

#[inline(always)]
fn address<P: Packet>(packet: &mut P, next_hop: &NextHop) -> Option<()> {
    let eth: &mut Eth = packet.get_mut(0)?;
    eth.destination.set(&next_hop.destination_mac);
    eth.source.set(&next_hop.source_mac);
    Some(())
}
