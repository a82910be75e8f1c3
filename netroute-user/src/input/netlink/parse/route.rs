//! `RTM_NEWROUTE`, `RTM_DELROUTE`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NlaBuffer, ParseableParametrized, parse_ip, parse_u32};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteNextHop, RouteNextHopFlags,
    RouteType,
};
use netroute_common::abi::RTPROT_NETROUTE;

use super::attributes;
use crate::kernel::{KernelNextHop, KernelRoute, KernelRouteKind};

const HEADER_BYTES: usize = 12;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_ENCAP: u16 = 22;
const TABLE_MAIN: u32 = 254;
const TABLE_LOCAL: u32 = 255;

/// Whether the message is about one of the agent's own routes. Looks at the fixed header only:
/// in a dump most routes may be our own, and those need no parsing.
#[must_use]
pub fn is_own(payload: &[u8]) -> bool {
    // rtmsg: family, dst_len, src_len, tos, table, protocol.
    payload.get(5) == Some(&RTPROT_NETROUTE)
}

#[derive(Default)]
struct Draft {
    destination: Option<IpAddr>,
    table: Option<u32>,
    metric: u32,
    oif: Option<u32>,
    gateway: Option<IpAddr>,
    multipath: Option<Vec<KernelNextHop>>,
    /// Something the fast path does not follow.
    foreign: bool,
}

/// A route of the main or local table; `None` for other tables, families, and cached clones.
#[must_use]
pub fn route(payload: &[u8]) -> Option<KernelRoute> {
    let header = RouteHeader::parse(payload).ok()?;
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut draft = Draft { foreign: header.tos != 0, ..Draft::default() };
    for attribute in attributes(payload, HEADER_BYTES) {
        draft.take(&header, &attribute);
    }
    let table = draft.table.unwrap_or(u32::from(header.table));
    if table != TABLE_MAIN && table != TABLE_LOCAL {
        return None;
    }
    let destination = IpNet::new(draft.destination.unwrap_or(any), header.destination_prefix_length).ok()?;
    let dead = header.flags.intersects(RouteFlags::Dead | RouteFlags::Linkdown);
    let mut next_hops = draft.multipath.unwrap_or_else(|| {
        let single = |ifindex| KernelNextHop { ifindex, gateway: draft.gateway, weight: 1, dead };
        draft.oif.map(single).into_iter().collect()
    });
    next_hops.sort_unstable();
    let kind = match kind(header.kind) {
        _ if draft.foreign => KernelRouteKind::Other,
        // A nexthop object that the kernel does not spell out (`net.ipv4.nexthop_compat_mode` = 0).
        KernelRouteKind::Unicast if next_hops.is_empty() => KernelRouteKind::Other,
        kind => kind,
    };
    let (metric, protocol) = (draft.metric, u8::from(header.protocol));
    Some(KernelRoute { table, destination: destination.trunc(), kind, metric, protocol, next_hops })
}

impl Draft {
    fn take(&mut self, header: &RouteHeader, attribute: &NlaBuffer<&[u8]>) {
        let value = attribute.value();
        match attribute.kind() {
            RTA_DST => self.destination = parse_ip(value).ok(),
            RTA_TABLE => self.table = parse_u32(value).ok(),
            RTA_PRIORITY => self.metric = parse_u32(value).unwrap_or_default(),
            RTA_OIF => self.oif = parse_u32(value).ok(),
            RTA_GATEWAY => self.gateway = parse_ip(value).ok(),
            RTA_MULTIPATH => match multipath(header, attribute) {
                Some(hops) => self.multipath = Some(hops),
                None => self.foreign = true,
            },
            // Source-specific routes, gateways of the other family, tunnels.
            RTA_SRC | RTA_VIA | RTA_ENCAP => self.foreign = true,
            _ => {}
        }
    }
}

fn multipath(header: &RouteHeader, attribute: &NlaBuffer<&[u8]>) -> Option<Vec<KernelNextHop>> {
    let context = (header.address_family, header.kind, RouteLwEnCapType::None);
    match RouteAttribute::parse_with_param(attribute, context).ok()? {
        RouteAttribute::MultiPath(hops) => hops.iter().map(next_hop).collect(),
        _ => None,
    }
}

fn next_hop(hop: &RouteNextHop) -> Option<KernelNextHop> {
    let mut gateway = None;
    for attribute in &hop.attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(IpAddr::V4(*address)),
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => gateway = Some(IpAddr::V6(*address)),
            RouteAttribute::Via(_) | RouteAttribute::Encap(_) | RouteAttribute::EncapType(_) => return None,
            _ => {}
        }
    }
    Some(KernelNextHop {
        ifindex: hop.interface_index,
        gateway,
        weight: u16::from(hop.hops) + 1,
        dead: hop.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown),
    })
}

fn kind(kind: RouteType) -> KernelRouteKind {
    match kind {
        RouteType::Unicast => KernelRouteKind::Unicast,
        RouteType::Local => KernelRouteKind::Local,
        RouteType::Broadcast => KernelRouteKind::Broadcast,
        RouteType::Anycast => KernelRouteKind::Anycast,
        RouteType::Multicast => KernelRouteKind::Multicast,
        RouteType::BlackHole => KernelRouteKind::Blackhole,
        RouteType::Unreachable => KernelRouteKind::Unreachable,
        RouteType::Prohibit => KernelRouteKind::Prohibit,
        _ => KernelRouteKind::Other,
    }
}
