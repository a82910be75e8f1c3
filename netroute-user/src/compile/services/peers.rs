//! The entries of `PEERS`.

use std::collections::BTreeMap;

use netroute_common::layout::flow::PeerKey;
use netroute_common::layout::route::{FIRST_FREE_ID, KIND_NEIGHBOUR, NextHop};

/// Each neighbour by its interface and MAC. Where several next hops are one neighbour, of either IP version, the
/// lowest number of those that live stands for all: they send to the same place.
pub(in crate::compile) fn peers(next_hops: &BTreeMap<u32, NextHop>) -> BTreeMap<PeerKey, u32> {
    let neighbours = next_hops
        .range(FIRST_FREE_ID..)
        .filter(|(_, next_hop)| next_hop.kind == KIND_NEIGHBOUR && next_hop.destination_mac != [0; 6]);
    let mut peers = BTreeMap::new();
    for (&id, next_hop) in neighbours {
        let NextHop { ifindex, destination_mac: mac, alive, .. } = *next_hop;
        let entry = peers.entry(PeerKey { ifindex, mac, zero: 0 }).or_insert((alive, id));
        if entry.0 < alive {
            *entry = (alive, id);
        }
    }
    peers.into_iter().map(|(key, (_, id))| (key, id)).collect()
}

#[cfg(test)]
mod tests {
    use netroute_common::layout::route::KIND_POD;

    use super::*;

    fn next_hop(ifindex: u32, last: u8, kind: u8, alive: u8) -> NextHop {
        NextHop { ifindex, kind, alive, destination_mac: [2, 0, 0, 0, 0, last], ..NextHop::default() }
    }

    #[test]
    fn n13_each_neighbour_has_one_entry_and_a_living_next_hop_if_it_has_one() {
        let next_hops = BTreeMap::from([
            (FIRST_FREE_ID, next_hop(2, 1, KIND_NEIGHBOUR, 0)),
            (FIRST_FREE_ID + 1, next_hop(2, 1, KIND_NEIGHBOUR, 1)),
            (FIRST_FREE_ID + 2, next_hop(2, 1, KIND_NEIGHBOUR, 1)),
            (FIRST_FREE_ID + 3, next_hop(3, 1, KIND_NEIGHBOUR, 0)),
            (FIRST_FREE_ID + 4, next_hop(4, 2, KIND_POD, 1)),
            (FIRST_FREE_ID + 5, NextHop { destination_mac: [0; 6], ..next_hop(2, 0, KIND_NEIGHBOUR, 1) }),
        ]);
        let key = |ifindex| PeerKey { ifindex, mac: [2, 0, 0, 0, 0, 1], zero: 0 };
        let expected = BTreeMap::from([(key(2), FIRST_FREE_ID + 1), (key(3), FIRST_FREE_ID + 3)]);
        assert_eq!(peers(&next_hops), expected);
    }
}
