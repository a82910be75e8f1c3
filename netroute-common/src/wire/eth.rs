//! Ethernet II (IEEE 802.3 clause 3.2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

use super::be::Be16;

/// An address as three words in network order: it is copied and compared in halfwords.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Mac([u16; 3]);

impl Mac {
    #[inline(always)]
    pub fn new(octets: [u8; 6]) -> Self {
        transmute!(octets)
    }

    /// By halfwords: copied as an array it would become a call of `memmove`.
    #[inline(always)]
    pub fn set(&mut self, octets: &[u8; 6]) {
        let [a, b, c, d, e, f] = *octets;
        let [first, second, third] = &mut self.0;
        *first = u16::from_ne_bytes([a, b]);
        *second = u16::from_ne_bytes([c, d]);
        *third = u16::from_ne_bytes([e, f]);
    }

    #[inline(always)]
    pub fn octets(self) -> [u8; 6] {
        transmute!(self)
    }
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Eth {
    pub destination: Mac,
    pub source: Mac,
    pub ethertype: Be16,
}

/// Bytes of the header: where the network header starts.
pub const ETH_LEN: usize = size_of::<Eth>();

pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IEEE 802.1Q customer tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// IEEE 802.1ad service tag.
pub const ETHERTYPE_QINQ: u16 = 0x88a8;
