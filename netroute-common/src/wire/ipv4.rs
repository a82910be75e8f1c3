//! IPv4 (RFC 791).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::be::Be16;
use super::eth::ETH_LEN;
use super::ip::Ip;
use crate::checksum::Update;
use crate::hash::Hash;
use crate::layout::route::Route;
use crate::packet::Packet;
use crate::strides::route4;
use crate::tables::Tables;
use crate::verdict::Reason;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ipv4 {
    /// Version in the upper four bits, header length in 32-bit words in the lower four.
    pub version_ihl: u8,
    pub dscp_ecn: u8,
    pub total_length: Be16,
    pub identification: Be16,
    /// Flags in the upper three bits, fragment offset in units of 8 bytes in the lower 13.
    pub flags_fragment: Be16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: Be16,
    pub source: [u8; 4],
    pub destination: [u8; 4],
}

pub const IPV4_LEN: u32 = size_of::<Ipv4>() as u32;

const VERSION_4_NO_OPTIONS: u8 = 0x45;
const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;
const TTL_ONE: u16 = 0x0100;

const DONT_FRAGMENT: u16 = 0x4000;
const OFFSET: u16 = 0x1fff;

impl Ipv4 {
    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Bytes, options included.
    #[inline(always)]
    pub fn header_length(&self) -> usize {
        usize::from(self.version_ihl & 0xf).wrapping_mul(4)
    }

    /// A whole packet, or the fragment that its transport header is in.
    #[inline(always)]
    pub fn is_first(&self) -> bool {
        self.flags_fragment.get() & OFFSET == 0
    }
}

impl Ip for Ipv4 {
    #[inline(always)]
    fn check(&self, available: u32, gso: bool) -> Result<(), Reason> {
        if self.version_ihl != VERSION_4_NO_OPTIONS {
            let options = self.version_ihl > VERSION_4_NO_OPTIONS && self.version_ihl <= 0x4f;
            return Err(if options { Reason::IpOptions } else { Reason::Malformed });
        }
        let length = self.total_length();
        if !gso && (length < IPV4_LEN || length > available) {
            return Err(Reason::Malformed);
        }
        Ok(())
    }

    #[inline(always)]
    fn total_length(&self) -> u32 {
        self.total_length.get() as u32
    }

    #[inline(always)]
    fn source_is_martian(&self) -> bool {
        let [first, ..] = self.source;
        first == 0 || first == 127 || first >= 224
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        self.ttl
    }

    #[inline(always)]
    fn decrement_ttl<P: Packet>(packet: &mut P) -> Option<()> {
        let ip: &mut Self = packet.get_mut(ETH_LEN)?;
        let old = u16::from_be_bytes([ip.ttl, ip.protocol]);
        ip.checksum = Update::of(ip.checksum).replace(old, old.wrapping_sub(TTL_ONE)).ip();
        ip.ttl = ip.ttl.wrapping_sub(1);
        Some(())
    }

    #[inline(always)]
    fn route<T: Tables>(&self, tables: &T) -> Option<Route> {
        route4(tables, self.destination)
    }

    #[inline(always)]
    fn transport(&self) -> Option<u8> {
        let whole = self.flags_fragment.get() & MORE_FRAGMENTS_OR_OFFSET == 0;
        whole.then_some(self.protocol)
    }

    #[inline(always)]
    fn may_be_fragmented(&self) -> bool {
        self.flags_fragment.get() & DONT_FRAGMENT == 0
    }

    #[inline(always)]
    fn hash(&self) -> u32 {
        Hash::new()
            .word(u32::from_ne_bytes(self.source))
            .word(u32::from_ne_bytes(self.destination))
            .word(self.protocol as u32)
            .finish()
    }
}
