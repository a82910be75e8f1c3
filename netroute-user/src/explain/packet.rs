//! The frame that stands for a flow, and what of a frame is told afterwards.

use std::net::{IpAddr, SocketAddr};

use netroute_common::host::HostPacket;
use netroute_common::packet::Packet as _;
use netroute_common::stage::family::{Family, transport_of, tuple_of};
use netroute_common::stage::tuple::Tuple as _;
use netroute_common::wire::eth::{ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Eth};
use netroute_common::wire::ipv4::Ipv4;
use netroute_common::wire::ipv6::Ipv6;
use netroute_common::wire::l4::TCP_SYN;

use super::query::Protocol;
use crate::compile::services::image::unmapped;

/// Hops that the packet may go, as Linux begins.
const TTL: u8 = 64;
const IPV4_HEADER: u16 = 20;
const ECHO_REQUEST4: u8 = 8;
const ECHO_REQUEST6: u8 = 128;

/// A packet without payload. Both addresses are of one IP version; of the first one's, if not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub protocol: Protocol,
}

impl Shape {
    /// The frame. Its checksums are 0: the logic brings them up to date by difference and looks at none.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let Self { source_mac, destination_mac, source, destination, protocol } = *self;
        let transport = self.transport();
        let length = u16::try_from(transport.len()).unwrap_or(u16::MAX);
        let number = protocol.number(source.ip());
        let mut frame = [destination_mac, source_mac].concat();
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend(ETHERTYPE_IPV4.to_be_bytes());
                frame.extend([0x45, 0]);
                frame.extend(length.saturating_add(IPV4_HEADER).to_be_bytes());
                // May not be fragmented, as TCP with path MTU discovery sends it.
                frame.extend([0, 0, 0x40, 0, TTL, number, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            (source, destination) => {
                let octets = |address: IpAddr| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                };
                frame.extend(ETHERTYPE_IPV6.to_be_bytes());
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([number, TTL]);
                frame.extend(octets(source));
                frame.extend(octets(destination));
            }
        }
        frame.extend(transport);
        frame
    }

    fn transport(&self) -> Vec<u8> {
        let ports = [self.source.port().to_be_bytes(), self.destination.port().to_be_bytes()].concat();
        match self.protocol {
            Protocol::Tcp => [&ports[..], &[0; 8], &[0x50, TCP_SYN, 0xfa, 0xf0], &[0; 4]].concat(),
            Protocol::Udp => [&ports[..], &[0, 8, 0, 0]].concat(),
            Protocol::Sctp => [&ports[..], &[0; 8]].concat(),
            Protocol::Icmp => {
                let kind = if self.source.is_ipv4() { ECHO_REQUEST4 } else { ECHO_REQUEST6 };
                let [high, low] = self.source.port().to_be_bytes();
                vec![kind, 0, 0, 0, high, low, 0, 1]
            }
        }
    }
}

/// What a frame shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
    /// Ports are 0 where there are none; of an echo one is its identifier.
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

impl Shown {
    /// `None` for what is not IP, or cut short.
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Self> {
        let packet = HostPacket::new(frame, [0; 6]);
        let eth: &Eth = packet.get(0)?;
        let [source, destination] = match eth.ethertype.get() {
            ETHERTYPE_IPV4 => ends::<Ipv4>(&packet)?,
            ETHERTYPE_IPV6 => ends::<Ipv6>(&packet)?,
            _ => return None,
        };
        let (source_mac, destination_mac) = (eth.source.octets(), eth.destination.octets());
        Some(Self { source_mac, destination_mac, source, destination })
    }
}

fn ends<F: Family>(packet: &HostPacket) -> Option<[SocketAddr; 2]> {
    let shown = transport_of::<F, HostPacket>(packet, false);
    let tuple = match shown.and_then(|transport| tuple_of::<F, HostPacket>(packet, transport)) {
        Some((tuple, _)) => tuple,
        None => {
            let ip: &F = packet.get(ETH_LEN)?;
            ip.tuple((0, 0), ip.transport().unwrap_or_default())
        }
    };
    let (source, destination) = tuple.ports();
    Some([
        SocketAddr::new(unmapped(tuple.source()), source),
        SocketAddr::new(unmapped(tuple.destination()), destination),
    ])
}

#[cfg(test)]
mod tests {
    use netroute_common::wire::ip::Ip as _;

    use super::*;

    #[test]
    fn what_is_built_is_what_is_shown() {
        let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Icmp];
        for (protocol, v6) in protocols.into_iter().flat_map(|one| [(one, false), (one, true)]) {
            let (source, destination) =
                if v6 { ("[fd00::1]:40000", "[2001:db8::1]:80") } else { ("10.0.0.1:40000", "192.0.2.1:80") };
            let mut destination: SocketAddr = destination.parse().unwrap();
            if protocol == Protocol::Icmp {
                destination.set_port(0);
            }
            let shape = Shape {
                source_mac: [2, 0, 0, 0, 0, 1],
                destination_mac: [2, 0, 0, 0, 0, 2],
                source: source.parse().unwrap(),
                destination,
                protocol,
            };
            let frame = shape.frame();
            let Shape { source_mac, destination_mac, source, destination, .. } = shape;
            let expected = Shown { source_mac, destination_mac, source, destination };
            assert_eq!(Shown::of(&frame), Some(expected), "{protocol} {frame:02x?}");
            let packet = HostPacket::new(&frame, destination_mac);
            let available = packet.frame_length() - 14;
            let checked = if v6 {
                packet.get::<Ipv6>(ETH_LEN).map(|ip| (ip.check(available, false), ip.total_length()))
            } else {
                packet.get::<Ipv4>(ETH_LEN).map(|ip| (ip.check(available, false), ip.total_length()))
            };
            assert_eq!(checked, Some((Ok(()), available)));
        }
        assert_eq!(Shown::of(&[0; 20]), None);
    }
}
