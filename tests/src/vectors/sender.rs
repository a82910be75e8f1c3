//! Where a packet comes in.

use anyhow::Result;
use netroute_common::layout::route::KIND_POD;
use netroute_common::verdict::Hook;

use super::cast::Interface;
use super::check::Input;
use super::packet::PacketText;
use super::rewrite::sides;
use super::tables::TableSet;

/// A packet as it comes in at a hook: on the interface that it names; at that of pods else on that of the pod
/// that has its source by the tables, since a pod sends from its own addresses only (E6).
pub fn sent(packet: &PacketText, hook: Hook, tables: &TableSet) -> Result<Input> {
    let input = packet.build()?;
    let ip = matches!(input.frame.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]));
    if hook != Hook::TcPod || packet.interface.is_some() || !ip {
        return Ok(input);
    }
    let Ok((source, _)) = sides(&input.frame) else { return Ok(input) };
    let route = tables.longest_prefix(source.address).and_then(|prefix| tables.routes.get(&prefix));
    let owner = route.and_then(|route| tables.groups.get(&route.group));
    let owner = owner.and_then(|group| tables.next_hops.get(&group.members[0].next_hop));
    match owner.filter(|owner| owner.kind == KIND_POD).and_then(|pod| Interface::with_index(pod.ifindex)) {
        Some(interface) => packet.build_on(interface),
        None => Ok(input),
    }
}
