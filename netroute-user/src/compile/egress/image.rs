//! What the maps of egress policies hold, as a value.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};
use netroute_common::layout::egress::{
    DEFAULT_POLICY, EgressPrefix, EgressRule, Identity, POLICY_IN_FORCE, Policy, RuleSet, SnatAddress,
};
use netroute_common::layout::service::Address;

use crate::compile::services::image::mapped;

/// Every entry of every control map of egress policies, by key. `Default` is empty maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressImage {
    pub sources: BTreeMap<Address, Identity>,
    /// The trie, by identity. Shared: what does not change is not even compared.
    pub destinations: BTreeMap<Identity, Arc<Destinations>>,
    /// The parts of `EGRESS_RULES` in use, by first index. What is in the others does not matter.
    pub rules: BTreeMap<u32, Arc<[EgressRule]>>,
    /// By index; an absent one is an all-zero entry, which denies.
    pub policies: BTreeMap<u32, Policy>,
    /// The parts of `SNAT` in use, by first index.
    pub snat: BTreeMap<u32, Arc<[SnatAddress]>>,
}

/// Of one identity.
pub type Destinations = BTreeMap<Destination, RuleSet>;

/// A destination prefix, IPv4 as part of `::ffff:0:0/96`. The shorter ones come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// Bits of the address.
    pub length: u8,
    pub address: Address,
}

impl EgressImage {
    /// Whether anything is judged at all.
    #[must_use]
    pub fn in_force(&self) -> bool {
        self.default_policy().is_some_and(|policy| policy.flags & POLICY_IN_FORCE != 0)
    }

    #[must_use]
    pub fn default_policy(&self) -> Option<&Policy> {
        self.policies.get(&DEFAULT_POLICY)
    }

    /// How many entries the trie has.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.destinations.values().map(|of_one| of_one.len()).sum()
    }

    /// The rules for a destination, in their order.
    #[must_use]
    pub fn run(&self, set: &RuleSet) -> &[EgressRule] {
        let run = self.rules.get(&set.first).map(|run| &run[..]).unwrap_or_default();
        run.get(..usize::from(set.count)).unwrap_or_default()
    }
}

impl Destination {
    /// The key of the trie, and its length in bits: the identity's 32 come first.
    #[must_use]
    pub const fn key(self, identity: Identity) -> (u32, EgressPrefix) {
        let Self { length, address } = self;
        (32 + length as u32, EgressPrefix { identity: identity.to_be_bytes(), address })
    }

    /// From what [`Self::key`] gives.
    #[must_use]
    pub fn of_key(length: u32, prefix: &EgressPrefix) -> (Identity, Self) {
        let length = u8::try_from(length.saturating_sub(32)).unwrap_or(128).min(128);
        (Identity::from_be_bytes(prefix.identity), Self { length, address: prefix.address })
    }

    #[must_use]
    pub fn is_v4(self) -> bool {
        self.length >= 96 && Ipv6Addr::from(self.address.octets).to_ipv4_mapped().is_some()
    }

    /// As people write it.
    #[must_use]
    pub fn prefix(self) -> IpNet {
        let address = Ipv6Addr::from(self.address.octets);
        match (address.to_ipv4_mapped(), self.length.checked_sub(96)) {
            (Some(address), Some(length)) => IpNet::new_assert(IpAddr::V4(address), length),
            _ => IpNet::new_assert(IpAddr::V6(address), self.length),
        }
    }
}

impl From<IpNet> for Destination {
    fn from(prefix: IpNet) -> Self {
        let before = if matches!(prefix, IpNet::V4(_)) { 96 } else { 0 };
        Self { length: before + prefix.prefix_len(), address: mapped(prefix.network()) }
    }
}

impl From<IpAddr> for Destination {
    fn from(address: IpAddr) -> Self {
        Self { length: 128, address: mapped(address) }
    }
}

impl From<Destination> for Ipv6Net {
    fn from(Destination { length, address }: Destination) -> Self {
        Self::new_assert(address.octets.into(), length)
    }
}
