//! The entries of `PEERS`.

use std::collections::BTreeMap;

use netroute_common::layout::flow::PeerKey;
use netroute_common::layout::route::{FIRST_FREE_ID, KIND_NEIGHBOUR, NextHop};

/// Each neighbour by its interface and MAC. Where several next hops of a family are one neighbour, the lowest
/// number stands for all: they send to the same place.
pub(in crate::compile) fn peers(next_hops: &BTreeMap<u32, NextHop>) -> BTreeMap<PeerKey, u32> {
    let neighbours = next_hops.range(FIRST_FREE_ID..).rev();
    neighbours
        .filter(|(_, next_hop)| next_hop.kind == KIND_NEIGHBOUR && next_hop.destination_mac != [0; 6])
        .map(|(&id, next_hop)| {
            let NextHop { ifindex, destination_mac: mac, family, .. } = *next_hop;
            (PeerKey { ifindex, mac, family: family.into() }, id)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use netroute_common::layout::route::KIND_POD;

    use super::*;

    fn next_hop(ifindex: u32, last: u8, kind: u8, family: u8) -> NextHop {
        NextHop { ifindex, kind, family, destination_mac: [2, 0, 0, 0, 0, last], ..NextHop::default() }
    }

    #[test]
    fn n13_each_neighbour_has_one_entry_for_each_family() {
        let next_hops = BTreeMap::from([
            (FIRST_FREE_ID, next_hop(2, 1, KIND_NEIGHBOUR, 4)),
            (FIRST_FREE_ID + 1, next_hop(2, 1, KIND_NEIGHBOUR, 4)),
            (FIRST_FREE_ID + 2, next_hop(2, 1, KIND_NEIGHBOUR, 6)),
            (FIRST_FREE_ID + 3, next_hop(3, 1, KIND_NEIGHBOUR, 4)),
            (FIRST_FREE_ID + 4, next_hop(4, 2, KIND_POD, 4)),
            (FIRST_FREE_ID + 5, NextHop { destination_mac: [0; 6], ..next_hop(2, 0, KIND_NEIGHBOUR, 4) }),
        ]);
        let key = |ifindex, family| PeerKey { ifindex, mac: [2, 0, 0, 0, 0, 1], family };
        let expected = BTreeMap::from([
            (key(2, 4), FIRST_FREE_ID),
            (key(2, 6), FIRST_FREE_ID + 2),
            (key(3, 4), FIRST_FREE_ID + 3),
        ]);
        assert_eq!(peers(&next_hops), expected);
    }
}
