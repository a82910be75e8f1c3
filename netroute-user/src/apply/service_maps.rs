//! The kernel's maps of Services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use netroute_common::abi;
use netroute_common::layout::flow::{Masquerade, PeerKey, Timers};
use netroute_common::layout::service::{Backend, FrontEnd, FrontEndKey, ServiceCounter, Slot, SourceRange};
use zerocopy::{FromZeros, IntoBytes};

use super::maps::{absent_is_fine, reading, typed, used, zeroes};
use super::store::StoreError;
use crate::compile::services::image::ServiceImage;
use crate::plan::ServiceStep;

/// Value of `SOURCE_RANGES`: that there is one is what counts.
const ALLOWED: u32 = 1;

/// The control maps of Services, open.
pub(super) struct ServiceMaps {
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
    pub(super) fn open(
        mut map: impl FnMut(&'static str) -> Result<Map, StoreError>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            front_ends: typed(abi::MAP_FRONTENDS, map(abi::MAP_FRONTENDS)?)?,
            slots: typed(abi::MAP_SLOTS, map(abi::MAP_SLOTS)?)?,
            backends: typed(abi::MAP_BACKENDS, map(abi::MAP_BACKENDS)?)?,
            source_ranges: typed(abi::MAP_SOURCE_RANGES, map(abi::MAP_SOURCE_RANGES)?)?,
            masquerade: typed(abi::MAP_MASQUERADE, map(abi::MAP_MASQUERADE)?)?,
            peers: typed(abi::MAP_PEERS, map(abi::MAP_PEERS)?)?,
            timers: typed(abi::MAP_TIMERS, map(abi::MAP_TIMERS)?)?,
            stats: typed(abi::MAP_SERVICE_STATS, map(abi::MAP_SERVICE_STATS)?)?,
        })
    }

    pub(super) fn write(&mut self, step: &ServiceStep) -> Result<(), MapError> {
        match *step {
            ServiceStep::SetBackend { id, backend } => self.backends.set(id, backend, 0),
            ServiceStep::RestBackend { id, generation } => {
                self.backends.set(id, Backend { generation, ..Backend::default() }, 0)
            }
            ServiceStep::SetBlock { first, ref backends } => self.set_block(first, backends),
            ServiceStep::FreeBlock { .. } => Ok(()),
            ServiceStep::SetFrontEnd { key, front_end } => self.front_ends.insert(key, front_end, 0),
            ServiceStep::RemoveFrontEnd { key } => absent_is_fine(self.front_ends.remove(&key)),
            ServiceStep::SetSourceRange { length, range } => {
                self.source_ranges.insert(&Key::new(u32::from(length), range), ALLOWED, 0)
            }
            ServiceStep::RemoveSourceRange { length, range } => {
                absent_is_fine(self.source_ranges.remove(&Key::new(u32::from(length), range)))
            }
            ServiceStep::SetMasquerade { ifindex, masquerade } => {
                self.masquerade.insert(ifindex, masquerade, 0)
            }
            ServiceStep::RemoveMasquerade { ifindex } => absent_is_fine(self.masquerade.remove(&ifindex)),
            ServiceStep::SetPeer { key, next_hop } => self.peers.insert(key, next_hop, 0),
            ServiceStep::RemovePeer { key } => absent_is_fine(self.peers.remove(&key)),
            ServiceStep::SetTimers { timers } => self.timers.set(0, timers, 0),
            ServiceStep::ClearTimers => self.timers.set(0, Timers::new_zeroed(), 0),
            ServiceStep::ResetServiceStats { service } => self.stats.set(service, zeroes()?, 0),
        }
    }

    fn set_block(&mut self, first: u32, backends: &[u32]) -> Result<(), MapError> {
        (first..).zip(backends).try_for_each(|(slot, &backend)| self.slots.set(slot, Slot { backend }, 0))
    }

    pub(super) fn read(&self) -> Result<ServiceImage, StoreError> {
        let front_ends: Result<BTreeMap<_, _>, _> = self.front_ends.iter().collect();
        let front_ends = front_ends.map_err(reading(abi::MAP_FRONTENDS))?;
        let masquerade: Result<BTreeMap<_, _>, _> = self.masquerade.iter().collect();
        let peers: Result<BTreeMap<_, _>, _> = self.peers.iter().collect();
        let ranges = self.source_ranges.iter().map(|entry| {
            let (key, _) = entry.map_err(reading(abi::MAP_SOURCE_RANGES))?;
            Ok((u8::try_from(key.prefix_len()).unwrap_or(u8::MAX), key.data()))
        });
        let timers = self.timers.get(&0, 0).map_err(reading(abi::MAP_TIMERS))?;
        Ok(ServiceImage {
            blocks: self.blocks(&front_ends).map_err(reading(abi::MAP_SLOTS))?,
            backends: used(&self.backends, self.backends.len()).map_err(reading(abi::MAP_BACKENDS))?,
            source_ranges: ranges.collect::<Result<BTreeSet<_>, StoreError>>()?,
            masquerade: masquerade.map_err(reading(abi::MAP_MASQUERADE))?,
            peers: peers.map_err(reading(abi::MAP_PEERS))?,
            timers: timers.as_bytes().iter().any(|byte| *byte != 0).then_some(timers),
            front_ends,
        })
    }

    /// The blocks that front ends name; what is in other slots is free.
    fn blocks(
        &self,
        front_ends: &BTreeMap<FrontEndKey, FrontEnd>,
    ) -> Result<BTreeMap<u32, Arc<[u32]>>, MapError> {
        let mut blocks = BTreeMap::new();
        for FrontEnd { block, size, .. } in front_ends.values() {
            let end = block.saturating_add(*size).min(self.slots.len());
            if *block < end && !blocks.contains_key(block) {
                let slots = (*block..end).map(|slot| Ok(self.slots.get(&slot, 0)?.backend));
                blocks.insert(*block, slots.collect::<Result<Arc<[u32]>, MapError>>()?);
            }
        }
        Ok(blocks)
    }
}
