//! `limits`: how many entries each map may have.

use serde::Deserialize;

use crate::compile::image::Limits;

/// Most entries a map may be given.
const LARGEST_MAP: u32 = 16_777_216;
/// Fewest entries of tables that have fixed ones: these and a few of one's own.
const SMALLEST_TABLE: u32 = 16;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LimitsEntry {
    /// IPv4 prefixes, the kernel's own included. Default 262144.
    routes4: Option<u32>,
    /// Blocks of the IPv4 fast lookup, 2 KiB each: one for each /16 that holds longer prefixes, and
    /// one for each /24 that does. Prefixes beyond are looked up in the trie. Default 7168.
    blocks4: Option<u32>,
    /// IPv6 prefixes, the kernel's own included. Default 131072.
    routes6: Option<u32>,
    /// Different sets of next hops. Default 4096.
    groups: Option<u32>,
    /// Next hops, neighbours on connected networks included. Default 4096.
    next_hops: Option<u32>,
    /// Custom routes with a counter of their own. Default 131072.
    route_stats: Option<u32>,
    /// Service ports, each at each of its addresses, for clients inside and outside. Default 16384.
    front_ends: Option<u32>,
    /// Entries of all Services' endpoint tables, about 25 for each endpoint, twice as many while
    /// tables are exchanged. Default 1048576.
    slots: Option<u32>,
    /// Endpoints, each once for every Service port it is behind. Default 32768.
    backends: Option<u32>,
    /// Prefixes of `loadBalancerSourceRanges`. Default 4096.
    source_ranges: Option<u32>,
    /// Service ports, each with a counter. Default 8192.
    service_stats: Option<u32>,
    /// IPv4 flows that packets went both ways of, two entries each. Default 65536.
    flows4: Option<u32>,
    /// IPv6 flows that packets went both ways of, two entries each. Default 32768.
    flows6: Option<u32>,
    /// IPv4 flows without an answer yet, two entries each; the oldest give way. Default 32768.
    opening4: Option<u32>,
    /// IPv6 flows without an answer yet, two entries each; the oldest give way. Default 16384.
    opening6: Option<u32>,
    /// Clients kept at their endpoint by `sessionAffinity`; the oldest give way. Default 16384.
    affinity: Option<u32>,
    /// Sockets that were translated, one for each connected, two for each front end that datagrams are
    /// sent to; the oldest give way. Default 16384.
    sockets: Option<u32>,
    /// Addresses of this node's pods, and its own. Default 1024.
    sources: Option<u32>,
    /// Destination prefixes of egress policies, once for each set of policies that pods share. Default 4096.
    egress: Option<u32>,
    /// Port ranges of egress policies, once for each different list of them. Default 4096.
    egress_rules: Option<u32>,
    /// Egress policies, each with a counter; two are the agent's. Default 256.
    egress_policies: Option<u32>,
    /// Addresses of egress policies with the action `Snat`. Default 256.
    snat: Option<u32>,
}

/// A capacity that no map can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given} is outside {least} to {LARGEST_MAP}")]
pub(super) struct LimitError {
    pub(super) key: &'static str,
    given: u32,
    least: u32,
}

impl LimitsEntry {
    pub(super) fn checked(&self) -> Result<Limits, LimitError> {
        let within = |key, given: Option<u32>, default, least| match given {
            Some(given) if !(least..=LARGEST_MAP).contains(&given) => Err(LimitError { key, given, least }),
            given => Ok(given.unwrap_or(default)),
        };
        let default = Limits::DEFAULT;
        Ok(Limits {
            routes4: within("routes4", self.routes4, default.routes4, 1)?,
            blocks4: within("blocks4", self.blocks4, default.blocks4, 1)?,
            routes6: within("routes6", self.routes6, default.routes6, 1)?,
            groups: within("groups", self.groups, default.groups, SMALLEST_TABLE)?,
            next_hops: within("nextHops", self.next_hops, default.next_hops, SMALLEST_TABLE)?,
            route_stats: within("routeStats", self.route_stats, default.route_stats, 1)?,
            front_ends: within("frontEnds", self.front_ends, default.front_ends, 1)?,
            slots: within("slots", self.slots, default.slots, 1)?,
            backends: within("backends", self.backends, default.backends, 1)?,
            source_ranges: within("sourceRanges", self.source_ranges, default.source_ranges, 1)?,
            service_stats: within("serviceStats", self.service_stats, default.service_stats, 1)?,
            flows4: within("flows4", self.flows4, default.flows4, 1)?,
            flows6: within("flows6", self.flows6, default.flows6, 1)?,
            opening4: within("opening4", self.opening4, default.opening4, 1)?,
            opening6: within("opening6", self.opening6, default.opening6, 1)?,
            affinity: within("affinity", self.affinity, default.affinity, 1)?,
            sockets: within("sockets", self.sockets, default.sockets, 1)?,
            sources: within("sources", self.sources, default.sources, 1)?,
            egress: within("egress", self.egress, default.egress, SMALLEST_TABLE)?,
            egress_rules: within("egressRules", self.egress_rules, default.egress_rules, SMALLEST_TABLE)?,
            egress_policies: within(
                "egressPolicies",
                self.egress_policies,
                default.egress_policies,
                SMALLEST_TABLE,
            )?,
            snat: within("snat", self.snat, default.snat, 1)?,
        })
    }
}
