//! Frames as generators send them: 64 bytes and more on the wire, UDP.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use etherparse::{IpNumber, Ipv4Header, PacketBuilder};

/// The NIC that all packets come in on.
pub const NIC_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
const SOURCE4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
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
