//! The maps that the packet logic asks, open for reading one entry at a time.

use std::path::Path;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::xdp::DevMap;
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use netroute_common::abi;
use netroute_common::layout::egress::{EgressPrefix, EgressRule, Identity, Policy, RuleSet, SnatAddress};
use netroute_common::layout::flow::{Flow, FlowKey4, FlowKey6, Fragment, FragmentKey};
use netroute_common::layout::flow::{Masquerade, PeerKey, Timers};
use netroute_common::layout::route::{Group, NextHop, Prefix4, Prefix6, Route};
use netroute_common::layout::service::{
    Address, Affinity, AffinityKey, Backend, FrontEnd, FrontEndKey, Slot, SourceRange,
};
use netroute_common::layout::strides::Block;
use netroute_common::services::Place;

use crate::apply::StoreError;
use crate::apply::maps::{info, typed};

/// All of them. Nothing is ever written through these, and what the kernel empties by age does not take a reading
/// for a use (Linux 5.2).
pub struct LiveMaps {
    pub(super) routes4: LpmTrie<MapData, Prefix4, Route>,
    pub(super) root4: Array<MapData, Block>,
    pub(super) blocks4: Array<MapData, Block>,
    pub(super) routes6: LpmTrie<MapData, Prefix6, Route>,
    pub(super) groups: Array<MapData, Group>,
    pub(super) next_hops: Array<MapData, NextHop>,
    pub(super) ports: DevMap<MapData>,
    pub(super) front_ends: HashMap<MapData, FrontEndKey, FrontEnd>,
    pub(super) slots: Array<MapData, Slot>,
    pub(super) backends: Array<MapData, Backend>,
    pub(super) source_ranges: LpmTrie<MapData, SourceRange, u32>,
    pub(super) affinity: HashMap<MapData, AffinityKey, Affinity>,
    pub(super) masquerade: HashMap<MapData, u32, Masquerade>,
    pub(super) peers: HashMap<MapData, PeerKey, u32>,
    pub(super) timers: Array<MapData, Timers>,
    pub(super) flows4: FlowMaps<FlowKey4>,
    pub(super) flows6: FlowMaps<FlowKey6>,
    pub(super) fragments: HashMap<MapData, FragmentKey, Fragment>,
    pub(super) sources: HashMap<MapData, Address, Identity>,
    pub(super) destinations: LpmTrie<MapData, EgressPrefix, RuleSet>,
    pub(super) rules: Array<MapData, EgressRule>,
    pub(super) policies: Array<MapData, Policy>,
    pub(super) snat: Array<MapData, SnatAddress>,
}

/// The two tables of one family.
pub(super) struct FlowMaps<K> {
    pub(super) established: HashMap<MapData, K, Flow>,
    pub(super) opening: HashMap<MapData, K, Flow>,
    /// Entries that the established one has room for.
    pub(super) room: u32,
    pub(super) names: [&'static str; 2],
}

impl LiveMaps {
    /// The maps pinned in `folder`.
    ///
    /// # Errors
    /// As [`Self::from_maps`].
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
        Ok(Self {
            routes4: typed(abi::MAP_ROUTES4, map(abi::MAP_ROUTES4)?)?,
            root4: typed(abi::MAP_ROOT4, map(abi::MAP_ROOT4)?)?,
            blocks4: typed(abi::MAP_BLOCKS4, map(abi::MAP_BLOCKS4)?)?,
            routes6: typed(abi::MAP_ROUTES6, map(abi::MAP_ROUTES6)?)?,
            groups: typed(abi::MAP_GROUPS, map(abi::MAP_GROUPS)?)?,
            next_hops: typed(abi::MAP_NEXTHOPS, map(abi::MAP_NEXTHOPS)?)?,
            ports: typed(abi::MAP_PORTS, map(abi::MAP_PORTS)?)?,
            front_ends: typed(abi::MAP_FRONTENDS, map(abi::MAP_FRONTENDS)?)?,
            slots: typed(abi::MAP_SLOTS, map(abi::MAP_SLOTS)?)?,
            backends: typed(abi::MAP_BACKENDS, map(abi::MAP_BACKENDS)?)?,
            source_ranges: typed(abi::MAP_SOURCE_RANGES, map(abi::MAP_SOURCE_RANGES)?)?,
            affinity: typed(abi::MAP_AFFINITY, map(abi::MAP_AFFINITY)?)?,
            masquerade: typed(abi::MAP_MASQUERADE, map(abi::MAP_MASQUERADE)?)?,
            peers: typed(abi::MAP_PEERS, map(abi::MAP_PEERS)?)?,
            timers: typed(abi::MAP_TIMERS, map(abi::MAP_TIMERS)?)?,
            flows4: FlowMaps::open([abi::MAP_FLOWS4, abi::MAP_OPENING4], &mut map)?,
            flows6: FlowMaps::open([abi::MAP_FLOWS6, abi::MAP_OPENING6], &mut map)?,
            fragments: typed(abi::MAP_FRAGMENTS, map(abi::MAP_FRAGMENTS)?)?,
            sources: typed(abi::MAP_SOURCES, map(abi::MAP_SOURCES)?)?,
            destinations: typed(abi::MAP_EGRESS, map(abi::MAP_EGRESS)?)?,
            rules: typed(abi::MAP_EGRESS_RULES, map(abi::MAP_EGRESS_RULES)?)?,
            policies: typed(abi::MAP_EGRESS_POLICIES, map(abi::MAP_EGRESS_POLICIES)?)?,
            snat: typed(abi::MAP_SNAT, map(abi::MAP_SNAT)?)?,
        })
    }
}

impl<K: aya::Pod> FlowMaps<K> {
    fn open(
        names: [&'static str; 2],
        map: &mut impl FnMut(&'static str) -> Result<Map, StoreError>,
    ) -> Result<Self, StoreError> {
        let [established, opening] = names;
        let opened = map(established)?;
        let room = info(&opened).map_err(|source| StoreError::Map {
            map: established,
            operation: "look at",
            source: source.into(),
        })?;
        Ok(Self {
            established: typed(established, opened)?,
            opening: typed(opening, map(opening)?)?,
            room: room.max_entries(),
            names,
        })
    }

    pub(super) fn get(&self, place: Place, key: &K) -> (&'static str, Result<Flow, MapError>) {
        let [established, opening] = self.names;
        match place {
            Place::Established => (established, self.established.get(key, 0)),
            Place::Opening => (opening, self.opening.get(key, 0)),
        }
    }
}
