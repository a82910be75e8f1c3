//! Services: front end -> block of slots -> backend.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An IPv4 or IPv6 address in 16 octets; IPv4 as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2), so that
/// the families cannot be taken for each other. Aligned, so that it is copied in words.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(4))]
pub struct Address {
    pub octets: [u8; 16],
}

impl Address {
    #[inline(always)]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self { octets }
    }

    #[inline(always)]
    pub const fn v4([a, b, c, d]: [u8; 4]) -> Self {
        Self { octets: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] }
    }

    /// The octets of the IPv4 address that it stands for; the last four of any other.
    #[inline(always)]
    pub fn to_v4(self) -> [u8; 4] {
        // In one word: octets are stored one by one, and a word that is read next waits for all of them.
        let [.., last] = self.words();
        last.to_ne_bytes()
    }

    /// From what [`Self::words`] gives.
    #[inline(always)]
    pub fn of_words(words: [u32; 4]) -> Self {
        zerocopy::transmute!(words)
    }

    /// As they lie in memory.
    #[inline(always)]
    pub fn words(self) -> [u32; 4] {
        zerocopy::transmute!(self)
    }
}

/// Key of `FRONTENDS`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FrontEndKey {
    pub address: Address,
    /// Host order; with `protocol` 0 a port of 0 stands for the address itself: it is a Service's, whatever
    /// ports that has.
    pub port: u16,
    /// IP protocol number: TCP, UDP or SCTP; 0 for the address itself.
    pub protocol: u8,
    /// [`SCOPE_EXTERNAL`] or [`SCOPE_INTERNAL`].
    pub scope: u8,
}

/// For clients outside of the cluster: what came in on a NIC and was not sent by a pod or a node.
pub const SCOPE_EXTERNAL: u8 = 0;
/// For pods and for the node itself.
pub const SCOPE_INTERNAL: u8 = 1;

/// Value of `FRONTENDS`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FrontEnd {
    /// Index into `SERVICE_STATS`, and name of the Service in `AFFINITY` and `SOURCE_RANGES`. One for each
    /// Service port; never used again while a flow may carry it.
    pub service: u32,
    /// First of its entries in `SLOTS`.
    pub block: u32,
    /// How many they are; 0 if there is no usable endpoint, and `flags` says what then.
    pub size: u32,
    /// Session affinity by client address, seconds since the last use; 0 for none.
    pub affinity: u32,
    /// `FRONTEND_*`.
    pub flags: u32,
}

/// Without an endpoint: drop, so that clients try again (S4). Else reject (S3).
pub const FRONTEND_DROP: u32 = 1;
/// Clients are masqueraded if the endpoint is on another node (S17).
pub const FRONTEND_MASQUERADE: u32 = 1 << 1;
/// Only clients that `SOURCE_RANGES` knows under this Service may use it (S14).
pub const FRONTEND_SOURCE_RANGES: u32 = 1 << 2;
/// Answers ICMP echo requests (S8).
pub const FRONTEND_ECHO: u32 = 1 << 3;

/// Value of `SLOTS`, an array: the endpoint that a slot of a Maglev table sends to.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Slot {
    /// Index into `BACKENDS`.
    pub backend: u32,
}

/// Value of `BACKENDS`, an array: one endpoint's port.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Backend {
    pub address: Address,
    /// Host order.
    pub port: u16,
    /// `BACKEND_*`.
    pub flags: u16,
    /// Which of all endpoints that this index has stood for; flows are stamped with it. 0 for none.
    pub generation: u32,
}

/// A pod of this node.
pub const BACKEND_LOCAL: u16 = 1;

/// Data part of a `SOURCE_RANGES` key (the prefix length in front of it is the trie's own): 32 bits for
/// the Service, and as many as the prefix has, IPv4 prefixes 96 more.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SourceRange {
    /// In network order: the trie compares octets from the first on.
    pub service: [u8; 4],
    pub address: Address,
}

/// Key of `AFFINITY` (S12).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AffinityKey {
    pub client: Address,
    pub service: u32,
}

/// Value of `AFFINITY`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Affinity {
    /// Index into `BACKENDS`.
    pub backend: u32,
    /// Of the backend when it was chosen: another one now makes this void.
    pub generation: u32,
    /// Last use, nanoseconds of the monotonic clock.
    pub used: u64,
}

/// Value of `SERVICE_STATS`, a per-CPU array.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ServiceCounter {
    /// Both directions.
    pub packets: u64,
    /// Of whole frames, link layer included.
    pub bytes: u64,
    pub new_flows: u64,
    /// Packets without a usable endpoint.
    pub no_endpoint: u64,
}
