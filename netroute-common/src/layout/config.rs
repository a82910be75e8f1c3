//! Constants a program instance is loaded with.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the XDP program of one NIC knows about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Nic {
    pub ifindex: u32,
    pub mac: [u8; 6],
    pub zero: u16,
}
