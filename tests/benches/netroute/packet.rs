//! Frames as generators send them: 64 bytes and more on the wire, UDP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use etherparse::{IpNumber, Ipv4Header, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};

/// The NIC that all packets come in on.
pub const NIC_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
pub const SOURCE4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const SOURCE6: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 5);
pub const TTL: u8 = 64;
const PAYLOAD: [u8; 32] = [0xa5; 32];
const UDP_LEN: usize = 8;

pub fn frame4(destination: Ipv4Addr) -> Result<Vec<u8>> {
    frame4_with(destination, NIC_MAC, TTL)
}

pub fn frame4_with(destination: Ipv4Addr, to: [u8; 6], ttl: u8) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(PEER_MAC, to);
    let builder = builder.ipv4(SOURCE4.octets(), destination.octets(), ttl).udp(5000, 9);
    let mut frame = Vec::with_capacity(builder.size(PAYLOAD.len()));
    builder.write(&mut frame, &PAYLOAD)?;
    Ok(frame)
}

pub fn frame6(destination: Ipv6Addr) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(PEER_MAC, NIC_MAC);
    let builder = builder.ipv6(SOURCE6.octets(), destination.octets(), TTL).udp(5000, 9);
    let mut frame = Vec::with_capacity(builder.size(PAYLOAD.len()));
    builder.write(&mut frame, &PAYLOAD)?;
    Ok(frame)
}

/// Destination and the header checksum that [`frame4`] would have with it, as they lie in memory.
pub fn flow4(destination: Ipv4Addr) -> Result<[u16; 4]> {
    let length = u16::try_from(UDP_LEN + PAYLOAD.len())?;
    let header = Ipv4Header::new(length, TTL, IpNumber::UDP, SOURCE4.octets(), destination.octets())?;
    let [a, b, c, d] = destination.octets();
    let checksum = header.calc_header_checksum().to_be();
    Ok([u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]), checksum, 0])
}

pub fn flow6(destination: Ipv6Addr) -> [u16; 8] {
    destination.segments().map(u16::to_be)
}

/// An IPv4 frame with this TTL and the checksum that belongs to it.
pub fn is_valid4(frame: &[u8], ttl: u8) -> bool {
    let Ok((header, _)) = Ipv4Header::from_slice(frame.get(14..).unwrap_or_default()) else { return false };
    header.time_to_live == ttl && header.header_checksum == header.calc_header_checksum()
}

/// What a packet is to its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segment {
    Udp,
    Syn,
    SynAck,
    Ack,
}

/// A frame from one end to the other, by way of the NIC.
pub fn frame_between(from: SocketAddr, to: SocketAddr, segment: Segment) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(PEER_MAC, NIC_MAC);
    let builder = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), TTL),
        (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), TTL),
        _ => bail!("{from} and {to} are of different families"),
    };
    let mut frame = Vec::new();
    if segment == Segment::Udp {
        builder.udp(from.port(), to.port()).write(&mut frame, &PAYLOAD)?;
        return Ok(frame);
    }
    let tcp = builder.tcp(from.port(), to.port(), 1, u16::MAX);
    let tcp = if segment == Segment::Ack { tcp } else { tcp.syn() };
    let tcp = if segment == Segment::Syn { tcp } else { tcp.ack(1) };
    tcp.write(&mut frame, &PAYLOAD)?;
    Ok(frame)
}

/// Source and destination of a frame.
pub fn ends(frame: &[u8]) -> Result<(SocketAddr, SocketAddr)> {
    let packet = PacketHeaders::from_ethernet_slice(frame)?;
    let ports = match packet.transport.context("no transport header")? {
        TransportHeader::Udp(header) => (header.source_port, header.destination_port),
        TransportHeader::Tcp(header) => (header.source_port, header.destination_port),
        _ => bail!("neither UDP nor TCP"),
    };
    let addresses: (IpAddr, IpAddr) = match packet.net.context("no IP header")? {
        NetHeaders::Ipv4(header, _) => (header.source.into(), header.destination.into()),
        NetHeaders::Ipv6(header, _) => (header.source.into(), header.destination.into()),
        NetHeaders::Arp(_) => bail!("not IP"),
    };
    Ok((SocketAddr::new(addresses.0, ports.0), SocketAddr::new(addresses.1, ports.1)))
}

/// A frame with this TTL or hop limit, and with all checksums that belong to it.
pub fn is_valid(frame: &[u8], ttl: u8) -> bool {
    let Ok(PacketHeaders { net: Some(net), transport: Some(transport), payload, .. }) =
        PacketHeaders::from_ethernet_slice(frame)
    else {
        return false;
    };
    let mut right = transport.clone();
    let updated = match &net {
        NetHeaders::Ipv4(header, _) => {
            is_valid4(frame, ttl) && right.update_checksum_ipv4(header, payload.slice()).is_ok()
        }
        NetHeaders::Ipv6(header, _) => {
            header.hop_limit == ttl && right.update_checksum_ipv6(header, payload.slice()).is_ok()
        }
        NetHeaders::Arp(_) => false,
    };
    updated && right == transport
}
