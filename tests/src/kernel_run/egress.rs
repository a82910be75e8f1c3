//! The maps of egress policies of the programs under test.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use netroute_common::abi;
use netroute_common::layout::egress::{
    EgressCounter, EgressPrefix, EgressRule, Identity, Policy, RuleSet, SnatAddress,
};
use netroute_common::layout::service::Address;

use super::maps::{changed, replace_hash, take};
use crate::vectors::EgressSet;

pub struct EgressMaps {
    sources: HashMap<MapData, Address, Identity>,
    rule_sets: LpmTrie<MapData, EgressPrefix, RuleSet>,
    rules: Array<MapData, EgressRule>,
    policies: Array<MapData, Policy>,
    snat: Array<MapData, SnatAddress>,
    stats: PerCpuArray<MapData, EgressCounter>,
}

impl EgressMaps {
    pub fn take(object: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            sources: take(object, abi::MAP_SOURCES)?.try_into()?,
            rule_sets: take(object, abi::MAP_EGRESS)?.try_into()?,
            rules: take(object, abi::MAP_EGRESS_RULES)?.try_into()?,
            policies: take(object, abi::MAP_EGRESS_POLICIES)?.try_into()?,
            snat: take(object, abi::MAP_SNAT)?.try_into()?,
            stats: take(object, abi::MAP_EGRESS_STATS)?.try_into()?,
        })
    }

    /// From the entries of `old` to those of `new`; what is in both is left as it is.
    pub fn replace(&mut self, old: &EgressSet, new: &EgressSet) -> Result<()> {
        replace_hash(&mut self.sources, &old.sources, &new.sources)?;
        for (&(length, prefix), _) in changed(&new.rule_sets, &old.rule_sets) {
            self.rule_sets.remove(&Key::new(length, prefix))?;
        }
        for (&(length, prefix), set) in changed(&old.rule_sets, &new.rule_sets) {
            self.rule_sets.insert(&Key::new(length, prefix), set, 0)?;
        }
        replace_array(&mut self.rules, &old.rules, &new.rules)?;
        replace_array(&mut self.policies, &old.policies, &new.policies)?;
        replace_array(&mut self.snat, &old.snat, &new.snat)
    }

    /// `EGRESS_STATS` without the slots that are zero; the time of the last packet on any processor.
    pub fn counted(&self) -> Result<BTreeMap<u32, EgressCounter>> {
        let mut counted = BTreeMap::new();
        for slot in 0..self.stats.len() {
            let per_cpu = self.stats.get(&slot, 0).with_context(|| format!("cannot read counter {slot}"))?;
            let sum = per_cpu.iter().fold(EgressCounter::default(), |sum, counter| plus(&sum, counter));
            if sum != EgressCounter::default() {
                counted.insert(slot, sum);
            }
        }
        Ok(counted)
    }
}

fn replace_array<V: aya::Pod + PartialEq + Default>(
    map: &mut Array<MapData, V>,
    old: &BTreeMap<u32, V>,
    new: &BTreeMap<u32, V>,
) -> Result<()> {
    for (&index, _) in old.iter().filter(|(index, _)| !new.contains_key(index)) {
        map.set(index, V::default(), 0)?;
    }
    for (&index, value) in changed(old, new) {
        map.set(index, value, 0)?;
    }
    Ok(())
}

/// A packet that is taken back may have been counted by another processor.
fn plus(sum: &EgressCounter, more: &EgressCounter) -> EgressCounter {
    EgressCounter {
        packets: sum.packets.wrapping_add(more.packets),
        bytes: sum.bytes.wrapping_add(more.bytes),
        new_flows: sum.new_flows.wrapping_add(more.new_flows),
        denied: sum.denied.wrapping_add(more.denied),
        last_hit: sum.last_hit.max(more.last_hit),
    }
}

/// What was counted since `before`; of the time of the last packet, whether there was one since.
pub fn more_of_policies(
    after: &BTreeMap<u32, EgressCounter>,
    before: &BTreeMap<u32, EgressCounter>,
) -> BTreeMap<u32, EgressCounter> {
    let difference = |(&policy, after): (&u32, &EgressCounter)| {
        let before = before.get(&policy).copied().unwrap_or_default();
        let counter = EgressCounter {
            packets: after.packets.wrapping_sub(before.packets),
            bytes: after.bytes.wrapping_sub(before.bytes),
            new_flows: after.new_flows.wrapping_sub(before.new_flows),
            denied: after.denied.wrapping_sub(before.denied),
            last_hit: u64::from(after.last_hit != before.last_hit),
        };
        (policy, counter)
    };
    let counted =
        |counter: &EgressCounter| EgressCounter { last_hit: 0, ..*counter } != EgressCounter::default();
    after.iter().map(difference).filter(|(_, counter)| counted(counter)).collect()
}
