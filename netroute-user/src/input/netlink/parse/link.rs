//! `RTM_NEWLINK`, `RTM_DELLINK`.

use netlink_packet_core::{parse_string, parse_u8, parse_u32};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType, State};

use super::attributes;
use crate::kernel::Link;

const HEADER_BYTES: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_WIRELESS: u16 = 11;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_INFO_KIND: u16 = 1;

/// The link of a message. `None` for messages of bridge ports, which are about the port's place
/// in the bridge: their `RTM_DELLINK` means that it left the bridge, not the machine. Nor for
/// wireless events, which describe the link in part only.
#[must_use]
pub fn link(payload: &[u8]) -> Option<Link> {
    let header = LinkHeader::parse(payload).ok()?;
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let up = header.flags.contains(LinkFlags::Up);
    let mut link = Link {
        index: header.index,
        name: String::new(),
        altnames: Vec::new(),
        mac: None,
        mtu: 0,
        up,
        carrier: up && header.flags.contains(LinkFlags::LowerUp),
        master: None,
        kind: None,
        loopback: header.flags.contains(LinkFlags::Loopback),
        xdp_transmit: None,
    };
    let ethernet = header.link_layer_type == LinkLayerType::Ether;
    for attribute in attributes(payload, HEADER_BYTES) {
        let value = attribute.value();
        match attribute.kind() {
            IFLA_ADDRESS if ethernet => link.mac = value.try_into().ok(),
            IFLA_IFNAME => link.name = parse_string(value).unwrap_or_default(),
            IFLA_MTU => link.mtu = parse_u32(value).unwrap_or_default(),
            IFLA_MASTER => link.master = parse_u32(value).ok().filter(|&master| master != 0),
            IFLA_WIRELESS => return None,
            IFLA_OPERSTATE => link.carrier &= !is_down(parse_u8(value).unwrap_or_default()),
            IFLA_LINKINFO => link.kind = strings(value, IFLA_INFO_KIND).next(),
            IFLA_PROP_LIST => link.altnames = strings(value, IFLA_ALT_IFNAME).collect(),
            _ => {}
        }
    }
    Some(link)
}

fn is_down(operstate: u8) -> bool {
    matches!(State::from(operstate), State::NotPresent | State::Down | State::LowerLayerDown)
}

fn strings(buffer: &[u8], kind: u16) -> impl Iterator<Item = String> {
    attributes(buffer, 0)
        .filter(move |attribute| attribute.kind() == kind)
        .filter_map(|attribute| parse_string(attribute.value()).ok())
}
