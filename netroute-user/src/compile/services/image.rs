//! What the maps of Services hold, as a value.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use netroute_common::layout::flow::{Masquerade, PeerKey, Timers};
use netroute_common::layout::service::{Address, Backend, FrontEnd, FrontEndKey, SourceRange};

/// Every entry of every control map of Services, by key. `Default` is empty maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceImage {
    pub front_ends: BTreeMap<FrontEndKey, FrontEnd>,
    /// The parts of `SLOTS` in use, by first slot: an index into `BACKENDS` each. What is in the others
    /// does not matter.
    pub blocks: BTreeMap<u32, Arc<[u32]>>,
    /// By index into `BACKENDS`; an absent index is an all-zero entry, of an index never used. One with
    /// a generation alone is of an index that rests.
    pub backends: BTreeMap<u32, Backend>,
    /// Length of the trie's key in bits, the Service's 32 included, and the key.
    pub source_ranges: BTreeSet<(u8, SourceRange)>,
    /// By interface index.
    pub masquerade: BTreeMap<u32, Masquerade>,
    /// Next hops by who hands packets over.
    pub peers: BTreeMap<PeerKey, u32>,
    /// `None`: all zero.
    pub timers: Option<Timers>,
}

/// Whether the index rests: it stood for an endpoint that is gone.
#[must_use]
pub fn is_resting(backend: &Backend) -> bool {
    backend.address == Address::default()
}

/// An address as entries of Services hold it: IPv4 as `::ffff:a.b.c.d`.
#[must_use]
pub fn mapped(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => Address::v4(address.octets()),
        IpAddr::V6(address) => Address::v6(address.octets()),
    }
}

/// The address in an entry of Services.
#[must_use]
pub fn unmapped(address: Address) -> IpAddr {
    Ipv6Addr::from(address.octets).to_canonical()
}
