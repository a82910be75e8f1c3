//! Services and flows as the maps have them; what would be written goes beside them.

use aya::maps::lpm_trie::Key;
use netroute_common::abi;
use netroute_common::layout::flow::{
    Flow, FlowKey4, FlowKey6, Fragment, FragmentKey, Masquerade, PeerKey, Timers,
};
use netroute_common::layout::service::{Affinity, AffinityKey, Backend, FrontEnd, FrontEndKey, SourceRange};
use netroute_common::services::{Place, ServiceEvent, Services};
use netroute_common::stage::serve::Scratch;

use super::maps::FlowMaps;
use super::overlay::Flows;
use super::tables::LiveTables;
use super::trace::Stage;
use crate::apply::flows::now;

/// Prefix length of a whole client under its Service.
const WHOLE_CLIENT: u32 = 32 + 128;

impl LiveTables<'_> {
    fn find<K: aya::Pod + Ord, R>(
        &self,
        (maps, flows): (&FlowMaps<K>, &Flows<K>),
        key: &K,
        with: impl FnOnce(Place, &mut Flow) -> R,
    ) -> Option<R> {
        flows.with(key, self.reader(maps), |place, flow| {
            self.note(|trace| {
                if trace.stage == Stage::Decide {
                    trace.known.get_or_insert((place, *flow));
                }
            });
            with(place, flow)
        })
    }

    fn add<K: aya::Pod + Ord>(
        &self,
        (maps, flows): (&FlowMaps<K>, &Flows<K>),
        key: (Place, &K),
        flow: &Flow,
        replace: bool,
    ) -> bool {
        let has_room = |more: i64| {
            let there = i64::try_from(maps.established.keys().count()).unwrap_or(i64::MAX);
            there.saturating_add(more) < i64::from(maps.room)
        };
        flows.add(key, flow, replace, self.reader(maps), has_room)
    }

    fn reader<K: aya::Pod>(&self, maps: &FlowMaps<K>) -> impl Fn(Place, &K) -> Option<Flow> {
        move |place, key| {
            let (map, read) = maps.get(place, key);
            self.read(map, read)
        }
    }
}

impl Services for LiveTables<'_> {
    fn front_end(&self, key: &FrontEndKey) -> Option<&FrontEnd> {
        let read = |key: &FrontEndKey| self.read(abi::MAP_FRONTENDS, self.maps.front_ends.get(key, 0));
        let found = self.front_ends.get_or(*key, read);
        if let Some(front_end) = found {
            self.note(|trace| {
                trace.front_end.get_or_insert((*key, *front_end));
            });
        }
        found
    }

    fn slot(&self, index: u32) -> Option<u32> {
        self.read(abi::MAP_SLOTS, self.maps.slots.get(&index, 0)).map(|slot| slot.backend)
    }

    fn backend(&self, id: u32) -> Option<&Backend> {
        self.backends.get_or(id, |id| self.read(abi::MAP_BACKENDS, self.maps.backends.get(id, 0)))
    }

    fn source_allowed(&self, client: &SourceRange) -> bool {
        let key = Key::new(WHOLE_CLIENT, *client);
        self.read(abi::MAP_SOURCE_RANGES, self.maps.source_ranges.get(&key, 0)).is_some()
    }

    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        let written = self.overlay.affinity.borrow().get(key).copied();
        written.or_else(|| self.read(abi::MAP_AFFINITY, self.maps.affinity.get(key, 0)))
    }

    fn set_affinity(&self, key: &AffinityKey, affinity: &Affinity) {
        self.overlay.affinity.borrow_mut().insert(*key, *affinity);
    }

    fn masquerade(&self, ifindex: u32) -> Option<&Masquerade> {
        let read = |ifindex: &u32| self.read(abi::MAP_MASQUERADE, self.maps.masquerade.get(ifindex, 0));
        self.masquerade.get_or(ifindex, read)
    }

    fn neighbour(&self, key: &PeerKey) -> Option<u32> {
        self.read(abi::MAP_PEERS, self.maps.peers.get(key, 0))
    }

    fn timers(&self) -> Option<&Timers> {
        self.timers.get_or((), |()| self.read(abi::MAP_TIMERS, self.maps.timers.get(&0, 0)))
    }

    fn now(&self) -> u64 {
        now()
    }

    fn flow4<R>(&self, key: &FlowKey4, with: impl FnOnce(Place, &mut Flow) -> R) -> Option<R> {
        self.find((&self.maps.flows4, &self.flows4), key, with)
    }

    fn flow6<R>(&self, key: &FlowKey6, with: impl FnOnce(Place, &mut Flow) -> R) -> Option<R> {
        self.find((&self.maps.flows6, &self.flows6), key, with)
    }

    fn add_flow4(&self, place: Place, key: &FlowKey4, flow: &Flow, replace: bool) -> bool {
        self.add((&self.maps.flows4, &self.flows4), (place, key), flow, replace)
    }

    fn add_flow6(&self, place: Place, key: &FlowKey6, flow: &Flow, replace: bool) -> bool {
        self.add((&self.maps.flows6, &self.flows6), (place, key), flow, replace)
    }

    fn remove_flow4(&self, place: Place, key: &FlowKey4) {
        self.flows4.remove(place, key, self.reader(&self.maps.flows4));
    }

    fn remove_flow6(&self, place: Place, key: &FlowKey6) {
        self.flows6.remove(place, key, self.reader(&self.maps.flows6));
    }

    fn fragment<R>(&self, key: &FragmentKey, with: impl FnOnce(&Fragment) -> R) -> Option<R> {
        let written = self.overlay.fragments.borrow().get(key).copied();
        let first = written.or_else(|| self.read(abi::MAP_FRAGMENTS, self.maps.fragments.get(key, 0)));
        first.as_ref().map(with)
    }

    fn keep_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        self.overlay.fragments.borrow_mut().insert(*key, *fragment);
    }

    fn scratch4<R>(&self, with: impl FnOnce(&mut Scratch<FlowKey4>) -> R) -> Option<R> {
        self.scratch4.try_borrow_mut().ok().map(|mut scratch| with(&mut scratch))
    }

    fn scratch6<R>(&self, with: impl FnOnce(&mut Scratch<FlowKey6>) -> R) -> Option<R> {
        self.scratch6.try_borrow_mut().ok().map(|mut scratch| with(&mut scratch))
    }

    fn count_service(&self, _service: u32, _bytes: u32, _event: ServiceEvent) {}
}
