//! The content of the maps as a value: what `compile` makes, `plan` compares and `apply` writes.

use std::collections::BTreeMap;

use ipnet::{Ipv4Net, Ipv6Net};
use netroute_common::abi;
use netroute_common::host::strides::Strides;
use netroute_common::layout::route::{Group, NextHop, Route};

use super::egress::image::EgressImage;
use super::services::image::ServiceImage;

/// Every entry of every control map, by key. `Default` is empty maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub routes4: BTreeMap<Ipv4Net, Route>,
    pub routes6: BTreeMap<Ipv6Net, Route>,
    /// `routes4` once more, for the fast path.
    pub strides: Strides,
    /// By index into `GROUPS`; an absent index is an all-zero (unused) entry.
    pub groups: BTreeMap<u32, Group>,
    /// By index into `NEXTHOPS`; an absent index is an all-zero (unused) entry.
    pub next_hops: BTreeMap<u32, NextHop>,
    /// `PORTS`: slot -> interface index.
    pub ports: BTreeMap<u32, u32>,
    pub services: ServiceImage,
    pub egress: EgressImage,
}

impl Image {
    /// Builds `strides` from `routes4`; blocks that `installed` has keep their index.
    pub fn build_strides(&mut self, limits: Limits, installed: &Self) {
        let numbers = self
            .routes4
            .iter()
            .map(|(prefix, route)| (prefix.network().to_bits(), prefix.prefix_len(), *route));
        self.strides = Strides::build(numbers, limits.blocks4, &installed.strides);
    }
}

/// Capacities of the maps, entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub routes4: u32,
    pub blocks4: u32,
    pub routes6: u32,
    pub groups: u32,
    pub next_hops: u32,
    pub route_stats: u32,
    pub front_ends: u32,
    pub slots: u32,
    pub backends: u32,
    pub source_ranges: u32,
    pub service_stats: u32,
    pub flows4: u32,
    pub flows6: u32,
    pub opening4: u32,
    pub opening6: u32,
    pub affinity: u32,
    pub sockets: u32,
    pub sources: u32,
    pub egress: u32,
    pub egress_rules: u32,
    pub egress_policies: u32,
    pub snat: u32,
}

impl Limits {
    pub const DEFAULT: Self = Self {
        routes4: abi::DEFAULT_ROUTES4,
        blocks4: abi::DEFAULT_BLOCKS4,
        routes6: abi::DEFAULT_ROUTES6,
        groups: abi::DEFAULT_GROUPS,
        next_hops: abi::DEFAULT_NEXTHOPS,
        route_stats: abi::DEFAULT_ROUTE_STATS,
        front_ends: abi::DEFAULT_FRONTENDS,
        slots: abi::DEFAULT_SLOTS,
        backends: abi::DEFAULT_BACKENDS,
        source_ranges: abi::DEFAULT_SOURCE_RANGES,
        service_stats: abi::DEFAULT_SERVICE_STATS,
        flows4: abi::DEFAULT_FLOWS4,
        flows6: abi::DEFAULT_FLOWS6,
        opening4: abi::DEFAULT_OPENING4,
        opening6: abi::DEFAULT_OPENING6,
        affinity: abi::DEFAULT_AFFINITY,
        sockets: abi::DEFAULT_SOCKETS,
        sources: abi::DEFAULT_SOURCES,
        egress: abi::DEFAULT_EGRESS,
        egress_rules: abi::DEFAULT_EGRESS_RULES,
        egress_policies: abi::DEFAULT_EGRESS_POLICIES,
        snat: abi::DEFAULT_SNAT,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
