//! The kernel's maps as a [`MapStore`]. Writes go one by one: aya 0.14 has no batch operations,
//! and a million single updates stay within a second or two.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::{DevMap, XdpMapError};
use aya::maps::{Array, Map, MapData, MapError, MapInfo, PerCpuArray, PerCpuValues};
use ipnet::{Ipv4Net, Ipv6Net};
use netroute_common::abi;
use netroute_common::host::strides::Strides;
use netroute_common::layout::route::{Group, NextHop, Prefix4, Prefix6, Route};
use netroute_common::layout::stats::Counter;
use netroute_common::layout::strides::{BELOW, Block};
use zerocopy::{FromZeros, IntoBytes};

use super::egress_maps::EgressMaps;
use super::service_maps::ServiceMaps;
use super::store::{MapStore, StoreError, limit_key};
use super::store_memory::map_of;
use crate::compile::image::Image;
use crate::plan::Step;

/// The control maps, open.
pub struct KernelStore {
    routes4: LpmTrie<MapData, Prefix4, Route>,
    root4: Array<MapData, Block>,
    blocks4: Array<MapData, Block>,
    routes6: LpmTrie<MapData, Prefix6, Route>,
    groups: Array<MapData, Group>,
    next_hops: Array<MapData, NextHop>,
    ports: DevMap<MapData>,
    route_stats: PerCpuArray<MapData, Counter>,
    services: ServiceMaps,
    egress: EgressMaps,
    capacities: BTreeMap<&'static str, u32>,
}

impl KernelStore {
    /// The maps pinned in `folder`.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::from_maps(|name| {
            let map = MapData::from_pin(folder.join(name)).and_then(Map::from_map_data);
            map.map_err(|source| StoreError::Map { map: name, operation: "open", source: source.into() })
        })
    }

    /// Maps by name, wherever they come from.
    ///
    /// # Errors
    /// A map that `map` does not give, or that is of another type.
    pub fn from_maps(
        mut map: impl FnMut(&'static str) -> Result<Map, StoreError>,
    ) -> Result<Self, StoreError> {
        let mut capacities = BTreeMap::new();
        let mut open = |name: &'static str| -> Result<Map, StoreError> {
            let opened = map(name)?;
            capacities.insert(name, capacity(name, &opened)?);
            Ok(opened)
        };
        Ok(Self {
            routes4: typed(abi::MAP_ROUTES4, open(abi::MAP_ROUTES4)?)?,
            root4: typed(abi::MAP_ROOT4, open(abi::MAP_ROOT4)?)?,
            blocks4: typed(abi::MAP_BLOCKS4, open(abi::MAP_BLOCKS4)?)?,
            routes6: typed(abi::MAP_ROUTES6, open(abi::MAP_ROUTES6)?)?,
            groups: typed(abi::MAP_GROUPS, open(abi::MAP_GROUPS)?)?,
            next_hops: typed(abi::MAP_NEXTHOPS, open(abi::MAP_NEXTHOPS)?)?,
            ports: typed(abi::MAP_PORTS, open(abi::MAP_PORTS)?)?,
            route_stats: typed(abi::MAP_ROUTE_STATS, open(abi::MAP_ROUTE_STATS)?)?,
            services: ServiceMaps::open(&mut open)?,
            egress: EgressMaps::open(open)?,
            capacities,
        })
    }

    fn failed(&self, step: &Step, source: MapError) -> StoreError {
        let map = map_of(step);
        let capacity = self.capacities.get(map).copied().unwrap_or(0);
        match (errno(&source), step) {
            // Tries answer ENOSPC, hashes E2BIG.
            (Some(libc::ENOSPC | libc::E2BIG), _) => StoreError::Full { map, capacity, key: limit_key(map) },
            (Some(libc::EINVAL | libc::ENODEV), Step::SetPort { slot, ifindex }) => {
                StoreError::NoInterface { map, slot: *slot, ifindex: *ifindex }
            }
            _ => match source {
                MapError::OutOfBounds { index, max_entries } => {
                    StoreError::NoSlot { map, slot: index, capacity: max_entries, key: limit_key(map) }
                }
                source => StoreError::Map { map, operation: "write", source: source.into() },
            },
        }
    }

    fn try_write(&mut self, step: &Step) -> Result<(), MapError> {
        match *step {
            Step::SetPort { slot, ifindex } => port(&mut self.ports, slot, ifindex),
            // The kernel takes interface 0 as none and empties the slot.
            Step::ClearPort { slot } => port(&mut self.ports, slot, 0),
            Step::SetNextHop { id, next_hop } => self.next_hops.set(id, next_hop, 0),
            Step::ClearNextHop { id } => self.next_hops.set(id, NextHop::new_zeroed(), 0),
            Step::SetGroup { id, ref group } => self.groups.set(id, **group, 0),
            Step::ClearGroup { id } => self.groups.set(id, Group::new_zeroed(), 0),
            Step::ResetRouteStats { slot } => self.route_stats.set(slot, zeroes()?, 0),
            Step::SetRoute4 { prefix, route } => self.routes4.insert(&key4(prefix), route, 0),
            Step::SetRoute6 { prefix, route } => self.routes6.insert(&key6(prefix), route, 0),
            Step::SetRoot4 { index, ref block } => self.root4.set(index, **block, 0),
            Step::SetBlock4 { index, ref block } => self.blocks4.set(index, **block, 0),
            Step::ClearRoot4 { index } => self.root4.set(index, Block::new_zeroed(), 0),
            Step::ClearBlock4 { index } => self.blocks4.set(index, Block::new_zeroed(), 0),
            Step::RemoveRoute4 { prefix } => absent_is_fine(self.routes4.remove(&key4(prefix))),
            Step::RemoveRoute6 { prefix } => absent_is_fine(self.routes6.remove(&key6(prefix))),
            Step::Service(ref step) => self.services.write(step),
            Step::Egress(ref step) => self.egress.write(step),
        }
    }
}

impl MapStore for KernelStore {
    fn write(&mut self, step: &Step) -> Result<(), StoreError> {
        self.try_write(step).map_err(|source| self.failed(step, source))
    }

    fn read(&self) -> Result<Image, StoreError> {
        let mut image = Image::default();
        for entry in self.routes4.iter() {
            let (key, route) = entry.map_err(reading(abi::MAP_ROUTES4))?;
            image.routes4.insert(prefix4(&key), route);
        }
        for entry in self.routes6.iter() {
            let (key, route) = entry.map_err(reading(abi::MAP_ROUTES6))?;
            image.routes6.insert(prefix6(&key), route);
        }
        image.strides = self.strides()?;
        image.groups = used(&self.groups, self.groups.len()).map_err(reading(abi::MAP_GROUPS))?;
        image.next_hops = used(&self.next_hops, self.next_hops.len()).map_err(reading(abi::MAP_NEXTHOPS))?;
        for slot in 0..self.ports.len() {
            match self.ports.get(slot, 0) {
                Ok(value) => drop(image.ports.insert(slot, value.if_index)),
                Err(MapError::KeyNotFound) => {}
                Err(source) => return Err(reading(abi::MAP_PORTS)(source)),
            }
        }
        image.services = self.services.read()?;
        image.egress = self.egress.read()?;
        Ok(image)
    }
}

impl KernelStore {
    /// The blocks that an address can lead to. Others, left by an agent that was killed between two
    /// writes, are as good as free: they are written before an entry names them again.
    fn strides(&self) -> Result<Strides, StoreError> {
        let root = used(&self.root4, self.root4.len()).map_err(reading(abi::MAP_ROOT4))?;
        let mut strides = Strides::default();
        let mut named: Vec<u32> = root.values().flat_map(below).collect();
        while let Some(index) = named.pop() {
            if index >= self.blocks4.len() || strides.blocks.contains_key(&index) {
                continue;
            }
            let block = self.blocks4.get(&index, 0).map_err(reading(abi::MAP_BLOCKS4))?;
            if block.as_bytes().iter().any(|byte| *byte != 0) {
                named.extend(below(&block));
                strides.blocks.insert(index, Arc::new(block));
            }
        }
        strides.root = root.into_iter().map(|(index, block)| (index, Arc::new(block))).collect();
        Ok(strides)
    }
}

/// Indices of the blocks that the entries of a block send to.
fn below(block: &Block) -> Vec<u32> {
    let marked = block.entries.iter().filter(|entry| entry.group & BELOW != 0);
    marked.map(|entry| entry.group & !BELOW).collect()
}

/// Every entry of an array that is not all zero.
pub(super) fn used<V: aya::Pod + IntoBytes + zerocopy::Immutable>(
    array: &Array<MapData, V>,
    len: u32,
) -> Result<BTreeMap<u32, V>, MapError> {
    let mut entries = BTreeMap::new();
    for index in 0..len {
        let value = array.get(&index, 0)?;
        if value.as_bytes().iter().any(|byte| *byte != 0) {
            entries.insert(index, value);
        }
    }
    Ok(entries)
}

pub(crate) fn typed<T: TryFrom<Map, Error = MapError>>(
    map: &'static str,
    opened: Map,
) -> Result<T, StoreError> {
    T::try_from(opened).map_err(|source| StoreError::Map { map, operation: "use", source: source.into() })
}

fn capacity(name: &'static str, map: &Map) -> Result<u32, StoreError> {
    let info = info(map).map_err(|source| StoreError::Map {
        map: name,
        operation: "look at",
        source: source.into(),
    })?;
    Ok(info.max_entries())
}

/// The kernel's word on a map of a type we use.
pub(crate) fn info(map: &Map) -> Result<MapInfo, MapError> {
    match map {
        Map::LpmTrie(data)
        | Map::Array(data)
        | Map::DevMap(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data) => data.info(),
        _ => Err(MapError::ElementNotFound),
    }
}

pub(super) fn reading(map: &'static str) -> impl Fn(MapError) -> StoreError {
    move |source| StoreError::Map { map, operation: "read", source: source.into() }
}

/// A counter of zero on every CPU.
pub(super) fn zeroes<V: aya::Pod + Default>() -> Result<PerCpuValues<V>, MapError> {
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    Ok(PerCpuValues::try_from(vec![V::default(); cpus])?)
}

fn port(ports: &mut DevMap<MapData>, slot: u32, ifindex: u32) -> Result<(), MapError> {
    ports.set(slot, ifindex, None, 0).map_err(|error| match error {
        XdpMapError::MapError(error) => error,
        XdpMapError::ChainedProgramNotSupported => MapError::ProgIdNotSupported,
    })
}

/// Removing twice is no mistake: a plan may be applied again after it was cut short.
pub(super) fn absent_is_fine(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(error) if errno(&error) == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

pub(super) fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::IoError(error) => error.raw_os_error(),
        _ => None,
    }
}

fn key4(prefix: Ipv4Net) -> Key<Prefix4> {
    Key::new(u32::from(prefix.prefix_len()), Prefix4 { address: prefix.network().octets() })
}

fn key6(prefix: Ipv6Net) -> Key<Prefix6> {
    Key::new(u32::from(prefix.prefix_len()), Prefix6 { address: prefix.network().octets() })
}

fn prefix4(key: &Key<Prefix4>) -> Ipv4Net {
    let len = u8::try_from(key.prefix_len()).unwrap_or(32).min(32);
    Ipv4Net::new_assert(key.data().address.into(), len)
}

fn prefix6(key: &Key<Prefix6>) -> Ipv6Net {
    let len = u8::try_from(key.prefix_len()).unwrap_or(128).min(128);
    Ipv6Net::new_assert(key.data().address.into(), len)
}
