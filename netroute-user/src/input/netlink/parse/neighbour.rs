//! `RTM_NEWNEIGH`, `RTM_DELNEIGH`.

use netlink_packet_core::{parse_ip, parse_u8, parse_u32};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourExtFlags, NeighbourFlags, NeighbourHeader, NeighbourState as WireState,
};

use super::attributes;
use crate::kernel::{Neighbour, NeighbourKey, NeighbourState};

const HEADER_BYTES: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;
const NDA_FLAGS_EXT: u16 = 15;

/// A neighbour entry with what only its caretaker needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: NeighbourKey,
    pub neighbour: Neighbour,
    /// `NTF_EXT_MANAGED`: the kernel keeps it resolved by itself (Linux 5.16).
    pub managed: bool,
    /// `NDA_PROTOCOL`: who made it; 0 = the kernel, or nobody said.
    pub protocol: u8,
}

/// `None` for proxy entries, bridge forwarding entries, and groups, none of which is a host.
#[must_use]
pub fn neighbour(payload: &[u8]) -> Option<Entry> {
    let header = NeighbourHeader::parse(payload).ok()?;
    let ip = matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6);
    if !ip || header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (mut address, mut mac, mut managed, mut protocol) = (None, None, false, 0);
    for attribute in attributes(payload, HEADER_BYTES) {
        let value = attribute.value();
        match attribute.kind() {
            NDA_DST => address = parse_ip(value).ok(),
            NDA_LLADDR => mac = value.try_into().ok(),
            NDA_PROTOCOL => protocol = parse_u8(value).unwrap_or_default(),
            NDA_FLAGS_EXT => managed = parse_u32(value).unwrap_or(0) & NeighbourExtFlags::Managed.bits() != 0,
            _ => {}
        }
    }
    let address = address.filter(|address| !address.is_multicast())?;
    let state = state(header.state);
    let resolved = !matches!(state, NeighbourState::Incomplete | NeighbourState::Failed);
    Some(Entry {
        key: NeighbourKey { ifindex: header.ifindex, address },
        neighbour: Neighbour { mac: mac.filter(|_| resolved), state },
        managed,
        protocol,
    })
}

fn state(state: WireState) -> NeighbourState {
    match state {
        WireState::Reachable => NeighbourState::Reachable,
        WireState::Stale => NeighbourState::Stale,
        WireState::Delay => NeighbourState::Delay,
        WireState::Probe => NeighbourState::Probe,
        WireState::Failed => NeighbourState::Failed,
        WireState::Permanent | WireState::Noarp => NeighbourState::Permanent,
        _ => NeighbourState::Incomplete,
    }
}
