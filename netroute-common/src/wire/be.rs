//! Big-endian integers of alignment 2: the only place where packet byte order is converted.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// 16 bits in network order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Be16(u16);

impl Be16 {
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// 32 bits in network order, of alignment 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Be32([u16; 2]);

impl Be32 {
    pub const fn new(host: u32) -> Self {
        Self([((host >> 16) as u16).to_be(), (host as u16).to_be()])
    }

    pub const fn get(self) -> u32 {
        let [high, low] = self.0;
        (u16::from_be(high) as u32) << 16 | u16::from_be(low) as u32
    }
}
