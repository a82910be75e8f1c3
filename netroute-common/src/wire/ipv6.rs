//! IPv6 (RFC 8200).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

use super::be::{Be16, Be32};
use super::eth::ETH_LEN;
use super::ip::Ip;
use crate::hash::Hash;
use crate::layout::route::Route;
use crate::packet::Packet;
use crate::tables::Tables;
use crate::verdict::Reason;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ipv6 {
    /// Version (4 bits), traffic class (8), upper 4 bits of the flow label.
    pub version_class_flow: Be16,
    pub flow_low: Be16,
    pub payload_length: Be16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: [u8; 16],
    pub destination: [u8; 16],
}

pub const IPV6_LEN: u32 = size_of::<Ipv6>() as u32;

/// Fragment extension header (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Fragment6 {
    pub next_header: u8,
    pub reserved: u8,
    /// Offset in units of 8 bytes in the upper 13 bits; the lowest says that more follow.
    pub offset_more: Be16,
    pub identification: Be32,
}

pub const NEXT_FRAGMENT: u8 = 44;

impl Fragment6 {
    #[inline(always)]
    pub fn is_first(&self) -> bool {
        self.offset_more.get() & 0xfff8 == 0
    }
}

/// Extension header that every router on the way must look at (RFC 8200 section 4.3).
pub const NEXT_HOP_BY_HOP: u8 = 0;

/// Extension headers that say something other than a transport protocol: routing, fragment,
/// authentication, destination options, mobility, HIP, shim6 (IANA registry).
const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, 43 | 44 | 51 | 60 | 135 | 139 | 140)
}

impl Ip for Ipv6 {
    #[inline(always)]
    fn check(&self, available: u32, gso: bool) -> Result<(), Reason> {
        if self.version_class_flow.get() & 0xf000 != 0x6000 {
            return Err(Reason::Malformed);
        }
        if self.next_header == NEXT_HOP_BY_HOP {
            return Err(Reason::IpOptions);
        }
        if !gso && self.total_length() > available {
            return Err(Reason::Malformed);
        }
        Ok(())
    }

    #[inline(always)]
    fn total_length(&self) -> u32 {
        (self.payload_length.get() as u32).wrapping_add(IPV6_LEN)
    }

    #[inline(always)]
    fn source_is_martian(&self) -> bool {
        let [first, second, ..] = self.source;
        let multicast = first == 0xff;
        let link_local = first == 0xfe && second & 0xc0 == 0x80;
        // ::/96 holds the unspecified address, loopback and IPv4-compatible addresses;
        // ::ffff:0:0/96 is for sockets only (RFC 6890), and Linux drops it since 5.4.
        let [a, b, c, _]: [u32; 4] = transmute!(self.source);
        let not_on_wire = a == 0 && b == 0 && (c == 0 || c == u32::from_ne_bytes([0, 0, 0xff, 0xff]));
        multicast || link_local || not_on_wire
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        self.hop_limit
    }

    #[inline(always)]
    fn decrement_ttl<P: Packet>(packet: &mut P) -> Option<()> {
        let ip: &mut Self = packet.get_mut(ETH_LEN)?;
        let old = u16::from_be_bytes([ip.next_header, ip.hop_limit]);
        let new = old.wrapping_sub(1);
        ip.hop_limit = ip.hop_limit.wrapping_sub(1);
        packet.word_changed(old, new);
        Some(())
    }

    #[inline(always)]
    fn route<T: Tables>(&self, tables: &T) -> Option<Route> {
        tables.route6(self.destination)
    }

    #[inline(always)]
    fn transport(&self) -> Option<u8> {
        (!is_extension(self.next_header)).then_some(self.next_header)
    }

    #[inline(always)]
    fn may_be_fragmented(&self) -> bool {
        false
    }

    #[inline(always)]
    fn hash(&self) -> u32 {
        let [a, b, c, d]: [u32; 4] = transmute!(self.source);
        let [e, f, g, h]: [u32; 4] = transmute!(self.destination);
        let addresses = Hash::new().word(a).word(b).word(c).word(d).word(e).word(f).word(g).word(h);
        let label = (self.version_class_flow.get() & 0x000f, self.flow_low.get());
        addresses.word(u32::from(label.0) << 16 | u32::from(label.1)).finish()
    }
}
