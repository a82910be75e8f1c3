//! The maps of the programs under test.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMap;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use netroute_common::abi;
use netroute_common::host::Counted;
use netroute_common::host::strides::Strides;
use netroute_common::layout::route::{Group, NextHop, Prefix4, Prefix6, Route};
use netroute_common::layout::stats::Counter;
use netroute_common::layout::strides::Block;
use netroute_common::verdict::{Hook, Reason, verdict_slot};
use zerocopy::FromZeros;

use super::egress::EgressMaps;
use super::flows::FlowMaps;
use super::services::ServiceMaps;
use crate::vectors::TableSet;

pub struct Maps {
    routes4: LpmTrie<MapData, Prefix4, Route>,
    root4: Array<MapData, Block>,
    blocks4: Array<MapData, Block>,
    /// What `root4` and `blocks4` hold.
    strides: Strides,
    routes6: LpmTrie<MapData, Prefix6, Route>,
    groups: Array<MapData, Group>,
    pub next_hops: Array<MapData, NextHop>,
    ports: DevMap<MapData>,
    verdicts: PerCpuArray<MapData, Counter>,
    route_stats: PerCpuArray<MapData, Counter>,
    next_hop_stats: PerCpuArray<MapData, Counter>,
    pub services: ServiceMaps,
    pub egress: EgressMaps,
    pub flows: FlowMaps,
}

impl Maps {
    pub fn take(object: &mut Ebpf) -> Result<Self> {
        let (services, flows) = (ServiceMaps::take(object)?, FlowMaps::take(object)?);
        let egress = EgressMaps::take(object)?;
        let mut map = |name: &str| take(object, name);
        Ok(Self {
            routes4: map(abi::MAP_ROUTES4)?.try_into()?,
            root4: map(abi::MAP_ROOT4)?.try_into()?,
            blocks4: map(abi::MAP_BLOCKS4)?.try_into()?,
            strides: Strides::default(),
            routes6: map(abi::MAP_ROUTES6)?.try_into()?,
            groups: map(abi::MAP_GROUPS)?.try_into()?,
            next_hops: map(abi::MAP_NEXTHOPS)?.try_into()?,
            ports: map(abi::MAP_PORTS)?.try_into()?,
            verdicts: map(abi::MAP_VERDICTS)?.try_into()?,
            route_stats: map(abi::MAP_ROUTE_STATS)?.try_into()?,
            next_hop_stats: map(abi::MAP_NEXTHOP_STATS)?.try_into()?,
            services,
            egress,
            flows,
        })
    }

    /// From the entries of `old` to those of `new`; what is in both is left as it is.
    pub fn replace(&mut self, old: &TableSet, new: &TableSet) -> Result<()> {
        self.services.replace(&old.services, &new.services)?;
        self.egress.replace(&old.egress, &new.egress)?;
        for (&(address, length), _) in changed(&new.routes, &old.routes) {
            match address {
                IpAddr::V4(address) => self.routes4.remove(&key4(length, address.octets()))?,
                IpAddr::V6(address) => self.routes6.remove(&key6(length, address.octets()))?,
            }
        }
        for (&(address, length), route) in changed(&old.routes, &new.routes) {
            match address {
                IpAddr::V4(address) => self.routes4.insert(&key4(length, address.octets()), route, 0)?,
                IpAddr::V6(address) => self.routes6.insert(&key6(length, address.octets()), route, 0)?,
            }
        }
        self.replace_strides(new)?;
        for (&id, _) in changed(&new.groups, &old.groups) {
            self.groups.set(id, Group::new_zeroed(), 0)?;
        }
        for (&id, group) in changed(&old.groups, &new.groups) {
            self.groups.set(id, group, 0)?;
        }
        for (&id, _) in changed(&new.next_hops, &old.next_hops) {
            self.next_hops.set(id, NextHop::default(), 0)?;
        }
        for (&id, next_hop) in changed(&old.next_hops, &new.next_hops) {
            self.next_hops.set(id, next_hop, 0)?;
        }
        for (&slot, _) in changed(&new.ports, &old.ports) {
            self.ports.set(slot, 0, None, 0)?;
        }
        for (&slot, &ifindex) in changed(&old.ports, &new.ports) {
            self.ports.set(slot, ifindex, None, 0)?;
        }
        Ok(())
    }

    /// As the agent builds them.
    fn replace_strides(&mut self, new: &TableSet) -> Result<()> {
        let routes4 = new.routes.iter().filter_map(|(&(address, length), &route)| match address {
            IpAddr::V4(address) => Some((address.to_bits(), length, route)),
            IpAddr::V6(_) => None,
        });
        let strides = Strides::build(routes4, self.blocks4.len(), &self.strides);
        for (&index, block) in changed(&self.strides.blocks, &strides.blocks) {
            self.blocks4.set(index, **block, 0)?;
        }
        for (&index, block) in changed(&self.strides.root, &strides.root) {
            self.root4.set(index, **block, 0)?;
        }
        for (&index, _) in changed(&strides.root, &self.strides.root) {
            if !strides.root.contains_key(&index) {
                self.root4.set(index, Block::new_zeroed(), 0)?;
            }
        }
        self.strides = strides;
        Ok(())
    }

    pub fn counted(&self, hook: Hook) -> Result<Counted> {
        Ok(Counted { verdicts: self.verdicts(hook)?, ..self.counted_at_all()? })
    }

    /// The counters that hooks share: of routes and next hops.
    pub fn counted_at_all(&self) -> Result<Counted> {
        let (routes, next_hops) = (nonzero(&self.route_stats)?, nonzero(&self.next_hop_stats)?);
        Ok(Counted { routes, next_hops, ..Counted::default() })
    }

    pub fn verdicts(&self, hook: Hook) -> Result<BTreeMap<Reason, Counter>> {
        let all = Reason::ALL.iter().map(|&reason| Ok((reason, self.verdict(hook, reason)?)));
        all.filter(|entry| !matches!(entry, Ok((_, counter)) if *counter == Counter::default())).collect()
    }

    pub fn verdict(&self, hook: Hook, reason: Reason) -> Result<Counter> {
        sum(&self.verdicts, verdict_slot(hook, reason))
    }
}

pub fn take(object: &mut Ebpf, name: &str) -> Result<Map> {
    object.take_map(name).with_context(|| format!("no map {name} in the object"))
}

/// Entries of `after` that `before` lacks or has otherwise.
pub fn changed<'a, K: Ord, V: PartialEq>(
    before: &BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    after.iter().filter(|(key, value)| before.get(key) != Some(value))
}

pub fn replace_hash<K: aya::Pod + Ord, V: aya::Pod + PartialEq>(
    map: &mut HashMap<MapData, K, V>,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> Result<()> {
    for (key, _) in changed(new, old) {
        map.remove(key)?;
    }
    for (key, value) in changed(old, new) {
        map.insert(key, value, 0)?;
    }
    Ok(())
}

fn key4(length: u8, address: [u8; 4]) -> Key<Prefix4> {
    Key::new(length.into(), Prefix4 { address })
}

fn key6(length: u8, address: [u8; 16]) -> Key<Prefix6> {
    Key::new(length.into(), Prefix6 { address })
}

fn nonzero(counters: &PerCpuArray<MapData, Counter>) -> Result<BTreeMap<u32, Counter>> {
    let all = (0..counters.len()).map(|slot| Ok((slot, sum(counters, slot)?)));
    all.filter(|entry| !matches!(entry, Ok((_, counter)) if *counter == Counter::default())).collect()
}

fn sum(counters: &PerCpuArray<MapData, Counter>, slot: u32) -> Result<Counter> {
    let per_cpu = counters.get(&slot, 0).with_context(|| format!("cannot read counter {slot}"))?;
    Ok(per_cpu.iter().fold(Counter::default(), |sum, counter| Counter {
        packets: sum.packets + counter.packets,
        bytes: sum.bytes + counter.bytes,
    }))
}
