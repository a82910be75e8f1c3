//! ICMP (RFC 792) and ICMPv6 (RFC 4443), as far as the fast path knows them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::be::Be16;

/// Of both versions.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Icmp {
    /// Type in the upper octet, code in the lower.
    pub type_code: Be16,
    pub checksum: Be16,
    /// Identifier and sequence number of an echo; of an error its type's own.
    pub rest: [Be16; 2],
}

pub const ICMP_LEN: usize = size_of::<Icmp>();
/// Where the checksum lies in [`Icmp`].
pub const ICMP_CHECKSUM_AT: usize = 2;

impl Icmp {
    #[inline(always)]
    pub fn kind(&self) -> u8 {
        let [kind, _] = self.type_code.get().to_be_bytes();
        kind
    }
}

/// Types that quote the packet they are about: destination unreachable, source quench, time exceeded,
/// parameter problem.
#[inline(always)]
pub const fn is_error4(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 11 | 12)
}

/// All below 128 (RFC 4443 section 2.1); those in use: destination unreachable, packet too big, time
/// exceeded, parameter problem.
#[inline(always)]
pub const fn is_error6(kind: u8) -> bool {
    matches!(kind, 1..=4)
}
