//! What TCP, UDP, SCTP and ICMP echo have in common, and the fields the fast path reads and writes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::be::{Be16, Be32};

pub const PROTOCOL_ICMP: u8 = 1;
pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_UDP: u8 = 17;
pub const PROTOCOL_ICMPV6: u8 = 58;
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

/// TCP without options (RFC 9293 section 3.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tcp {
    pub source: Be16,
    pub destination: Be16,
    pub sequence: Be32,
    pub acknowledgment: Be32,
    /// Length of the header in 32-bit words, in the upper four bits.
    pub offset: u8,
    /// `TCP_*`.
    pub flags: u8,
    pub window: Be16,
    pub checksum: Be16,
    pub urgent: Be16,
}

/// TCP's data offset lies in the upper four bits of this byte (RFC 9293 section 3.1).
pub const TCP_DATA_OFFSET_AT: usize = 12;
/// TCP's control bits: the byte behind it.
pub const TCP_FLAGS_AT: usize = 13;
pub const TCP_FIN: u8 = 1;
pub const TCP_SYN: u8 = 1 << 1;
pub const TCP_RST: u8 = 1 << 2;
pub const TCP_ACK: u8 = 1 << 4;

/// Where the checksum lies in the transport header, of protocols whose checksum covers the pseudo-header of
/// the IP addresses. SCTP's does not, and is no sum.
pub const fn checksum_at(protocol: u8) -> Option<usize> {
    match protocol {
        PROTOCOL_TCP => Some(16),
        PROTOCOL_UDP => Some(6),
        _ => None,
    }
}

/// Whether the transport header of `protocol` starts with [`Ports`].
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP)
}
