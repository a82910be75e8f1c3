//! Routing of one IP packet: checks, lookup, choice, and only when all is certain the rewrite.

use super::choose::{for_flow, preferred};
use crate::hash::Hash;
use crate::layout::route::{KIND_KERNEL, KIND_LOCAL, KIND_NEIGHBOUR, KIND_NOT_FORWARDED, KIND_POD, NextHop};
use crate::packet::Packet;
use crate::pipeline::Arrival;
use crate::tables::Tables;
use crate::verdict::{Exit, Hook, Reason};
use crate::wire::eth::{ETH_LEN, Eth};
use crate::wire::ip::Ip;
use crate::wire::l4::{PROTOCOL_TCP, PROTOCOL_UDP, Ports, TCP_DATA_OFFSET_AT, UDP_LEN, has_ports};

/// Forwards the packet by the route table, or says why it goes up to the kernel unchanged.
#[inline(always)]
pub fn forward<I: Ip, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    arrival: Arrival,
) -> Result<Exit, Reason> {
    let available = packet.frame_length().wrapping_sub(ETH_LEN as u32);
    let segment = packet.segment();
    let ip: &I = packet.get(ETH_LEN).ok_or(Reason::Truncated)?;
    ip.check(available, segment.is_some())?;
    if ip.source_is_martian() {
        return Err(Reason::MartianSource);
    }
    let route = ip.route(tables).ok_or(Reason::NoRoute)?;
    let group = tables.group(route.group).ok_or(Reason::TableInconsistent)?;
    let (choice, next_hop) = match preferred(tables, group)? {
        Some(preferred) => preferred,
        None => for_flow(tables, group, flow_hash::<I, P>(packet))?,
    };
    let exit = exit(tables, arrival, next_hop)?;
    if ip.ttl() <= 1 {
        return Err(Reason::TtlExpired);
    }
    let length = match segment {
        // With what lies behind the packet: the device counts it, and drops what is too long.
        None => available,
        Some(payload) => segment_length::<I, P>(packet, payload).ok_or(Reason::Truncated)?,
    };
    if length > next_hop.mtu {
        return Err(Reason::TooBig);
    }
    let bytes = packet.frame_length();
    rewrite::<I, P>(packet, next_hop).ok_or(Reason::Truncated)?;
    tables.count_forwarded(route.stats.wrapping_add(choice.place()), choice.id(), bytes);
    Ok(exit)
}

/// How a packet for this next hop leaves from this hook.
#[inline(always)]
fn exit<T: Tables>(tables: &T, arrival: Arrival, next_hop: &NextHop) -> Result<Exit, Reason> {
    let Arrival { hook, ifindex } = arrival;
    match (next_hop.kind, hook) {
        (KIND_NEIGHBOUR, Hook::XdpNic) if next_hop.ifindex == ifindex => Ok(Exit::SameNic),
        (KIND_NEIGHBOUR, Hook::XdpNic) => {
            // Last of what may refuse the next hop: it names the device to the kernel.
            let taken = next_hop.xdp != 0 && tables.take_port(next_hop.port);
            if taken { Ok(Exit::Port(next_hop.port)) } else { Err(Reason::NoXdpTransmit) }
        }
        (KIND_NEIGHBOUR, _) => Ok(Exit::Interface(next_hop.ifindex)),
        (KIND_POD, Hook::XdpNic) => Err(Reason::PodAtTc),
        (KIND_POD, _) => Ok(Exit::Pod(next_hop.ifindex)),
        (KIND_LOCAL, _) => Err(Reason::Local),
        (KIND_NOT_FORWARDED, _) => Err(Reason::NotForwarded),
        (KIND_KERNEL, _) => Err(Reason::KernelRoute),
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
    let eth: &mut Eth = packet.get_mut(0)?;
    eth.destination.set(&next_hop.destination_mac);
    eth.source.set(&next_hop.source_mac);
    I::decrement_ttl(packet)
}
