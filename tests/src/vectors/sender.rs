//! Who sends a packet at the hook of pods: a pod sends from its own addresses only (E6).

use anyhow::{Result, ensure};
use netroute_common::layout::route::{Group, KIND_POD, MAX_MEMBERS, Member, NextHop, Route, UNCOUNTED};
use netroute_common::verdict::Hook;

use super::cast::{Interface, NIC};
use super::check::Input;
use super::packet::PacketText;
use super::rewrite::sides;
use super::tables::{Bounds, TableSet};

/// Of the pod that a vector does not name.
const ID: u32 = Bounds::NEXT_HOPS - 1;

/// A packet as it comes in at a hook. At that of pods, on the interface that it names; else on that of the pod
/// that has its source by the tables; else from a pod that has it by the tables that come with it.
pub fn sent(packet: &PacketText, hook: Hook, tables: &TableSet) -> Result<(Input, Option<TableSet>)> {
    let input = packet.build()?;
    let ip = matches!(input.frame.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]));
    if hook != Hook::TcPod || packet.interface.is_some() || !ip {
        return Ok((input, None));
    }
    let Ok((source, _)) = sides(&input.frame) else { return Ok((input, None)) };
    let route = tables.longest_prefix(source.address).and_then(|prefix| tables.routes.get(&prefix));
    let owner = route.and_then(|route| tables.groups.get(&route.group));
    let owner = owner.and_then(|group| tables.next_hops.get(&group.members[0].next_hop));
    if let Some(pod) = owner.filter(|owner| owner.kind == KIND_POD)
        && let Some(interface) = Interface::with_index(pod.ifindex)
    {
        return Ok((packet.build_on(interface)?, None));
    }
    let mut tables = tables.clone();
    let taken = tables.next_hops.contains_key(&ID) || tables.groups.contains_key(&ID);
    ensure!(!taken, "no room for a pod with {}", source.address);
    let mut members = [Member::default(); MAX_MEMBERS];
    members[0] = Member { next_hop: ID, tier: 0, weight: 1, inverse: Member::inverse_of(1) };
    let pod = NextHop { ifindex: NIC.index, kind: KIND_POD, alive: 1, ..NextHop::default() };
    tables.next_hops.insert(ID, pod);
    tables.groups.insert(ID, Group { len: 1, members });
    let length = if source.address.is_ipv6() { 128 } else { 32 };
    tables.routes.insert((source.address, length), Route { group: ID, stats: UNCOUNTED });
    Ok((input, Some(tables)))
}
