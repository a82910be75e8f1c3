//! What TCP, UDP and SCTP have in common, and the TCP fields the fast path reads.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::be::Be16;

pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_UDP: u8 = 17;
pub const PROTOCOL_SCTP: u8 = 132;

/// Bytes of a UDP header (RFC 768).
pub const UDP_LEN: u32 = 8;

/// First four bytes of TCP (RFC 9293), UDP (RFC 768) and SCTP (RFC 9260).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ports {
    pub source: Be16,
    pub destination: Be16,
}

/// TCP's data offset lies in the upper four bits of this byte (RFC 9293 section 3.1).
pub const TCP_DATA_OFFSET_AT: usize = 12;

/// Whether the transport header of `protocol` starts with [`Ports`].
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP)
}
