//! The kernel's maps of egress policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use netroute_common::abi;
use netroute_common::layout::egress::{
    DEFAULT_POLICY, EgressCounter, EgressPrefix, EgressRule, Identity, Policy, RuleSet, SnatAddress,
};
use netroute_common::layout::service::Address;

use super::maps::{absent_is_fine, reading, typed, used, zeroes};
use super::store::StoreError;
use crate::compile::egress::image::{Destination, Destinations, EgressImage};
use crate::plan::EgressStep;

/// The control maps of egress policies, open.
pub(super) struct EgressMaps {
    sources: HashMap<MapData, Address, Identity>,
    destinations: LpmTrie<MapData, EgressPrefix, RuleSet>,
    rules: Array<MapData, EgressRule>,
    policies: Array<MapData, Policy>,
    snat: Array<MapData, SnatAddress>,
    stats: PerCpuArray<MapData, EgressCounter>,
}

impl EgressMaps {
    pub(super) fn open(
        mut map: impl FnMut(&'static str) -> Result<Map, StoreError>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            sources: typed(abi::MAP_SOURCES, map(abi::MAP_SOURCES)?)?,
            destinations: typed(abi::MAP_EGRESS, map(abi::MAP_EGRESS)?)?,
            rules: typed(abi::MAP_EGRESS_RULES, map(abi::MAP_EGRESS_RULES)?)?,
            policies: typed(abi::MAP_EGRESS_POLICIES, map(abi::MAP_EGRESS_POLICIES)?)?,
            snat: typed(abi::MAP_SNAT, map(abi::MAP_SNAT)?)?,
            stats: typed(abi::MAP_EGRESS_STATS, map(abi::MAP_EGRESS_STATS)?)?,
        })
    }

    pub(super) fn write(&mut self, step: &EgressStep) -> Result<(), MapError> {
        let key = |identity, destination: Destination| {
            let (length, prefix) = destination.key(identity);
            Key::new(length, prefix)
        };
        match *step {
            EgressStep::SetSnat { first, ref addresses } => set_run(&mut self.snat, first, addresses),
            EgressStep::SetRules { first, ref rules } => set_run(&mut self.rules, first, rules),
            EgressStep::FreeRules { .. } | EgressStep::FreeSnat { .. } => Ok(()),
            EgressStep::ResetStats { policy } => self.stats.set(policy, zeroes()?, 0),
            EgressStep::SetPolicy { index, policy } => self.policies.set(index, policy, 0),
            EgressStep::SetDefault { policy, .. } => self.policies.set(DEFAULT_POLICY, policy, 0),
            EgressStep::ClearPolicy { index } => self.policies.set(index, Policy::default(), 0),
            EgressStep::SetDestination { identity, destination, rules } => {
                self.destinations.insert(&key(identity, destination), rules, 0)
            }
            EgressStep::RemoveDestination { identity, destination } => {
                absent_is_fine(self.destinations.remove(&key(identity, destination)))
            }
            EgressStep::SetSource { address, identity } => self.sources.insert(address, identity, 0),
            EgressStep::RemoveSource { address } => absent_is_fine(self.sources.remove(&address)),
        }
    }

    pub(super) fn read(&self) -> Result<EgressImage, StoreError> {
        let sources: Result<BTreeMap<_, _>, _> = self.sources.iter().collect();
        let mut destinations: BTreeMap<Identity, Destinations> = BTreeMap::new();
        for entry in self.destinations.iter() {
            let (key, rules) = entry.map_err(reading(abi::MAP_EGRESS))?;
            let (identity, destination) = Destination::of_key(key.prefix_len(), &key.data());
            destinations.entry(identity).or_default().insert(destination, rules);
        }
        let policies =
            used(&self.policies, self.policies.len()).map_err(reading(abi::MAP_EGRESS_POLICIES))?;
        let named = destinations.values().flat_map(|of_one| of_one.values());
        let rules = runs(&self.rules, named.map(|set| (set.first, set.count)));
        let named = policies
            .values()
            .flat_map(|policy| [(policy.snat4, policy.snat4_count), (policy.snat6, policy.snat6_count)]);
        Ok(EgressImage {
            sources: sources.map_err(reading(abi::MAP_SOURCES))?,
            rules: rules.map_err(reading(abi::MAP_EGRESS_RULES))?,
            snat: runs(&self.snat, named).map_err(reading(abi::MAP_SNAT))?,
            destinations: destinations.into_iter().map(|(identity, all)| (identity, Arc::new(all))).collect(),
            policies,
        })
    }
}

fn set_run<T: aya::Pod>(array: &mut Array<MapData, T>, first: u32, run: &[T]) -> Result<(), MapError> {
    (first..).zip(run).try_for_each(|(index, entry)| array.set(index, *entry, 0))
}

/// The runs that are named; what is in other slots is free.
fn runs<T: aya::Pod>(
    array: &Array<MapData, T>,
    named: impl Iterator<Item = (u32, u16)>,
) -> Result<BTreeMap<u32, Arc<[T]>>, MapError> {
    let mut found = BTreeMap::new();
    for (first, count) in named {
        let end = first.saturating_add(u32::from(count)).min(array.len());
        if first < end && !found.contains_key(&first) {
            let run = (first..end).map(|index| array.get(&index, 0));
            found.insert(first, run.collect::<Result<Arc<[T]>, MapError>>()?);
        }
    }
    Ok(found)
}
