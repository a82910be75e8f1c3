//! The shortest way from an event to the data plane: one write per next hop that died, however
//! many routes use it. The full compilation that follows finds nothing left to write. Pure.

use std::collections::BTreeSet;

use netroute_common::layout::route::NextHop;

use super::{Plan, Step};
use crate::compile::Gateway;
use crate::compile::image::Image;
use crate::compile::next_hops::address;

/// Every living next hop on the interface dies.
#[must_use]
pub fn interface_down(installed: &Image, ifindex: u32) -> Plan {
    kill(installed, |next_hop| next_hop.ifindex == ifindex)
}

/// One next hop dies.
#[must_use]
pub fn gateway_down(installed: &Image, gateway: Gateway) -> Plan {
    kill(installed, |next_hop| {
        next_hop.ifindex == gateway.ifindex && address(next_hop) == Some(gateway.address)
    })
}

fn kill(installed: &Image, dies: impl Fn(&NextHop) -> bool) -> Plan {
    let shared = shared(installed);
    let dying = installed.next_hops.iter().filter(|(_, next_hop)| next_hop.alive == 1 && dies(next_hop));
    let mut dying: Vec<(bool, u32, NextHop)> =
        dying.map(|(id, next_hop)| (!shared.contains(id), *id, NextHop { alive: 0, ..*next_hop })).collect();
    // First those that have a replacement waiting behind them.
    dying.sort_unstable_by_key(|(alone, id, _)| (*alone, *id));
    Plan { steps: dying.into_iter().map(|(_, id, next_hop)| Step::SetNextHop { id, next_hop }).collect() }
}

/// Next hops in groups of more than one.
fn shared(installed: &Image) -> BTreeSet<u32> {
    let groups = installed.groups.values().filter(|group| group.len > 1);
    groups
        .flat_map(|group| group.members.iter().take(group.len as usize).map(|member| member.next_hop))
        .collect()
}
