//! Counters: values of per-CPU arrays, summed over CPUs by the reader.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of `VERDICTS`, `ROUTE_STATS` and `NEXTHOP_STATS`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Counter {
    pub packets: u64,
    /// Bytes of whole frames, link layer included.
    pub bytes: u64,
}
