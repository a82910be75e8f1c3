//! The mirror's rtnetlink messages. Pure.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteProtocol,
    RouteScope, RouteType,
};
use netroute_common::abi::RTPROT_NETROUTE;

use crate::compile::mirror::{FibKey, FibNextHop};
use crate::netlink::request::Request;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

/// Writes a route that is not there yet, or the next version of one of ours.
///
/// New: `NLM_F_EXCL`, so that a foreign route of the same prefix and metric stays. Next version:
/// IPv6 replaces the gateway route of that prefix and metric, which is ours; IPv4's
/// `NLM_F_REPLACE` takes the first route of that prefix and metric, whoever's it is
/// (`fib_table_insert`), so that the new version is put behind the old, which is then removed.
#[must_use]
pub fn write(key: &FibKey, hops: &[FibNextHop], next_version: bool) -> Request {
    let flags = match (next_version, key.destination.addr().is_ipv4()) {
        (false, _) => NLM_F_CREATE | NLM_F_EXCL,
        (true, true) => NLM_F_CREATE | NLM_F_APPEND,
        (true, false) => NLM_F_CREATE | NLM_F_REPLACE,
    };
    let mut message = route(key);
    message.header.scope = RouteScope::Universe;
    next_hops(&mut message, hops);
    Request::new(RTM_NEWROUTE, flags, &message)
}

/// Removes a route of ours with exactly these next hops.
#[must_use]
pub fn remove(key: &FibKey, hops: &[FibNextHop]) -> Request {
    let mut message = route(key);
    if key.destination.addr().is_ipv4() {
        // Any scope: a stray on-link route has scope link.
        message.header.scope = RouteScope::NoWhere;
        next_hops(&mut message, hops);
    }
    Request::new(RTM_DELROUTE, 0, &message)
}

/// Asks for our routes. Kernels that filter (4.20) leave the others out.
#[must_use]
pub fn read(family: AddressFamily) -> Request {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(RTPROT_NETROUTE),
        ..RouteHeader::default()
    };
    Request::new(RTM_GETROUTE, 0, &message)
}

fn route(key: &FibKey) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: match key.destination.addr() {
            std::net::IpAddr::V4(_) => AddressFamily::Inet,
            std::net::IpAddr::V6(_) => AddressFamily::Inet6,
        },
        destination_prefix_length: key.destination.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(RTPROT_NETROUTE),
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Destination(key.destination.network().into()));
    message.attributes.push(RouteAttribute::Priority(key.metric));
    message
}

fn next_hops(message: &mut RouteMessage, hops: &[FibNextHop]) {
    if let [only] = hops {
        message.attributes.push(RouteAttribute::Oif(only.ifindex));
        if !only.gateway.is_unspecified() {
            message.header.flags |= RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Gateway(only.gateway.into()));
        }
        return;
    }
    let hop = |hop: &FibNextHop| {
        let mut next_hop = RouteNextHop::default();
        next_hop.flags = RouteNextHopFlags::Onlink;
        next_hop.hops = hop.weight.saturating_sub(1);
        next_hop.interface_index = hop.ifindex;
        next_hop.attributes = vec![RouteAttribute::Gateway(hop.gateway.into())];
        next_hop
    };
    message.attributes.push(RouteAttribute::MultiPath(hops.iter().map(hop).collect()));
}
