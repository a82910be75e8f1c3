//! What the maps should be, and whether pinned ones are that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aya::maps::{MapError, MapInfo, MapType};
use aya_obj::{EbpfSectionKind, Object};
use netroute_common::abi;

use super::error::LoadError;
use crate::compile::image::Limits;

/// Maps of routes: their entries name each other's.
const ROUTING: [&str; 8] = [
    abi::MAP_ROUTES4,
    abi::MAP_ROOT4,
    abi::MAP_BLOCKS4,
    abi::MAP_ROUTES6,
    abi::MAP_GROUPS,
    abi::MAP_NEXTHOPS,
    abi::MAP_PORTS,
    abi::MAP_PEERS,
];

/// Maps of Services, the same.
const SERVICES: [&str; 6] = [
    abi::MAP_FRONTENDS,
    abi::MAP_SLOTS,
    abi::MAP_BACKENDS,
    abi::MAP_SOURCE_RANGES,
    abi::MAP_MASQUERADE,
    abi::MAP_TIMERS,
];

/// Maps of egress policies, the same. They name groups too: maps of routes made anew take them along.
const EGRESS: [&str; 5] =
    [abi::MAP_SOURCES, abi::MAP_EGRESS, abi::MAP_EGRESS_RULES, abi::MAP_EGRESS_POLICIES, abi::MAP_SNAT];

/// Maps that stand for themselves.
const ALONE: [&str; 12] = [
    abi::MAP_VERDICTS,
    abi::MAP_ROUTE_STATS,
    abi::MAP_NEXTHOP_STATS,
    abi::MAP_AFFINITY,
    abi::MAP_SERVICE_STATS,
    abi::MAP_EGRESS_STATS,
    abi::MAP_FLOWS4,
    abi::MAP_FLOWS6,
    abi::MAP_OPENING4,
    abi::MAP_OPENING6,
    abi::MAP_FRAGMENTS,
    abi::MAP_SOCKETS,
];

/// Every map that is pinned, by name.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ROUTING.into_iter().chain(SERVICES).chain(EGRESS).chain(ALONE)
}

/// Set by the kernel itself on device maps (Linux 4.18), whatever the loader asked for.
const BPF_F_RDONLY_PROG: u32 = 1 << 7;

/// The shape of one map, as far as a program that uses it depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    kind: u32,
    key_size: u32,
    /// 0 for device maps: the loader chooses it by kernel.
    value_size: u32,
    flags: u32,
    max_entries: u32,
}

/// The capacities that the configuration sets.
pub(super) fn capacities(limits: &Limits) -> [(&'static str, u32); 25] {
    let Limits {
        routes4,
        blocks4,
        routes6,
        groups,
        next_hops,
        route_stats,
        front_ends,
        slots,
        backends,
        source_ranges,
        service_stats,
        affinity,
        flows4,
        flows6,
        opening4,
        opening6,
        sockets,
        sources,
        egress,
        egress_rules,
        egress_policies,
        snat,
    } = *limits;
    [
        (abi::MAP_ROUTES4, routes4),
        (abi::MAP_BLOCKS4, blocks4),
        (abi::MAP_ROUTES6, routes6),
        (abi::MAP_GROUPS, groups),
        (abi::MAP_NEXTHOPS, next_hops),
        (abi::MAP_NEXTHOP_STATS, next_hops),
        (abi::MAP_PEERS, next_hops),
        (abi::MAP_ROUTE_STATS, route_stats),
        (abi::MAP_FRONTENDS, front_ends),
        (abi::MAP_SLOTS, slots),
        (abi::MAP_BACKENDS, backends),
        (abi::MAP_SOURCE_RANGES, source_ranges),
        (abi::MAP_SERVICE_STATS, service_stats),
        (abi::MAP_AFFINITY, affinity),
        (abi::MAP_FLOWS4, flows4),
        (abi::MAP_FLOWS6, flows6),
        (abi::MAP_OPENING4, opening4),
        (abi::MAP_OPENING6, opening6),
        (abi::MAP_SOCKETS, sockets),
        (abi::MAP_SOURCES, sources),
        (abi::MAP_EGRESS, egress),
        (abi::MAP_EGRESS_RULES, egress_rules),
        (abi::MAP_EGRESS_POLICIES, egress_policies),
        (abi::MAP_EGRESS_STATS, egress_policies),
        (abi::MAP_SNAT, snat),
    ]
}

/// The maps of `object` with the configured capacities.
pub(super) fn wanted(
    object: &[u8],
    limits: &Limits,
) -> Result<BTreeMap<&'static str, Definition>, LoadError> {
    let object = Object::parse(object).map_err(|source| LoadError::Object { source: source.into() })?;
    let capacities = BTreeMap::from(capacities(limits));
    names()
        .map(|name| {
            let map = object
                .maps
                .get(name)
                .filter(|map| map.section_kind() == EbpfSectionKind::BtfMaps)
                .ok_or(LoadError::Missing { what: "BTF map", name })?;
            let definition = Definition {
                kind: map.map_type(),
                key_size: map.key_size(),
                value_size: map.value_size(),
                flags: map.map_flags(),
                max_entries: capacities.get(name).copied().unwrap_or(map.max_entries()),
            };
            Ok((name, definition.normal()))
        })
        .collect()
}

/// What a folder holds, compared with what is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Not all of the maps, or some of another layout.
    Others,
    /// All of the maps, these with another capacity.
    Maps { resized: BTreeSet<&'static str> },
}

pub(super) fn found(folder: &Path, wanted: &BTreeMap<&'static str, Definition>) -> Result<Found, LoadError> {
    let mut resized = BTreeSet::new();
    for (&name, definition) in wanted {
        let path = folder.join(name);
        if !path.exists() {
            return Ok(Found::Others);
        }
        let found = pinned(&path).map_err(|source| LoadError::PinnedMap { path, source: source.into() })?;
        if found != *definition {
            tracing::info!(map = name, ?found, wanted = ?definition, "pinned map is of another shape");
            if (Definition { max_entries: definition.max_entries, ..found }) != *definition {
                return Ok(Found::Others);
            }
            resized.insert(name);
        }
    }
    Ok(Found::Maps { resized })
}

/// Maps to be made anew where these have another capacity: those whose entries name each other only
/// together, for the running programs must not find in one what is still missing in another.
pub(super) fn anew(resized: &BTreeSet<&'static str>) -> BTreeSet<&'static str> {
    let touched = |unit: &[&'static str]| unit.iter().any(|name| resized.contains(name));
    let routing = touched(&ROUTING);
    let units =
        [(&ROUTING[..], routing), (&SERVICES, touched(&SERVICES)), (&EGRESS, routing || touched(&EGRESS))];
    let units = units.into_iter().filter(|(_, touched)| *touched).flat_map(|(unit, _)| unit);
    units.chain(resized).copied().collect()
}

fn pinned(path: &Path) -> Result<Definition, MapError> {
    let info = MapInfo::from_pin(path)?;
    let definition = Definition {
        kind: info.map_type()? as u32,
        key_size: info.key_size(),
        value_size: info.value_size(),
        flags: info.map_flags(),
        max_entries: info.max_entries(),
    };
    Ok(definition.normal())
}

impl Definition {
    fn normal(self) -> Self {
        if self.kind == MapType::DevMap as u32 {
            Self { value_size: 0, flags: self.flags & !BPF_F_RDONLY_PROG, ..self }
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_that_name_each_other_are_made_anew_together() {
        assert_eq!(anew(&[abi::MAP_FLOWS4].into()), [abi::MAP_FLOWS4].into());
        let with_groups = anew(&[abi::MAP_GROUPS, abi::MAP_ROUTE_STATS].into());
        assert!(ROUTING.iter().all(|name| with_groups.contains(name)));
        assert!(EGRESS.iter().all(|name| with_groups.contains(name)), "policies name groups");
        assert_eq!(with_groups.len(), ROUTING.len() + EGRESS.len() + 1);
        assert_eq!(anew(&[abi::MAP_SNAT].into()), EGRESS.into());
        assert_eq!(anew(&BTreeSet::new()), BTreeSet::new());
    }
}
