//! Reads the whole state once, on a socket of its own, so that notifications never wait for it.

use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;

use super::devices::Devices;
use super::notice::{Notice, XdpTransmit, absorb, parse};
use super::parse::route::is_own;
use crate::kernel::KernelState;
use crate::netlink::NetlinkError;
use crate::netlink::request::{Request, Requests};
use crate::netlink::socket::Protocol;

const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const RTM_GETNEIGH: u16 = 30;

/// The state as the kernel tells it now, with what its devices can do.
pub async fn read(devices: Option<&Devices>) -> Result<(KernelState, XdpTransmit), NetlinkError> {
    let mut xdp = match devices {
        Some(devices) => devices.read().await?,
        None => XdpTransmit::new(),
    };
    let mut requests = Requests::open(Protocol::Route)?;
    let mut state = KernelState::default();
    for (what, request) in dumps() {
        let notices = dump(&mut requests, what, &request).await?;
        for notice in notices {
            match notice {
                // A dump lists each route once: nothing replaces anything.
                Notice::Route { route, .. } => drop(state.routes.insert(route)),
                notice => drop(absorb(&mut state, &mut xdp, notice)),
            }
        }
    }
    Ok((state, xdp))
}

async fn dump(
    requests: &mut Requests,
    what: &'static str,
    request: &Request,
) -> Result<Vec<Notice>, NetlinkError> {
    let own = |payload: &[u8]| request.kind == RTM_GETROUTE && is_own(payload);
    requests
        .dump(what, request, Vec::new, |notices, frame| {
            if !own(frame.payload) {
                notices.extend(parse(frame));
            }
        })
        .await
}

fn dumps() -> [(&'static str, Request); 5] {
    let mut links = LinkMessage::default();
    links.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let [mut routes4, mut routes6] = [RouteMessage::default(), RouteMessage::default()];
    routes4.header.address_family = AddressFamily::Inet;
    routes6.header.address_family = AddressFamily::Inet6;
    [
        ("the links", get(RTM_GETLINK, &links)),
        ("the addresses", get(RTM_GETADDR, &AddressMessage::default())),
        ("the neighbours", get(RTM_GETNEIGH, &NeighbourMessage::default())),
        ("the IPv4 routes", get(RTM_GETROUTE, &routes4)),
        ("the IPv6 routes", get(RTM_GETROUTE, &routes6)),
    ]
}

fn get(kind: u16, message: &impl Emitable) -> Request {
    Request::new(kind, 0, message)
}
