//! What one notification says, and what it changes. Pure.
//!
//! Notifications of links, addresses and neighbours carry the whole object. Those of routes do
//! not name what they replace, and some changes are never notified, so that [`absorb`] also tells
//! when the tables must be read again.

use std::collections::BTreeMap;

use ipnet::IpNet;
use netlink_packet_core::NLM_F_REPLACE;

use super::parse;
use crate::kernel::{
    Address, Change, KernelRoute, KernelRouteKind, KernelState, Link, Neighbour, NeighbourKey,
};
use crate::netlink::frame::Frame;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// A notification, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Link(Link),
    LinkGone(u32),
    Address(Address),
    AddressGone {
        ifindex: u32,
        address: IpNet,
    },
    Neighbour(NeighbourKey, Neighbour),
    NeighbourGone(NeighbourKey),
    Route {
        route: KernelRoute,
        replace: bool,
    },
    RouteGone(KernelRoute),
    OwnRoute(KernelRoute),
    OwnRouteGone(KernelRoute),
    /// A nexthop object changed, and with it any routes.
    NextHopObject,
    /// Whether a device takes frames redirected by XDP; `None` = the device is gone.
    XdpTransmit(u32, Option<bool>),
}

/// Last known `NETDEV_XDP_ACT_NDO_XMIT` by interface index; kept beside the state because it
/// comes from another netlink family than the link itself.
pub type XdpTransmit = BTreeMap<u32, bool>;

/// Parses an rtnetlink notification or dump message; `None` if it is of no interest.
#[must_use]
pub fn parse(frame: &Frame<'_>) -> Option<Notice> {
    let payload = frame.payload;
    Some(match frame.kind {
        RTM_NEWLINK => Notice::Link(parse::link::link(payload)?),
        RTM_DELLINK => Notice::LinkGone(parse::link::link(payload)?.index),
        RTM_NEWADDR => Notice::Address(parse::address::address(payload)?),
        RTM_DELADDR => {
            let Address { ifindex, address, .. } = parse::address::address(payload)?;
            Notice::AddressGone { ifindex, address }
        }
        RTM_NEWNEIGH => {
            let entry = parse::neighbour::neighbour(payload)?;
            Notice::Neighbour(entry.key, entry.neighbour)
        }
        RTM_DELNEIGH => Notice::NeighbourGone(parse::neighbour::neighbour(payload)?.key),
        RTM_NEWROUTE if parse::route::is_own(payload) => Notice::OwnRoute(parse::route::route(payload)?),
        RTM_DELROUTE if parse::route::is_own(payload) => Notice::OwnRouteGone(parse::route::route(payload)?),
        RTM_NEWROUTE => {
            Notice::Route { route: parse::route::route(payload)?, replace: frame.flags & NLM_F_REPLACE != 0 }
        }
        RTM_DELROUTE => Notice::RouteGone(parse::route::route(payload)?),
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => Notice::NextHopObject,
        _ => return None,
    })
}

/// What a notice did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// Already applied to the state.
    pub changes: Vec<Change>,
    /// Routes may have changed without a word: read them again.
    pub reread: bool,
}

/// Takes a notice into the state.
pub fn absorb(state: &mut KernelState, xdp: &mut XdpTransmit, notice: Notice) -> Absorbed {
    let (candidates, reread) = match notice {
        Notice::Link(mut link) => {
            link.xdp_transmit = xdp.get(&link.index).copied();
            // IPv4 routes of a link that goes down, and the dead marks of those of one that
            // loses its carrier, change without notification (fib_sync_down_dev).
            let flipped = state
                .links
                .get(&link.index)
                .is_some_and(|old| (old.up, old.carrier) != (link.up, link.carrier));
            (vec![Change::Link(link)], flipped)
        }
        Notice::LinkGone(ifindex) => {
            xdp.remove(&ifindex);
            (vec![Change::LinkGone(ifindex)], true)
        }
        Notice::Address(address) => (vec![Change::Address(address)], false),
        // IPv4 routes with the address as source go silently with it.
        Notice::AddressGone { ifindex, address } => (vec![Change::AddressGone { ifindex, address }], true),
        Notice::Neighbour(key, neighbour) => (vec![Change::Neighbour(key, neighbour)], false),
        // Told in any case: an entry is not announced while it is being resolved for the first time,
        // and whoever asked for it must hear that a carrier loss has taken it away.
        Notice::NeighbourGone(key) => {
            state.apply(Change::NeighbourGone(key));
            return told(Change::NeighbourGone(key));
        }
        Notice::Route { route, replace } => added(state, route, replace),
        Notice::RouteGone(route) => removed(state, &route),
        Notice::OwnRoute(route) => return told(Change::OwnRoute(route)),
        Notice::OwnRouteGone(route) => return told(Change::OwnRouteGone(route)),
        Notice::NextHopObject => (Vec::new(), true),
        Notice::XdpTransmit(ifindex, transmit) => (capability(state, xdp, ifindex, transmit), false),
    };
    let changes = candidates.into_iter().filter(|change| state.apply(change.clone())).collect();
    Absorbed { changes, reread }
}

fn told(change: Change) -> Absorbed {
    Absorbed { changes: vec![change], reread: false }
}

fn capability(
    state: &KernelState,
    xdp: &mut XdpTransmit,
    ifindex: u32,
    transmit: Option<bool>,
) -> Vec<Change> {
    match transmit {
        Some(transmit) => xdp.insert(ifindex, transmit),
        None => xdp.remove(&ifindex),
    };
    let link = state.links.get(&ifindex);
    link.map(|link| Change::Link(Link { xdp_transmit: transmit, ..link.clone() })).into_iter().collect()
}

/// Routes of the same table, prefix and metric: those that a notification may be about.
fn peers(state: &KernelState, route: &KernelRoute) -> Vec<KernelRoute> {
    let first = KernelRoute {
        table: route.table,
        destination: route.destination,
        kind: KernelRouteKind::Unicast,
        metric: 0,
        protocol: 0,
        next_hops: Vec::new(),
    };
    let prefix = state.routes.range(first..);
    let prefix = prefix.take_while(|held| held.table == route.table && held.destination == route.destination);
    prefix.filter(|held| held.metric == route.metric).cloned().collect()
}

fn added(state: &KernelState, route: KernelRoute, replace: bool) -> (Vec<Change>, bool) {
    let peers = peers(state, &route);
    let ipv6 = route.destination.addr().is_ipv6();
    // An IPv6 route that gains a next hop is announced anew with all of them.
    let grew = |held: &&KernelRoute| {
        **held != route
            && ipv6
            && !held.next_hops.is_empty()
            && held.next_hops.iter().all(|hop| has_hop(&route, hop))
    };
    let (gone, unclear): (Vec<_>, bool) = match (replace, peers.as_slice()) {
        (true, [only]) => (vec![only.clone()], false),
        (true, several) => (Vec::new(), several.len() > 1),
        (false, peers) => (peers.iter().filter(grew).cloned().collect(), false),
    };
    let gone = gone.into_iter().filter(|held| *held != route).map(Change::RouteGone).collect::<Vec<_>>();
    let mut changes = vec![Change::Route(route)];
    changes.extend(gone);
    (changes, unclear)
}

fn removed(state: &KernelState, route: &KernelRoute) -> (Vec<Change>, bool) {
    let peers = peers(state, route);
    let same = |held: &&KernelRoute| {
        held.next_hops.len() == route.next_hops.len()
            && held.kind == route.kind
            && held.protocol == route.protocol
            && held.next_hops.iter().all(|hop| has_hop(route, hop))
    };
    if let Some(held) = peers.iter().find(same) {
        return (vec![Change::RouteGone(held.clone())], false);
    }
    // One next hop of an IPv6 route goes: the others stay.
    let whole = peers.iter().find(|held| route.next_hops.iter().all(|hop| has_hop(held, hop)));
    let Some(whole) = whole.filter(|_| !route.next_hops.is_empty()) else {
        return (Vec::new(), !peers.is_empty());
    };
    let mut rest = whole.clone();
    rest.next_hops.retain(|hop| !has_hop(route, hop));
    (vec![Change::Route(rest), Change::RouteGone(whole.clone())], true)
}

/// Whether the route has that next hop, whatever its flags and weight.
fn has_hop(route: &KernelRoute, hop: &crate::kernel::KernelNextHop) -> bool {
    route.next_hops.iter().any(|own| (own.ifindex, own.gateway) == (hop.ifindex, hop.gateway))
}

#[cfg(test)]
mod tests;
