//! What the packet logic would write, kept beside the maps instead.

use std::cell::RefCell;
use std::collections::BTreeMap;

use netroute_common::layout::flow::{Flow, Fragment, FragmentKey};
use netroute_common::layout::service::{Affinity, AffinityKey};
use netroute_common::services::Place;

/// What later packets over the same tables find as if it had been written.
#[derive(Default)]
pub(super) struct Overlay {
    pub(super) affinity: RefCell<BTreeMap<AffinityKey, Affinity>>,
    pub(super) fragments: RefCell<BTreeMap<FragmentKey, Fragment>>,
}

/// One family's flows that were asked for, as they would be now.
pub(super) struct Flows<K>(RefCell<BTreeMap<(Place, K), Entry>>);

/// One place of a flow table.
#[derive(Clone, Copy)]
struct Entry {
    /// It is in the map.
    live: bool,
    flow: Option<Flow>,
}

impl From<Option<Flow>> for Entry {
    fn from(flow: Option<Flow>) -> Self {
        Self { live: flow.is_some(), flow }
    }
}

impl<K> Default for Flows<K> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<K: Ord + Copy> Flows<K> {
    /// Calls `with` on the first entry under a key. `read` says what the map holds.
    pub(super) fn with<R>(
        &self,
        key: &K,
        read: impl Fn(Place, &K) -> Option<Flow>,
        with: impl FnOnce(Place, &mut Flow) -> R,
    ) -> Option<R> {
        let mut entries = self.0.borrow_mut();
        for place in [Place::Established, Place::Opening] {
            let entry = entries.entry((place, *key)).or_insert_with(|| read(place, key).into());
            if let Some(flow) = &mut entry.flow {
                return Some(with(place, flow));
            }
        }
        None
    }

    /// Adds an entry as the kernel would. `has_room` is asked, for a new established one, with how many more
    /// there are than in the map.
    pub(super) fn add(
        &self,
        (place, key): (Place, &K),
        flow: &Flow,
        replace: bool,
        read: impl Fn(Place, &K) -> Option<Flow>,
        has_room: impl FnOnce(i64) -> bool,
    ) -> bool {
        let mut entries = self.0.borrow_mut();
        let held = entries.entry((place, *key)).or_insert_with(|| read(place, key).into()).flow;
        let fits = match held {
            Some(_) => replace,
            None => place == Place::Opening || has_room(more(&entries)),
        };
        if fits && let Some(entry) = entries.get_mut(&(place, *key)) {
            entry.flow = Some(*flow);
        }
        fits
    }

    pub(super) fn remove(&self, place: Place, key: &K, read: impl Fn(Place, &K) -> Option<Flow>) {
        let mut entries = self.0.borrow_mut();
        entries.entry((place, *key)).or_insert_with(|| read(place, key).into()).flow = None;
    }
}

/// By how many the established entries are more than those of the map.
fn more<K>(entries: &BTreeMap<(Place, K), Entry>) -> i64 {
    let established = entries.iter().filter(|((place, _), _)| *place == Place::Established);
    established.map(|(_, entry)| i64::from(entry.flow.is_some()).saturating_sub(i64::from(entry.live))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map with an established flow under 1 and an opening one under 2.
    fn live(place: Place, key: &u8) -> Option<Flow> {
        let there = matches!((place, key), (Place::Established, 1) | (Place::Opening, 2));
        there.then(|| Flow { packets: (*key).into(), ..Flow::default() })
    }

    fn seen(flows: &Flows<u8>, key: u8) -> Option<(Place, u64)> {
        flows.with(&key, live, |place, flow| (place, flow.packets))
    }

    #[test]
    fn what_is_written_is_found_and_the_map_is_left_alone() {
        let flows = Flows::default();
        assert_eq!(seen(&flows, 1), Some((Place::Established, 1)));
        flows.with(&1, live, |_, flow| flow.packets = 9);
        assert_eq!(seen(&flows, 1), Some((Place::Established, 9)));
        flows.remove(Place::Established, &1, live);
        assert_eq!(seen(&flows, 1), None);
        assert_eq!(live(Place::Established, &1).map(|flow| flow.packets), Some(1));
    }

    #[test]
    fn an_entry_takes_the_place_of_another_only_if_it_may() {
        let flows = Flows::default();
        let flow = Flow { packets: 7, ..Flow::default() };
        let add = |key: u8, replace| flows.add((Place::Opening, &key), &flow, replace, live, |_| false);
        assert!(!add(2, false));
        assert_eq!(seen(&flows, 2), Some((Place::Opening, 2)));
        assert!(add(2, true) && add(3, false));
        assert_eq!(seen(&flows, 2), Some((Place::Opening, 7)));
    }

    #[test]
    fn room_is_counted_with_what_was_not_written() {
        let flows = Flows::default();
        let flow = Flow::default();
        let add = |key: u8, room: i64| {
            flows.add((Place::Established, &key), &flow, false, live, |more| more < room)
        };
        assert!(add(5, 1), "one more fits");
        assert!(!add(6, 1), "and no second");
        flows.remove(Place::Established, &1, live);
        assert!(add(6, 1), "but in the place of one that went");
    }
}
