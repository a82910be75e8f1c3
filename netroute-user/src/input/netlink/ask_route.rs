//! Which way the kernel would send one packet, as `ip route get` asks it.

use std::net::IpAddr;

use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};

use crate::netlink::NetlinkError;
use crate::netlink::request::{Request, Requests};
use crate::netlink::socket::Protocol;

const RTM_GETROUTE: u16 = 26;
const WHAT: &str = "asking for a route";

/// The kernel's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelWay {
    /// The packet is for this node.
    pub local: bool,
    pub ifindex: u32,
    /// `None`: on-link.
    pub gateway: Option<IpAddr>,
    /// The source address that a process would get.
    pub source: Option<IpAddr>,
}

/// The way of a packet that comes in on `from_ifindex`; 0: that the node sends. Policy rules are asked too.
///
/// # Errors
/// The kernel has none, or says that such packets go nowhere.
pub async fn ask_route(
    destination: IpAddr,
    source: Option<IpAddr>,
    from_ifindex: u32,
) -> Result<Option<KernelWay>, NetlinkError> {
    let mut requests = Requests::open(Protocol::Route)?;
    let mut answer = None;
    let request = question(destination, source, from_ifindex);
    requests.ask(WHAT, &request, |frame| answer = answer.or_else(|| way(frame.payload))).await?;
    Ok(answer)
}

fn question(destination: IpAddr, source: Option<IpAddr>, from_ifindex: u32) -> Request {
    let length = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: if destination.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 },
        destination_prefix_length: length(destination),
        source_prefix_length: source.map_or(0, length),
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Destination(destination.into()));
    message.attributes.extend(source.map(|source| RouteAttribute::Source(source.into())));
    if from_ifindex != 0 {
        message.attributes.push(RouteAttribute::Iif(from_ifindex));
    }
    Request::new(RTM_GETROUTE, 0, &message)
}

fn way(payload: &[u8]) -> Option<KernelWay> {
    let message = RouteMessage::parse(payload).ok()?;
    let local = message.header.kind == RouteType::Local;
    let mut way = KernelWay { local, ifindex: 0, gateway: None, source: None };
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => way.ifindex = ifindex,
            RouteAttribute::Gateway(address) => way.gateway = ip(&address),
            RouteAttribute::PrefSource(address) => way.source = ip(&address),
            _ => {}
        }
    }
    (way.ifindex != 0).then_some(way)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_read_as_the_kernel_writes_it() {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.kind = RouteType::Unicast;
        let gateway: IpAddr = [10, 128, 44, 1].into();
        let source: IpAddr = [10, 128, 44, 11].into();
        message.attributes = vec![
            RouteAttribute::Oif(7),
            RouteAttribute::Gateway(gateway.into()),
            RouteAttribute::PrefSource(source.into()),
        ];
        let payload = crate::netlink::request::emit(&message);
        let expected = KernelWay { local: false, ifindex: 7, gateway: Some(gateway), source: Some(source) };
        assert_eq!(way(&payload), Some(expected));
        assert_eq!(way(&[0; 3]), None);
    }

    #[test]
    fn a_packet_that_is_forwarded_says_where_it_came_in() {
        let (to, from): (IpAddr, IpAddr) = ([203, 0, 113, 10].into(), [10, 244, 1, 10].into());
        let own = RouteMessage::parse(&question(to, Some(from), 0).body).unwrap();
        let forwarded = RouteMessage::parse(&question(to, Some(from), 4).body).unwrap();
        assert_eq!((own.header.destination_prefix_length, own.header.source_prefix_length), (32, 32));
        assert!(!own.attributes.contains(&RouteAttribute::Iif(4)));
        assert!(forwarded.attributes.contains(&RouteAttribute::Iif(4)));
    }
}
