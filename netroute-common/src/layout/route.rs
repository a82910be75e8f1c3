//! The compiled route table: trie value -> group -> next hop.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Data part of a `ROUTES4` key (the prefix length in front of it is the trie's own).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Prefix4 {
    pub address: [u8; 4],
}

/// Data part of a `ROUTES6` key.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Prefix6 {
    pub address: [u8; 16],
}

/// Value of `ROUTES4` and `ROUTES6`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Route {
    /// Index into `GROUPS`.
    pub group: u32,
    /// First of the route's slots in `ROUTE_STATS`, one for each member of its group in their
    /// order; [`UNCOUNTED`] for routes that are not custom.
    pub stats: u32,
}

impl Route {
    /// Stands for there being none; see [`super::strides::NO_ROUTE`].
    pub const NONE: Self = Self { group: super::strides::NO_ROUTE, stats: UNCOUNTED };
}

/// The `ROUTE_STATS` slots shared by all routes without counters of their own.
pub const UNCOUNTED: u32 = 0;
/// The first slot of `ROUTE_STATS` that a route can own.
pub const FIRST_OWN_STATS: u32 = MAX_MEMBERS as u32;

/// Next hops one prefix can have, over all its metrics.
pub const MAX_MEMBERS: usize = 16;

/// Value of `GROUPS`: next hops in the order of their metric. A group never changes once a route
/// uses it: other members make another group.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Group {
    /// How many of `members` are in use, 1..=[`MAX_MEMBERS`].
    pub len: u32,
    pub members: [Member; MAX_MEMBERS],
}

/// One next hop of a group.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Member {
    /// Index into `NEXTHOPS`.
    pub next_hop: u32,
    /// Rank of the member's metric inside the group, 0 = lowest metric = preferred.
    pub tier: u8,
    /// Share of the tier's traffic, 1..=255.
    pub weight: u8,
    /// [`Member::inverse_of`] the weight, so that the fast path multiplies instead of dividing.
    pub inverse: u16,
}

impl Member {
    /// 65535 / weight; a weight of 0 counts as 1.
    #[must_use]
    pub fn inverse_of(weight: u8) -> u16 {
        u16::MAX.checked_div(u16::from(weight)).unwrap_or(u16::MAX)
    }
}

/// Value of `NEXTHOPS`. The identity is {`ifindex`, `gateway`, `family`, `kind`}; all else is
/// rewritten in place.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NextHop {
    /// Interface the packet leaves by; 0 for the kinds that go up to the kernel.
    pub ifindex: u32,
    /// Largest IP packet the interface takes, bytes.
    pub mtu: u32,
    /// Slot of the interface in `PORTS`, if `xdp` has [`XDP_REDIRECT`].
    pub port: u32,
    /// One of the `KIND_*` constants.
    pub kind: u8,
    /// 1 if packets may be sent to it now.
    pub alive: u8,
    /// `XDP_*`.
    pub xdp: u8,
    /// 4 or 6, the family of `gateway`.
    pub family: u8,
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
    /// Address whose MAC is `destination_mac`; IPv4 in the first four octets.
    pub gateway: [u8; 16],
}

/// The interface takes frames redirected by XDP, through its slot of `PORTS`.
pub const XDP_REDIRECT: u8 = 1;
/// XDP does not send back out of the interface what came in on it, other than by a redirect. A veth
/// (Linux 6.18, `veth_xdp_flush`) leaves such frames lying unless its peer runs a program.
pub const XDP_NO_TX: u8 = 1 << 1;

/// A neighbour on a NIC, by its MAC.
pub const KIND_NEIGHBOUR: u8 = 0;
/// A pod behind a veth whose host end is `ifindex`.
pub const KIND_POD: u8 = 1;
/// An address of this node.
pub const KIND_LOCAL: u8 = 2;
/// On a connected prefix, neighbour not known: the kernel resolves it.
pub const KIND_UNRESOLVED: u8 = 3;
/// Multicast, broadcast, link-local and other destinations that a router does not forward.
pub const KIND_NOT_FORWARDED: u8 = 4;
/// The kernel has a route of a type the fast path does not do (blackhole, prohibit, tunnel, ...).
pub const KIND_KERNEL: u8 = 5;
/// An address of Services: the front ends say what becomes of it.
pub const KIND_SERVICE: u8 = 6;

/// `NEXTHOPS` and `GROUPS` hold one fixed entry at the same index for each kind above
/// [`KIND_POD`]; the first index the agent allocates freely.
pub const FIRST_FREE_ID: u32 = 8;

/// The fixed next-hop and group id of a kind that goes up to the kernel.
pub const fn fixed_id(kind: u8) -> u32 {
    kind as u32
}
