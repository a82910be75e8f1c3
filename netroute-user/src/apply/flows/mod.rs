//! The flow tables: the data plane writes them, the agent reads them and removes what is over. Knows
//! Services by their numbers only.

mod entry;
mod sweep;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use netroute_common::abi;
use netroute_common::layout::flow::{Flow, FlowKey4, FlowKey6, Timers};
use nix::time::{ClockId, clock_gettime};
use zerocopy::IntoBytes;

use super::maps::{absent_is_fine, info, reading, typed};
use super::store::StoreError;
use entry::FlowKey;
pub use entry::{Entry, FlowState, Tuple};
pub(super) use sweep::CROWDED;
pub use sweep::{Fill, Pass};

/// Nanoseconds of the data plane's clock (N14). If it could not be read, the beginning of time: nothing
/// is over then.
#[must_use]
pub fn now() -> u64 {
    let since = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// All four tables and the timers, open.
pub struct FlowTables {
    opening4: Table<FlowKey4>,
    opening6: Table<FlowKey6>,
    established4: Table<FlowKey4>,
    established6: Table<FlowKey6>,
    timers: Array<MapData, Timers>,
}

/// One table, open twice: what is removed must not stand in the way of the walk that finds it.
struct Table<K> {
    name: &'static str,
    capacity: u32,
    read: HashMap<MapData, K, Flow>,
    write: HashMap<MapData, K, Flow>,
}

impl FlowTables {
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
        Ok(Self {
            opening4: Table::open(abi::MAP_OPENING4, &mut map)?,
            opening6: Table::open(abi::MAP_OPENING6, &mut map)?,
            established4: Table::open(abi::MAP_FLOWS4, &mut map)?,
            established6: Table::open(abi::MAP_FLOWS6, &mut map)?,
            timers: typed(abi::MAP_TIMERS, map(abi::MAP_TIMERS)?)?,
        })
    }

    /// Numbers of the Service ports that flows carry; removes nothing.
    pub fn services(&self) -> Result<BTreeSet<u32>, StoreError> {
        let mut services = BTreeSet::new();
        self.each(|entry| services.extend([entry.flow.service]))?;
        Ok(services)
    }

    /// Every entry. One that changes its table meanwhile may come twice.
    pub fn each(&self, mut visit: impl FnMut(Entry)) -> Result<(), StoreError> {
        // Flows move from opening to established: in this order none is missed.
        self.opening4.each(&mut visit)?;
        self.opening6.each(&mut visit)?;
        self.established4.each(&mut visit)?;
        self.established6.each(&mut visit)
    }

    /// The entry under this key.
    pub fn find(&self, tuple: &Tuple) -> Result<Option<Flow>, StoreError> {
        let found = self.established4.find(tuple)?.or(self.opening4.find(tuple)?);
        let found = found.or(self.established6.find(tuple)?);
        Ok(found.or(self.opening6.find(tuple)?))
    }

    /// Removes it, wherever it is.
    pub fn remove(&mut self, tuple: &Tuple) -> Result<(), StoreError> {
        self.opening4.remove(tuple)?;
        self.opening6.remove(tuple)?;
        self.established4.remove(tuple)?;
        self.established6.remove(tuple)
    }

    /// Puts an entry in, as the data plane would.
    pub(crate) fn insert(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let opening = FlowState::of(&entry.flow) == FlowState::Opening;
        let (table4, table6) = if opening {
            (&mut self.opening4, &mut self.opening6)
        } else {
            (&mut self.established4, &mut self.established6)
        };
        table4.insert(entry)?;
        table6.insert(entry)
    }

    /// `None`: none are installed yet.
    fn timers(&self) -> Result<Option<Timers>, StoreError> {
        let timers = self.timers.get(&0, 0).map_err(reading(abi::MAP_TIMERS))?;
        Ok(timers.as_bytes().iter().any(|byte| *byte != 0).then_some(timers))
    }
}

impl<K: FlowKey> Table<K> {
    fn open(
        name: &'static str,
        map: &mut impl FnMut(&'static str) -> Result<Map, StoreError>,
    ) -> Result<Self, StoreError> {
        let read = map(name)?;
        let capacity = info(&read).map_err(reading(name))?.max_entries();
        Ok(Self { name, capacity, read: typed(name, read)?, write: typed(name, map(name)?)? })
    }

    /// More entries than this, and the walk met the beginning again: what it stood on was removed.
    fn most(&self) -> usize {
        (self.capacity as usize).saturating_mul(2)
    }

    fn each(&self, visit: &mut impl FnMut(Entry)) -> Result<(), StoreError> {
        for entry in self.read.iter().take(self.most()) {
            let (key, flow) = entry.map_err(reading(self.name))?;
            visit(Entry { tuple: key.tuple(), flow });
        }
        Ok(())
    }

    fn find(&self, tuple: &Tuple) -> Result<Option<Flow>, StoreError> {
        let Some(key) = K::of(tuple) else { return Ok(None) };
        match self.read.get(&key, 0) {
            Ok(flow) => Ok(Some(flow)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(reading(self.name)(error)),
        }
    }

    fn remove(&mut self, tuple: &Tuple) -> Result<(), StoreError> {
        let removed = K::of(tuple).map_or(Ok(()), |key| absent_is_fine(self.write.remove(&key)));
        removed.map_err(writing(self.name))
    }

    fn insert(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let inserted = K::of(&entry.tuple).map_or(Ok(()), |key| self.write.insert(key, entry.flow, 0));
        inserted.map_err(writing(self.name))
    }
}

fn writing(map: &'static str) -> impl Fn(MapError) -> StoreError {
    move |source| StoreError::Map { map, operation: "write", source: source.into() }
}
