//! What maps of other capacities get from those that they are to replace: the image, as far as it fits, so
//! that numbers and generations go on (S18, S21); counters; and what the data plane itself has written.

use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray};
use netroute_common::abi;
use netroute_common::layout::egress::EgressCounter;
use netroute_common::layout::flow::{Flow, FlowKey4, FlowKey6, Fragment, FragmentKey, STATE_ESTABLISHED};
use netroute_common::layout::service::{Affinity, AffinityKey, ServiceCounter};
use netroute_common::layout::socket::{SocketKey, SocketPeer};
use netroute_common::layout::stats::Counter;
use netroute_common::stage::tuple::Tuple;

use super::flows::CROWDED;
use super::maps::{errno, info, reading, typed};
use super::store::{MapStore, StoreError};
use crate::compile::image::Image;
use crate::plan::{EgressStep, ServiceStep, Step, diff};

/// Whether an entry takes the place of the one under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    Replaced = 0,
    Kept = 1,
}

/// Entries that were carried over, and those that found no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    pub entries: u64,
    pub left: u64,
}

/// Writes the image into maps that no program runs over yet; says how many writes did not fit.
pub fn image(former: &Image, store: &mut dyn MapStore) -> Result<u64, StoreError> {
    let mut left = 0;
    for step in diff(&store.read()?, former).steps {
        // Counters are carried over by themselves.
        if matches!(
            step,
            Step::ResetRouteStats { .. }
                | Step::Service(ServiceStep::ResetServiceStats { .. })
                | Step::Egress(EgressStep::ResetStats { .. })
        ) {
            continue;
        }
        match store.write(&step) {
            Ok(()) => {}
            Err(StoreError::Full { .. } | StoreError::NoSlot { .. } | StoreError::NoInterface { .. }) => {
                left += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(left)
}

/// Copies a map of counters between folders; others are left alone.
pub fn counters(name: &'static str, from: &Path, to: &Path) -> Result<(), StoreError> {
    match name {
        abi::MAP_ROUTE_STATS | abi::MAP_NEXTHOP_STATS => copy_counters::<Counter>(name, from, to),
        abi::MAP_SERVICE_STATS => copy_counters::<ServiceCounter>(name, from, to),
        abi::MAP_EGRESS_STATS => copy_counters::<EgressCounter>(name, from, to),
        _ => Ok(()),
    }
}

/// Copies a map that the data plane writes between folders; others are left alone.
pub fn entries(name: &'static str, from: &Path, to: &Path, present: Present) -> Result<Carried, StoreError> {
    match name {
        abi::MAP_FLOWS4 | abi::MAP_OPENING4 => copy::<FlowKey4, Flow>(name, from, to, present),
        abi::MAP_FLOWS6 | abi::MAP_OPENING6 => copy::<FlowKey6, Flow>(name, from, to, present),
        abi::MAP_AFFINITY => copy::<AffinityKey, Affinity>(name, from, to, present),
        abi::MAP_FRAGMENTS => copy::<FragmentKey, Fragment>(name, from, to, present),
        abi::MAP_SOCKETS => copy::<SocketKey, SocketPeer>(name, from, to, present),
        _ => Ok(Carried::default()),
    }
}

/// What is worth more when not all fit compares as larger.
trait Worth<K: Copy + Ord> {
    /// Of the capacity, percent: as much is filled at most.
    const FILL: u32 = 100;

    /// The key that stands for all entries that stay or go together.
    fn unit(&self, key: &K) -> K {
        *key
    }

    fn worth(&self) -> (bool, u64);
}

impl<K: Tuple + Ord> Worth<K> for Flow {
    /// Flows that begin find room, and those that the next copy knows better.
    const FILL: u32 = CROWDED;

    fn unit(&self, key: &K) -> K {
        K::rewritten_by(self).reversed().min(*key)
    }

    /// The same in both directions' entries: when a packet of one was last seen is not.
    fn worth(&self) -> (bool, u64) {
        (self.state == STATE_ESTABLISHED, self.touched)
    }
}

impl<K: Copy + Ord> Worth<K> for Affinity {
    fn worth(&self) -> (bool, u64) {
        (true, self.used)
    }
}

impl<K: Copy + Ord> Worth<K> for Fragment {
    fn worth(&self) -> (bool, u64) {
        (true, self.seen)
    }
}

impl<K: Copy + Ord> Worth<K> for SocketPeer {
    fn worth(&self) -> (bool, u64) {
        (true, 0)
    }
}

fn copy<K: aya::Pod + Ord, V: aya::Pod + Worth<K>>(
    name: &'static str,
    from: &Path,
    to: &Path,
    present: Present,
) -> Result<Carried, StoreError> {
    let ((from, before), (to, capacity)) = (open(name, from)?, open(name, to)?);
    let from: HashMap<MapData, K, V> = typed(name, from)?;
    let mut to: HashMap<MapData, K, V> = typed(name, to)?;
    // More than it can hold: the walk met the beginning again, as entries went meanwhile.
    let found = from.iter().take(before as usize * 2);
    let mut carried = Carried::default();
    if before <= capacity {
        for entry in found {
            let (key, value) = entry.map_err(reading(name))?;
            put(name, &mut to, &key, &value, present, &mut carried)?;
        }
        return Ok(carried);
    }
    let found = found.collect::<Result<Vec<(K, V)>, MapError>>().map_err(reading(name))?;
    let all = found.len();
    let chosen = chosen(found, capacity);
    carried.left = (all - chosen.len()) as u64;
    for (key, value) in &chosen {
        put(name, &mut to, key, value, present, &mut carried)?;
    }
    Ok(carried)
}

/// Those of most worth that fit, and of what goes together all or nothing. The least first: it is the first
/// that a map which forgets by itself lets go.
fn chosen<K: Copy + Ord, V: Copy + Worth<K>>(mut found: Vec<(K, V)>, capacity: u32) -> Vec<(K, V)> {
    let room = u64::from(capacity) * u64::from(V::FILL) / 100;
    let unit = |(key, value): &(K, V)| value.unit(key);
    found.sort_by_key(unit);
    let mut units: Vec<&[(K, V)]> = found.chunk_by(|one, other| unit(one) == unit(other)).collect();
    // Between the reading of its two entries a flow may have become worth more.
    units.sort_by_key(|entries| entries.iter().map(|(_, value)| value.worth()).max());
    let mut filled = 0;
    let fits = units.iter().rev().take_while(|entries| {
        filled += entries.len() as u64;
        filled <= room
    });
    let left = units.len() - fits.count();
    units.split_off(left).concat()
}

fn put<K: aya::Pod, V: aya::Pod>(
    name: &'static str,
    map: &mut HashMap<MapData, K, V>,
    key: &K,
    value: &V,
    present: Present,
    carried: &mut Carried,
) -> Result<(), StoreError> {
    match map.insert(key, value, present as u64) {
        Ok(()) => carried.entries += 1,
        Err(error) => match errno(&error) {
            Some(libc::EEXIST) => {}
            Some(libc::E2BIG | libc::ENOMEM) => carried.left += 1,
            _ => return Err(StoreError::Map { map: name, operation: "write", source: error.into() }),
        },
    }
    Ok(())
}

fn copy_counters<V: aya::Pod>(name: &'static str, from: &Path, to: &Path) -> Result<(), StoreError> {
    let from: PerCpuArray<MapData, V> = typed(name, open(name, from)?.0)?;
    let mut to: PerCpuArray<MapData, V> = typed(name, open(name, to)?.0)?;
    for index in 0..from.len().min(to.len()) {
        let values = from.get(&index, 0).map_err(reading(name))?;
        to.set(index, values, 0).map_err(|source| StoreError::Map {
            map: name,
            operation: "write",
            source: source.into(),
        })?;
    }
    Ok(())
}

/// The map, and how many entries it can hold.
fn open(name: &'static str, folder: &Path) -> Result<(Map, u32), StoreError> {
    let map = MapData::from_pin(folder.join(name)).and_then(Map::from_map_data);
    let map =
        map.map_err(|source| StoreError::Map { map: name, operation: "open", source: source.into() })?;
    let capacity = info(&map).map_err(reading(name))?.max_entries();
    Ok((map, capacity))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use netroute_common::layout::service::{Address, Backend, FrontEnd, FrontEndKey};

    use super::*;
    use crate::apply::MemoryStore;
    use crate::compile::image::Limits;

    #[test]
    fn s21_an_image_is_carried_over_as_far_as_it_fits() {
        let address = Address::v4([10, 244, 1, 5]);
        let backend = Backend { address, port: 80, generation: 7, flags: 0 };
        let front_end = FrontEnd { service: 5, block: 0, size: 2, ..FrontEnd::default() };
        let mut former = Image::default();
        former.services.backends = BTreeMap::from([(3, backend), (9, backend)]);
        former.services.blocks = BTreeMap::from([(0, vec![3, 9].into())]);
        former.services.front_ends = [(FrontEndKey::default(), front_end)].into();
        let mut store = MemoryStore::new(Limits::default());
        assert_eq!(image(&former, &mut store).unwrap(), 0);
        assert_eq!(store.image(), &former);
        let mut store = MemoryStore::new(Limits { backends: 8, ..Limits::default() });
        assert_eq!(image(&former, &mut store).unwrap(), 1);
        former.services.backends.remove(&9);
        assert_eq!(store.image(), &former);
    }

    /// Both entries of flow `number`; its answers came long after the last packet of the client.
    fn flow(number: u16, state: u8, touched: u64) -> [(FlowKey4, Flow); 2] {
        let [client, front, backend] = [[10, 0, 0, 1], [10, 96, 0, 10], [10, 244, 1, 5]];
        let key = |source, destination, source_port, destination_port| FlowKey4 {
            source,
            destination,
            source_port,
            destination_port,
            protocol: 6,
        };
        let flow = |seen, source, destination, source_port, destination_port| Flow {
            seen,
            touched,
            source: Address::v4(source),
            destination: Address::v4(destination),
            source_port,
            destination_port,
            state,
            protocol: 6,
            ..Flow::default()
        };
        [
            (key(client, front, number, 80), flow(touched, client, backend, number, 8080)),
            (key(backend, client, 8080, number), flow(touched + 1000, front, client, 80, number)),
        ]
    }

    fn numbers(chosen: &[(FlowKey4, Flow)]) -> Vec<u16> {
        chosen.iter().map(|(key, _)| key.source_port.max(key.destination_port)).collect()
    }

    #[test]
    fn of_more_flows_than_fit_both_directions_are_kept_or_none() {
        let found: Vec<_> = (1..=50).flat_map(|n| flow(10_000 + n, STATE_ESTABLISHED, n.into())).collect();
        for capacity in [40, 41, 42, 43] {
            let chosen = chosen(found.clone(), capacity);
            let flows = capacity * CROWDED / 100 / 2;
            let expected: Vec<u16> = (10_051 - flows as u16..=10_050).flat_map(|n| [n, n]).collect();
            assert_eq!(numbers(&chosen), expected, "capacity {capacity}");
        }
        assert_eq!(chosen(found.clone(), 125).len(), found.len(), "all fit");
    }

    #[test]
    fn established_flows_are_kept_before_others() {
        let [old, young] = [flow(10_001, STATE_ESTABLISHED, 1), flow(10_002, STATE_ESTABLISHED, 2)];
        let found = [flow(10_003, STATE_ESTABLISHED + 1, 9), young, old].concat();
        assert_eq!(numbers(&chosen(found.clone(), 5)), [10_001, 10_001, 10_002, 10_002]);
        assert_eq!(numbers(&chosen(found, 3)), [10_002, 10_002]);
    }
}
