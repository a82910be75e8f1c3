//! The Services' maps of the programs under test.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use netroute_common::abi;
use netroute_common::layout::flow::{Masquerade, PeerKey, Timers};
use netroute_common::layout::service::{Backend, FrontEnd, FrontEndKey, ServiceCounter, Slot, SourceRange};

use super::maps::{changed, replace_hash, take};
use crate::vectors::ServiceSet;

pub struct ServiceMaps {
    front_ends: HashMap<MapData, FrontEndKey, FrontEnd>,
    slots: Array<MapData, Slot>,
    backends: Array<MapData, Backend>,
    source_ranges: LpmTrie<MapData, SourceRange, u32>,
    masquerade: HashMap<MapData, u32, Masquerade>,
    peers: HashMap<MapData, PeerKey, u32>,
    timers: Array<MapData, Timers>,
    stats: PerCpuArray<MapData, ServiceCounter>,
}

impl ServiceMaps {
    pub fn take(object: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            front_ends: take(object, abi::MAP_FRONTENDS)?.try_into()?,
            slots: take(object, abi::MAP_SLOTS)?.try_into()?,
            backends: take(object, abi::MAP_BACKENDS)?.try_into()?,
            source_ranges: take(object, abi::MAP_SOURCE_RANGES)?.try_into()?,
            masquerade: take(object, abi::MAP_MASQUERADE)?.try_into()?,
            peers: take(object, abi::MAP_PEERS)?.try_into()?,
            timers: take(object, abi::MAP_TIMERS)?.try_into()?,
            stats: take(object, abi::MAP_SERVICE_STATS)?.try_into()?,
        })
    }

    /// From the entries of `old` to those of `new`; what is in both is left as it is.
    pub fn replace(&mut self, old: &ServiceSet, new: &ServiceSet) -> Result<()> {
        self.timers.set(0, new.timers, 0)?;
        replace_hash(&mut self.front_ends, &old.front_ends, &new.front_ends)?;
        replace_hash(&mut self.masquerade, &old.masquerade, &new.masquerade)?;
        replace_hash(&mut self.peers, &old.peers, &new.peers)?;
        for (&index, _) in changed(&new.slots, &old.slots) {
            self.slots.set(index, Slot::default(), 0)?;
        }
        for (&index, &backend) in changed(&old.slots, &new.slots) {
            self.slots.set(index, Slot { backend }, 0)?;
        }
        for (&index, _) in changed(&new.backends, &old.backends) {
            self.backends.set(index, Backend::default(), 0)?;
        }
        for (&index, backend) in changed(&old.backends, &new.backends) {
            self.backends.set(index, backend, 0)?;
        }
        for (&(length, range), ()) in changed(&new.source_ranges, &old.source_ranges) {
            self.source_ranges.remove(&Key::new(length, range))?;
        }
        for (&(length, range), ()) in changed(&old.source_ranges, &new.source_ranges) {
            self.source_ranges.insert(&Key::new(length, range), 1, 0)?;
        }
        Ok(())
    }

    /// `SERVICE_STATS` without the slots that are zero.
    pub fn counted(&self) -> Result<BTreeMap<u32, ServiceCounter>> {
        let mut counted = BTreeMap::new();
        for slot in 0..self.stats.len() {
            let per_cpu = self.stats.get(&slot, 0).with_context(|| format!("cannot read counter {slot}"))?;
            let sum = per_cpu.iter().fold(ServiceCounter::default(), |sum, counter| plus(&sum, counter));
            if sum != ServiceCounter::default() {
                counted.insert(slot, sum);
            }
        }
        Ok(counted)
    }
}

/// A packet that is taken back may have been counted by another processor.
fn plus(sum: &ServiceCounter, more: &ServiceCounter) -> ServiceCounter {
    ServiceCounter {
        packets: sum.packets.wrapping_add(more.packets),
        bytes: sum.bytes.wrapping_add(more.bytes),
        new_flows: sum.new_flows.wrapping_add(more.new_flows),
        no_endpoint: sum.no_endpoint.wrapping_add(more.no_endpoint),
    }
}

/// What was counted since `before`.
pub fn more(
    after: &BTreeMap<u32, ServiceCounter>,
    before: &BTreeMap<u32, ServiceCounter>,
) -> BTreeMap<u32, ServiceCounter> {
    let difference = |(&service, after): (&u32, &ServiceCounter)| {
        let before = before.get(&service).copied().unwrap_or_default();
        let less = |field: u64| field.wrapping_neg();
        let ServiceCounter { packets, bytes, new_flows, no_endpoint } = before;
        let negative = ServiceCounter {
            packets: less(packets),
            bytes: less(bytes),
            new_flows: less(new_flows),
            no_endpoint: less(no_endpoint),
        };
        (service, plus(after, &negative))
    };
    after.iter().map(difference).filter(|(_, counter)| *counter != ServiceCounter::default()).collect()
}
