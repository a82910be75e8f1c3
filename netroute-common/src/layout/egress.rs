//! Egress policy: source -> identity; identity and destination -> rules -> policy.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::service::Address;

/// Who sends, as far as policies tell sources apart: the value of `SOURCES`, a hash by [`Address`] of the
/// pods of this node and of the node itself. All that the same policies select share one.
pub type Identity = u32;

/// Not a source: under it `EGRESS` holds what belongs to the cluster, whose traffic no policy judges (E3).
pub const IDENTITY_CLUSTER: Identity = 0;
/// The processes of this node.
pub const IDENTITY_NODE: Identity = 1;
/// The first that pods can have.
pub const FIRST_IDENTITY: Identity = 2;

/// Data part of an `EGRESS` key (the prefix length in front of it is the trie's own): 32 bits for the
/// identity, and as many as the destination prefix has, IPv4 prefixes 96 more.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EgressPrefix {
    /// In network order: the trie compares octets from the first on.
    pub identity: [u8; 4],
    pub address: Address,
}

/// Value of `EGRESS`: the rules for a destination, a run of `EGRESS_RULES` in the order of precedence. What
/// none of them matches, and a destination without an entry, is judged by policy [`DEFAULT_POLICY`].
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RuleSet {
    pub first: u32,
    /// 0..=[`MAX_RULES`].
    pub count: u16,
    /// `PREFIX_*`.
    pub flags: u16,
}

/// Of the cluster: its pods have these addresses. A packet from one of them that `SOURCES` does not know
/// goes nowhere.
pub const PREFIX_PODS: u16 = 1;

/// Rules that one destination can have.
pub const MAX_RULES: u16 = 64;

/// Value of `EGRESS_RULES`, an array: one range of ports, and the policy for it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EgressRule {
    /// Index into `EGRESS_POLICIES`.
    pub policy: u32,
    /// First and last destination port, host order; 0 and 65535 for all.
    pub first_port: u16,
    pub last_port: u16,
    /// IP protocol number; 0 for every one, without a look at ports.
    pub protocol: u8,
    pub zero: [u8; 3],
}

/// Value of `EGRESS_POLICIES`, an array; zeroes deny.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Policy {
    /// Of the default policy: of all that is installed. Flows are stamped with it, and judged anew when it
    /// has changed.
    pub generation: u32,
    /// Index into `GROUPS`, by IP version; 0 for the route's.
    pub group4: u32,
    pub group6: u32,
    /// First of its addresses in `SNAT`, by IP version, and how many they are, at most
    /// [`MAX_SNAT_ADDRESSES`].
    pub snat4: u32,
    pub snat6: u32,
    pub snat4_count: u16,
    pub snat6_count: u16,
    /// `ACTION_*`.
    pub action: u8,
    /// `POLICY_*`.
    pub flags: u8,
    pub zero: [u8; 2],
}

/// The policy of what no other one selects.
pub const DEFAULT_POLICY: u32 = 0;

pub const ACTION_DENY: u8 = 0;
pub const ACTION_ALLOW: u8 = 1;
/// With the address of the interface that the packet leaves by, out of `MASQUERADE`.
pub const ACTION_MASQUERADE: u8 = 2;
/// With an address out of `SNAT`, always the same for a source.
pub const ACTION_SNAT: u8 = 3;

/// Denied is answered, with a reset or an ICMP error.
pub const POLICY_REJECT: u8 = 1;
/// Denied for now: what it asks for is missing on this node.
pub const POLICY_DEGRADED: u8 = 1 << 1;
/// Of the default policy: policies are in force. Without it nothing is judged.
pub const POLICY_IN_FORCE: u8 = 1 << 2;
/// Of the default policy: a pod sends from its own addresses only (E6).
pub const POLICY_OWN_SOURCES: u8 = 1 << 3;

/// Value of `SNAT`, an array: an address of this node that flows leave with.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SnatAddress {
    pub address: Address,
    /// The interface that has it; it is used on no other (E5).
    pub ifindex: u32,
    /// As of [`super::flow::Masquerade`].
    pub first_port: u16,
    pub ports: u16,
}

/// Addresses that one policy can have of one IP version.
pub const MAX_SNAT_ADDRESSES: u16 = 16;

/// Value of `EGRESS_STATS`, a per-CPU array by policy.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EgressCounter {
    /// Both directions, sent on.
    pub packets: u64,
    /// Of whole frames, link layer included.
    pub bytes: u64,
    pub new_flows: u64,
    pub denied: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub last_hit: u64,
}
