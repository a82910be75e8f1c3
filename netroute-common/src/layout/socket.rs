//! Sockets whose addresses were translated: what they have at an address.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::service::Address;

/// Key of `SOCKETS`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SocketKey {
    /// The kernel's number of the socket, never used twice.
    pub cookie: u64,
    pub address: Address,
    /// Host order.
    pub port: u16,
    /// `SOCKET_*`.
    pub direction: u16,
    pub zero: u32,
}

/// The key's address is a front end's, the value's its endpoint's: where the next datagram goes.
pub const SOCKET_SENDS: u16 = 0;
/// The key's address is an endpoint's, the value's its front end's: whom the process takes it for.
pub const SOCKET_HEARS: u16 = 1;

/// Value of `SOCKETS`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SocketPeer {
    pub address: Address,
    /// Host order.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: u8,
    pub zero: u8,
    /// Index into `BACKENDS` of the endpoint.
    pub backend: u32,
    /// Of the backend when it was chosen.
    pub generation: u32,
}
