//! The next hop that a packet takes, and how it leaves for it.

use super::choose::{Choice, for_flow, preferred};
use super::family::Family;
use super::serve::Decision;
use crate::hash::Hash;
use crate::layout::flow::Back;
use crate::layout::route::{
    KIND_KERNEL, KIND_LOCAL, KIND_NEIGHBOUR, KIND_NOT_FORWARDED, KIND_POD, KIND_SERVICE, NextHop, Route,
    UNCOUNTED, XDP_NO_TX, XDP_REDIRECT,
};
use crate::packet::Packet;
use crate::pipeline::Arrival;
use crate::services::Services;
use crate::tables::Tables;
use crate::verdict::{Exit, Reason};
use crate::wire::eth::{ETH_LEN, Eth};
use crate::wire::ip::Ip;
use crate::wire::l4::{PROTOCOL_TCP, PROTOCOL_UDP, Ports, TCP_DATA_OFFSET_AT, UDP_LEN, has_ports};

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
