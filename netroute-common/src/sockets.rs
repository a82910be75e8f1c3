//! The questions that the translation at sockets asks, beside those of [`crate::services`].

use crate::layout::service::Address;
use crate::layout::socket::{SocketKey, SocketPeer};

/// What became of a socket's call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SocketEvent {
    /// It got an endpoint.
    NewFlow,
    /// Refused for want of an endpoint.
    NoEndpoint,
}

/// What is known of sockets.
pub trait Sockets {
    fn peer(&self, key: &SocketKey) -> Option<SocketPeer>;

    /// The entry longest unused gives way where there is no room.
    fn set_peer(&self, key: &SocketKey, peer: &SocketPeer);

    /// Counts at this slot of `SERVICE_STATS`. Packets are not counted: nobody sees them.
    fn count_socket(&self, service: u32, event: SocketEvent);
}

/// The socket whose process makes the call.
pub trait Socket {
    /// The kernel's number of it.
    fn cookie(&self) -> u64;

    /// The kernel's number of its network namespace (Linux 5.7).
    fn network(&self) -> u64;

    /// Whether its network namespace is the one that the machine started with.
    fn is_of_node(&self) -> bool;

    /// The address that it is bound to, of this family; all zero if it is not.
    fn source(&self, v4: bool) -> Address;

    fn random(&self) -> u32;
}
