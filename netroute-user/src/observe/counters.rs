//! The data plane's counters, summed over CPUs. Reads only; knows no route and no next hop, just
//! their slots.

use std::collections::BTreeMap;
use std::path::Path;

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use netroute_common::abi;
use netroute_common::layout::egress::EgressCounter;
use netroute_common::layout::service::ServiceCounter;
use netroute_common::layout::stats::Counter;
use netroute_common::verdict::{Hook, Reason, verdict_slot};

use crate::apply::StoreError;

/// The counter maps, open.
pub struct Counters {
    verdicts: Slots,
    routes: Slots,
    next_hops: Slots,
    services: PerCpuArray<MapData, ServiceCounter>,
    egress: PerCpuArray<MapData, EgressCounter>,
}

impl Counters {
    /// The maps pinned in `folder`.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::from_maps(|name| {
            let map = MapData::from_pin(folder.join(name)).and_then(Map::from_map_data);
            map.map_err(|source| StoreError::Map { map: name, operation: "open", source: source.into() })
        })
    }

    pub(crate) fn from_maps(
        mut map: impl FnMut(&'static str) -> Result<Map, StoreError>,
    ) -> Result<Self, StoreError> {
        let services = PerCpuArray::try_from(map(abi::MAP_SERVICE_STATS)?);
        let services = services.map_err(failed(abi::MAP_SERVICE_STATS))?;
        let egress = PerCpuArray::try_from(map(abi::MAP_EGRESS_STATS)?);
        let egress = egress.map_err(failed(abi::MAP_EGRESS_STATS))?;
        let mut slots = |name: &'static str| Slots::new(name, map(name)?);
        Ok(Self {
            verdicts: slots(abi::MAP_VERDICTS)?,
            routes: slots(abi::MAP_ROUTE_STATS)?,
            next_hops: slots(abi::MAP_NEXTHOP_STATS)?,
            services,
            egress,
        })
    }

    /// Packets that got this reason at this hook.
    pub fn verdict(&self, hook: Hook, reason: Reason) -> Result<Counter, StoreError> {
        self.verdicts.sum(verdict_slot(hook, reason))
    }

    /// All verdicts that were given at least once.
    pub fn verdicts(&self) -> Result<BTreeMap<(Hook, Reason), Counter>, StoreError> {
        let mut counted = BTreeMap::new();
        for hook in Hook::ALL {
            for &reason in Reason::ALL {
                let counter = self.verdict(hook, reason)?;
                if counter.packets != 0 {
                    counted.insert((hook, reason), counter);
                }
            }
        }
        Ok(counted)
    }

    /// One slot of `ROUTE_STATS`.
    pub fn route(&self, slot: u32) -> Result<Counter, StoreError> {
        self.routes.sum(slot)
    }

    /// These slots of `ROUTE_STATS`; only those are read, so the cost is that of the routes in
    /// use and not that of the map.
    pub fn routes(&self, slots: impl IntoIterator<Item = u32>) -> Result<BTreeMap<u32, Counter>, StoreError> {
        self.routes.sums(slots)
    }

    /// One slot of `NEXTHOP_STATS`.
    pub fn next_hop(&self, id: u32) -> Result<Counter, StoreError> {
        self.next_hops.sum(id)
    }

    /// These slots of `NEXTHOP_STATS`.
    pub fn next_hops(
        &self,
        ids: impl IntoIterator<Item = u32>,
    ) -> Result<BTreeMap<u32, Counter>, StoreError> {
        self.next_hops.sums(ids)
    }

    /// One slot of `SERVICE_STATS`.
    pub fn service(&self, id: u32) -> Result<ServiceCounter, StoreError> {
        let per_cpu = self.services.get(&id, 0).map_err(failed(abi::MAP_SERVICE_STATS))?;
        Ok(per_cpu.iter().fold(ServiceCounter::default(), |sum, cpu| ServiceCounter {
            packets: sum.packets.wrapping_add(cpu.packets),
            bytes: sum.bytes.wrapping_add(cpu.bytes),
            new_flows: sum.new_flows.wrapping_add(cpu.new_flows),
            no_endpoint: sum.no_endpoint.wrapping_add(cpu.no_endpoint),
        }))
    }

    /// One slot of `EGRESS_STATS`.
    pub fn egress(&self, policy: u32) -> Result<EgressCounter, StoreError> {
        let per_cpu = self.egress.get(&policy, 0).map_err(failed(abi::MAP_EGRESS_STATS))?;
        // What one CPU counted another may take back: a single one may be below zero.
        Ok(per_cpu.iter().fold(EgressCounter::default(), |sum, cpu| EgressCounter {
            packets: sum.packets.wrapping_add(cpu.packets),
            bytes: sum.bytes.wrapping_add(cpu.bytes),
            new_flows: sum.new_flows.wrapping_add(cpu.new_flows),
            denied: sum.denied.wrapping_add(cpu.denied),
            last_hit: sum.last_hit.max(cpu.last_hit),
        }))
    }
}

struct Slots {
    map: &'static str,
    array: PerCpuArray<MapData, Counter>,
}

impl Slots {
    fn new(map: &'static str, opened: Map) -> Result<Self, StoreError> {
        let array = PerCpuArray::try_from(opened).map_err(failed(map))?;
        Ok(Self { map, array })
    }

    fn sum(&self, slot: u32) -> Result<Counter, StoreError> {
        let per_cpu = self.array.get(&slot, 0).map_err(failed(self.map))?;
        Ok(per_cpu.iter().fold(Counter::default(), |sum, cpu| Counter {
            packets: sum.packets.wrapping_add(cpu.packets),
            bytes: sum.bytes.wrapping_add(cpu.bytes),
        }))
    }

    fn sums(&self, slots: impl IntoIterator<Item = u32>) -> Result<BTreeMap<u32, Counter>, StoreError> {
        slots.into_iter().map(|slot| Ok((slot, self.sum(slot)?))).collect()
    }
}

fn failed(map: &'static str) -> impl Fn(MapError) -> StoreError {
    move |source| StoreError::Map { map, operation: "read", source: source.into() }
}
