//! From installed and wanted image to a plan.

use std::collections::{BTreeMap, BTreeSet};

use netroute_common::layout::route::UNCOUNTED;
use netroute_common::layout::strides::{BELOW, Block};

use super::{Plan, Step, egress, services};
use crate::compile::image::Image;

/// What must be written to turn `installed` into `wanted`; empty when they are equal.
#[must_use]
pub fn diff(installed: &Image, wanted: &Image) -> Plan {
    let mut steps = Vec::new();
    steps.extend(
        changed(&installed.ports, &wanted.ports).map(|(&slot, &ifindex)| Step::SetPort { slot, ifindex }),
    );
    steps.extend(
        changed(&installed.next_hops, &wanted.next_hops)
            .map(|(&id, &next_hop)| Step::SetNextHop { id, next_hop }),
    );
    steps.extend(
        changed(&installed.groups, &wanted.groups)
            .map(|(&id, &group)| Step::SetGroup { id, group: Box::new(group) }),
    );
    let held = own_slots(installed);
    steps.extend(own_slots(wanted).difference(&held).map(|&slot| Step::ResetRouteStats { slot }));
    // Before the routes that lead to them.
    steps.extend(services::additions(&installed.services, &wanted.services));
    steps.extend(egress::additions(&installed.egress, &wanted.egress));
    steps.extend(
        changed(&installed.routes4, &wanted.routes4)
            .map(|(&prefix, &route)| Step::SetRoute4 { prefix, route }),
    );
    steps.extend(
        changed(&installed.routes6, &wanted.routes6)
            .map(|(&prefix, &route)| Step::SetRoute6 { prefix, route }),
    );
    steps.extend(strides(installed, wanted));
    steps.extend(gone(&installed.routes4, &wanted.routes4).map(|&prefix| Step::RemoveRoute4 { prefix }));
    steps.extend(gone(&installed.routes6, &wanted.routes6).map(|&prefix| Step::RemoveRoute6 { prefix }));
    steps.extend(egress::removals(&installed.egress, &wanted.egress));
    steps.extend(services::removals(&installed.services, &wanted.services));
    steps.extend(
        gone(&installed.strides.blocks, &wanted.strides.blocks).map(|&index| Step::ClearBlock4 { index }),
    );
    steps.extend(gone(&installed.groups, &wanted.groups).map(|&id| Step::ClearGroup { id }));
    steps.extend(gone(&installed.next_hops, &wanted.next_hops).map(|&id| Step::ClearNextHop { id }));
    steps.extend(gone(&installed.ports, &wanted.ports).map(|&slot| Step::ClearPort { slot }));
    Plan { steps }
}

/// From the last stride up: an entry refers to a block that is there.
fn strides<'a>(installed: &'a Image, wanted: &'a Image) -> impl Iterator<Item = Step> + 'a {
    let (before, after) = (&installed.strides, &wanted.strides);
    let refers = |block: &Block| block.entries.iter().any(|entry| entry.group & BELOW != 0);
    let (second, third): (Vec<_>, Vec<_>) =
        changed(&before.blocks, &after.blocks).partition(|(_, block)| refers(block));
    let blocks = third.into_iter().chain(second);
    let blocks = blocks.map(|(&index, block)| Step::SetBlock4 { index, block: block.clone() });
    let root = changed(&before.root, &after.root);
    let root = root.map(|(&index, block)| Step::SetRoot4 { index, block: block.clone() });
    let cleared = gone(&before.root, &after.root).map(|&index| Step::ClearRoot4 { index });
    blocks.chain(root).chain(cleared)
}

pub(super) type Map<K, V> = BTreeMap<K, V>;

/// The slots of `ROUTE_STATS` that routes own: one for each member of their groups.
fn own_slots(image: &Image) -> BTreeSet<u32> {
    let counted =
        image.routes4.values().chain(image.routes6.values()).filter(|route| route.stats != UNCOUNTED);
    let slots = counted.flat_map(|route| {
        let members = image.groups.get(&route.group).map_or(1, |group| group.len);
        route.stats..route.stats.saturating_add(members)
    });
    slots.collect()
}

/// Both maps are walked once, side by side.
pub(super) fn changed<'a, K: Ord, V: PartialEq>(
    installed: &'a Map<K, V>,
    wanted: &'a Map<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    let mut held = installed.iter().peekable();
    wanted.iter().filter(move |(key, value)| {
        while held.next_if(|(other, _)| other < key).is_some() {}
        held.next_if(|(other, _)| other == key).is_none_or(|(_, other)| other != *value)
    })
}

pub(super) fn gone<'a, K: Ord, V>(
    installed: &'a Map<K, V>,
    wanted: &'a Map<K, V>,
) -> impl Iterator<Item = &'a K> {
    let mut kept = wanted.keys().peekable();
    installed.keys().filter(move |key| {
        while kept.next_if(|other| other < key).is_some() {}
        kept.next_if(|other| other == key).is_none()
    })
}
