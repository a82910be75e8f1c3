//! The questions the logic asks of the maps.

use crate::layout::route::{Group, NextHop, Route};
use crate::verdict::Reason;

/// The installed tables, and the counters beside them.
pub trait Tables {
    /// Entry of `ROOT4` for the first two octets of an IPv4 address.
    fn root4(&self, first: u8, second: u8) -> Option<Route>;

    /// Entry of a block of `BLOCKS4`.
    fn block4(&self, index: u32, octet: u8) -> Option<Route>;

    /// Longest-prefix match by the trie, IPv4; [`crate::strides::route4`] asks it last.
    fn trie4(&self, destination: [u8; 4]) -> Option<Route>;

    /// Longest-prefix match, IPv6.
    fn route6(&self, destination: [u8; 16]) -> Option<Route>;

    fn group(&self, id: u32) -> Option<&Group>;

    fn next_hop(&self, id: u32) -> Option<&NextHop>;

    /// Takes this slot of `PORTS` as where XDP redirects to, if it holds a device. Done before the
    /// packet is changed: without a device it must go up as it came. A packet that is not
    /// redirected after all is not affected.
    fn take_port(&self, slot: u32) -> bool;

    /// One packet of `bytes` left, counted at this slot of `ROUTE_STATS` and for this next hop.
    fn count_forwarded(&self, stats: u32, next_hop: u32, bytes: u32);

    /// One packet of `bytes` was given its verdict for `reason`.
    fn count_verdict(&self, reason: Reason, bytes: u32);
}
