//! Longest-prefix match of IPv4 by strides, see [`crate::layout::strides`].

use crate::layout::route::Route;
use crate::layout::strides::{ASK_TRIE, BELOW, NO_ROUTE};
use crate::tables::Tables;

/// The route of an address, as the trie would give it.
#[inline(always)]
pub fn route4<T: Tables>(tables: &T, destination: [u8; 4]) -> Option<Route> {
    let [first, second, third, fourth] = destination;
    let entry = tables.root4(first, second);
    let entry = below(tables, entry, third);
    let entry = below(tables, entry, fourth);
    match entry {
        Some(Route { group: NO_ROUTE, .. }) => None,
        Some(route) if route.group != ASK_TRIE && route.group & BELOW == 0 => Some(route),
        _ => tables.trie4(destination),
    }
}

/// The entry that `entry` sends to; an answer stays what it is.
#[inline(always)]
fn below<T: Tables>(tables: &T, entry: Option<Route>, octet: u8) -> Option<Route> {
    match entry {
        Some(route) if route.group & BELOW != 0 => tables.block4(route.group & !BELOW, octet),
        answer => answer,
    }
}
