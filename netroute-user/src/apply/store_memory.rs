//! A [`MapStore`] in memory: counts writes and fails where it is told to.

use std::collections::BTreeMap;

use netroute_common::abi;
use netroute_common::layout::strides::ROOT_BLOCKS;

use super::store::{MapStore, StoreError, limit_key};
use crate::compile::image::{Image, Limits};
use crate::plan::{EgressStep, ServiceStep, Step};

/// Behaves as the kernel's maps do, capacities included.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    image: Image,
    limits: Limits,
    writes: BTreeMap<&'static str, u64>,
    fail_at: Option<u64>,
}

impl MemoryStore {
    /// Empty maps of these capacities.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Makes the write of this number (counted from 0 over the store's life) fail, and every
    /// later one.
    #[must_use]
    pub fn failing_at(self, write: u64) -> Self {
        Self { fail_at: Some(write), ..self }
    }

    /// Lets writes succeed again.
    pub fn heal(&mut self) {
        self.fail_at = None;
    }

    /// Writes that succeeded.
    pub fn writes(&self) -> u64 {
        self.writes.values().sum()
    }

    /// Writes that succeeded, to one map.
    pub fn writes_to(&self, map: &str) -> u64 {
        self.writes.get(map).copied().unwrap_or(0)
    }

    pub fn image(&self) -> &Image {
        &self.image
    }

    fn room<K: Ord, V>(
        table: &BTreeMap<K, V>,
        key: &K,
        map: &'static str,
        capacity: u32,
    ) -> Result<(), StoreError> {
        if table.contains_key(key) { Ok(()) } else { Self::another(table.len(), map, capacity) }
    }

    fn another(held: usize, map: &'static str, capacity: u32) -> Result<(), StoreError> {
        let full = held >= usize::try_from(capacity).unwrap_or(usize::MAX);
        if full { Err(StoreError::Full { map, capacity, key: limit_key(map) }) } else { Ok(()) }
    }

    fn service(
        image: &Image,
        limits: &Limits,
        step: &ServiceStep,
        map: &'static str,
    ) -> Result<(), StoreError> {
        let held = &image.services;
        match *step {
            ServiceStep::SetBackend { id, .. } => Self::slot(id, map, limits.backends),
            ServiceStep::SetBlock { first, ref backends } => {
                let last = u32::try_from(backends.len()).unwrap_or(u32::MAX).saturating_sub(1);
                Self::slot(first.saturating_add(last), map, limits.slots)
            }
            ServiceStep::ResetServiceStats { service } => Self::slot(service, map, limits.service_stats),
            ServiceStep::SetFrontEnd { key, .. } => {
                Self::room(&held.front_ends, &key, map, limits.front_ends)
            }
            ServiceStep::SetMasquerade { ifindex, .. } => {
                Self::room(&held.masquerade, &ifindex, map, abi::MAX_MASQUERADE)
            }
            ServiceStep::SetPeer { key, .. } => Self::room(&held.peers, &key, map, limits.next_hops),
            ServiceStep::SetSourceRange { length, range } => {
                let there = held.source_ranges.contains(&(length, range));
                if there {
                    Ok(())
                } else {
                    Self::another(held.source_ranges.len(), map, limits.source_ranges)
                }
            }
            _ => Ok(()),
        }
    }

    fn egress(
        image: &Image,
        limits: &Limits,
        step: &EgressStep,
        map: &'static str,
    ) -> Result<(), StoreError> {
        let held = &image.egress;
        let last = |first: u32, len: usize| {
            first.saturating_add(u32::try_from(len).unwrap_or(u32::MAX).saturating_sub(1))
        };
        match *step {
            EgressStep::SetSnat { first, ref addresses } => {
                Self::slot(last(first, addresses.len()), map, limits.snat)
            }
            EgressStep::SetRules { first, ref rules } => {
                Self::slot(last(first, rules.len()), map, limits.egress_rules)
            }
            EgressStep::ResetStats { policy: index } | EgressStep::SetPolicy { index, .. } => {
                Self::slot(index, map, limits.egress_policies)
            }
            EgressStep::SetSource { address, .. } => Self::room(&held.sources, &address, map, limits.sources),
            EgressStep::SetDestination { identity, destination, .. } => {
                let of_one = held.destinations.get(&identity);
                if of_one.is_some_and(|of_one| of_one.contains_key(&destination)) {
                    return Ok(());
                }
                Self::another(held.entries(), map, limits.egress)
            }
            _ => Ok(()),
        }
    }

    fn slot(slot: u32, map: &'static str, capacity: u32) -> Result<(), StoreError> {
        if slot < capacity {
            Ok(())
        } else {
            Err(StoreError::NoSlot { map, slot, capacity, key: limit_key(map) })
        }
    }
}

/// The map that a step writes.
pub(super) fn map_of(step: &Step) -> &'static str {
    match step {
        Step::SetPort { .. } | Step::ClearPort { .. } => abi::MAP_PORTS,
        Step::SetNextHop { .. } | Step::ClearNextHop { .. } => abi::MAP_NEXTHOPS,
        Step::SetGroup { .. } | Step::ClearGroup { .. } => abi::MAP_GROUPS,
        Step::ResetRouteStats { .. } => abi::MAP_ROUTE_STATS,
        Step::SetRoute4 { .. } | Step::RemoveRoute4 { .. } => abi::MAP_ROUTES4,
        Step::SetRoute6 { .. } | Step::RemoveRoute6 { .. } => abi::MAP_ROUTES6,
        Step::SetRoot4 { .. } | Step::ClearRoot4 { .. } => abi::MAP_ROOT4,
        Step::SetBlock4 { .. } | Step::ClearBlock4 { .. } => abi::MAP_BLOCKS4,
        Step::Service(step) => match step {
            ServiceStep::SetBackend { .. } | ServiceStep::RestBackend { .. } => abi::MAP_BACKENDS,
            ServiceStep::SetBlock { .. } | ServiceStep::FreeBlock { .. } => abi::MAP_SLOTS,
            ServiceStep::SetFrontEnd { .. } | ServiceStep::RemoveFrontEnd { .. } => abi::MAP_FRONTENDS,
            ServiceStep::SetSourceRange { .. } | ServiceStep::RemoveSourceRange { .. } => {
                abi::MAP_SOURCE_RANGES
            }
            ServiceStep::SetMasquerade { .. } | ServiceStep::RemoveMasquerade { .. } => abi::MAP_MASQUERADE,
            ServiceStep::SetPeer { .. } | ServiceStep::RemovePeer { .. } => abi::MAP_PEERS,
            ServiceStep::SetTimers { .. } | ServiceStep::ClearTimers => abi::MAP_TIMERS,
            ServiceStep::ResetServiceStats { .. } => abi::MAP_SERVICE_STATS,
        },
        Step::Egress(step) => match step {
            EgressStep::SetSnat { .. } | EgressStep::FreeSnat { .. } => abi::MAP_SNAT,
            EgressStep::SetRules { .. } | EgressStep::FreeRules { .. } => abi::MAP_EGRESS_RULES,
            EgressStep::ResetStats { .. } => abi::MAP_EGRESS_STATS,
            EgressStep::SetPolicy { .. } | EgressStep::SetDefault { .. } | EgressStep::ClearPolicy { .. } => {
                abi::MAP_EGRESS_POLICIES
            }
            EgressStep::SetDestination { .. } | EgressStep::RemoveDestination { .. } => abi::MAP_EGRESS,
            EgressStep::SetSource { .. } | EgressStep::RemoveSource { .. } => abi::MAP_SOURCES,
        },
    }
}

impl MapStore for MemoryStore {
    fn write(&mut self, step: &Step) -> Result<(), StoreError> {
        let number = self.writes();
        if self.fail_at.is_some_and(|at| number >= at) {
            return Err(StoreError::Injected { number });
        }
        let map = map_of(step);
        let Self { image, limits, .. } = self;
        match *step {
            Step::SetPort { slot, .. } => Self::slot(slot, map, abi::MAX_PORTS)?,
            Step::SetNextHop { id, .. } => Self::slot(id, map, limits.next_hops)?,
            Step::SetGroup { id, .. } => Self::slot(id, map, limits.groups)?,
            Step::ResetRouteStats { slot } => Self::slot(slot, map, limits.route_stats)?,
            Step::SetRoute4 { prefix, .. } => Self::room(&image.routes4, &prefix, map, limits.routes4)?,
            Step::SetRoot4 { index, .. } => Self::slot(index, map, ROOT_BLOCKS)?,
            Step::SetBlock4 { index, .. } => Self::slot(index, map, limits.blocks4)?,
            Step::SetRoute6 { prefix, .. } => Self::room(&image.routes6, &prefix, map, limits.routes6)?,
            Step::Service(ref step) => Self::service(image, limits, step, map)?,
            Step::Egress(ref step) => Self::egress(image, limits, step, map)?,
            _ => {}
        }
        step.apply_to(image);
        *self.writes.entry(map).or_default() += 1;
        Ok(())
    }

    fn read(&self) -> Result<Image, StoreError> {
        Ok(self.image.clone())
    }
}
