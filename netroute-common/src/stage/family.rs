//! What Services need of either IP version beside forwarding: tuples, and the version's tables.

use super::serve::Scratch;
use super::tuple::Tuple;
use crate::checksum::{Delta, Update};
use crate::layout::flow::{Flow, FlowKey4, FlowKey6, Masquerade};
use crate::layout::route::Route;
use crate::layout::service::Address;
use crate::packet::Packet;
use crate::services::{Place, Services};
use crate::strides::route4;
use crate::tables::Tables;
use crate::wire::be::Be16;
use crate::wire::eth::ETH_LEN;
use crate::wire::icmp::{ICMP_LEN, Icmp};
use crate::wire::ip::Ip;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::{Fragment6, Ipv6, NEXT_FRAGMENT};
use crate::wire::l4::{
    PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, Ports, TCP_FLAGS_AT, checksum_at, has_ports,
};

/// An IP version.
pub trait Family: Ip + Sized {
    type Tuple: Tuple;
    const VERSION: u8;
    const TRANSPORT_AT: usize = ETH_LEN.wrapping_add(size_of::<Self>());
    /// Where an ICMP error has the packet that it is about.
    const QUOTED_AT: usize = Self::TRANSPORT_AT.wrapping_add(ICMP_LEN);
    const HAS_HEADER_CHECKSUM: bool;
    const ICMP: u8;
    /// ICMP types.
    const ECHO_REQUEST: u8;
    const ECHO_REPLY: u8;

    fn tuple(&self, ports: (u16, u16), protocol: u8) -> Self::Tuple;

    /// What the packet is a fragment of; `None` for a whole one.
    fn fragment<P: Packet>(packet: &P) -> Option<Piece>;

    /// Place and protocol of the transport header of the packet that an error quotes, if it is there.
    fn quoted<P: Packet>(packet: &P) -> Option<(usize, u8)>;

    /// `changed` is what the change adds to a sum over the addresses.
    fn set_addresses(&mut self, to: &Self::Tuple, changed: Delta);

    fn route_to<T: Tables>(tables: &T, address: &Address) -> Option<Route>;

    fn masquerade_address(masquerade: &Masquerade) -> Option<Address>;

    fn scratch<S: Services, R>(services: &S, with: impl FnOnce(&mut Scratch<Self::Tuple>) -> R) -> Option<R>;

    /// Calls `with` on the entry of a flow, if there is one.
    fn flow<S: Services, R>(
        services: &S,
        key: &Self::Tuple,
        with: impl FnOnce(Place, &mut Flow) -> R,
    ) -> Option<R>;

    /// Adds an entry; false if there is one already that is not to be replaced, or no room.
    fn add_flow<S: Services>(
        services: &S,
        place: Place,
        key: &Self::Tuple,
        flow: &Flow,
        replace: bool,
    ) -> bool;

    fn remove_flow<S: Services>(services: &S, place: Place, key: &Self::Tuple);
}

/// A fragment.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub identification: u32,
    pub protocol: u8,
    /// It begins with the transport header, at `at`.
    pub first: bool,
    pub at: usize,
}

/// Where the ports of a packet are.
#[derive(Clone, Copy, Debug)]
pub struct Transport {
    pub protocol: u8,
    pub at: usize,
    /// Of a first fragment, whose other fragments do not show ports.
    pub fragmented: bool,
    pub identification: u32,
}

/// The ports of a packet, or, at TC, of its first fragment; and at TC the identifier of an echo.
#[inline(always)]
pub fn transport_of<F: Family, P: Packet>(packet: &P, at_xdp: bool) -> Option<Transport> {
    let ip: &F = packet.get(ETH_LEN)?;
    if let Some(protocol) = ip.transport() {
        let whole = Transport { protocol, at: F::TRANSPORT_AT, fragmented: false, identification: 0 };
        let echo = !at_xdp && is_echo::<F, P>(packet, protocol, F::TRANSPORT_AT);
        return (echo || has_ports(protocol)).then_some(whole);
    }
    if at_xdp {
        return None;
    }
    let Piece { identification, protocol, first, at } = F::fragment(packet)?;
    let piece = Transport { protocol, at, fragmented: true, identification };
    (first && (has_ports(protocol) || is_echo::<F, P>(packet, protocol, at))).then_some(piece)
}

#[inline(always)]
pub(super) fn is_echo<F: Family, P: Packet>(packet: &P, protocol: u8, at: usize) -> bool {
    if protocol != F::ICMP {
        return false;
    }
    let Some(icmp) = packet.get::<Icmp>(at) else { return false };
    let [kind, code] = icmp.type_code.get().to_be_bytes();
    code == 0 && (kind == F::ECHO_REQUEST || kind == F::ECHO_REPLY)
}

/// The identifier of an echo in the place of ports: a request's in that of the source, a reply's in that of
/// the destination, the other one 0 (N5).
#[inline(always)]
pub(super) fn echo_ports<F: Family>(icmp: &Icmp) -> (u16, u16) {
    let [identifier, _] = icmp.rest;
    if icmp.kind() == F::ECHO_REQUEST { (identifier.get(), 0) } else { (0, identifier.get()) }
}

/// The tuple of a packet that has all that is rewritten with it, and TCP's control bits (0 for other protocols).
#[inline(always)]
pub fn tuple_of<F: Family, P: Packet>(packet: &P, transport: Transport) -> Option<(F::Tuple, u8)> {
    let Transport { protocol, at, .. } = transport;
    if protocol == F::ICMP {
        let ports = echo_ports::<F>(packet.get(at)?);
        return Some((packet.get::<F>(ETH_LEN)?.tuple(ports, protocol), 0));
    }
    let ports: &Ports = packet.get(at)?;
    let (source, destination) = (ports.source.get(), ports.destination.get());
    let tuple = packet.get::<F>(ETH_LEN)?.tuple((source, destination), protocol);
    if let Some(behind) = checksum_at(protocol) {
        let _: &Be16 = packet.get(at.wrapping_add(behind))?;
    }
    if protocol != PROTOCOL_TCP {
        return Some((tuple, 0));
    }
    let [flags]: &[u8; 1] = packet.get(at.wrapping_add(TCP_FLAGS_AT))?;
    Some((tuple, *flags))
}

impl Family for Ipv4 {
    type Tuple = FlowKey4;
    const VERSION: u8 = 4;
    const HAS_HEADER_CHECKSUM: bool = true;
    const ICMP: u8 = PROTOCOL_ICMP;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;

    #[inline(always)]
    fn tuple(&self, ports: (u16, u16), protocol: u8) -> FlowKey4 {
        FlowKey4 {
            source: self.source,
            destination: self.destination,
            source_port: ports.0,
            destination_port: ports.1,
            protocol: protocol.into(),
        }
    }

    #[inline(always)]
    fn fragment<P: Packet>(packet: &P) -> Option<Piece> {
        let ip: &Self = packet.get(ETH_LEN)?;
        let (identification, protocol) = (ip.identification.get().into(), ip.protocol);
        let piece = Piece { identification, protocol, first: ip.is_first(), at: Self::TRANSPORT_AT };
        ip.transport().is_none().then_some(piece)
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P) -> Option<(usize, u8)> {
        let ip: &Self = packet.get(Self::QUOTED_AT)?;
        let length = ip.header_length();
        let whole = length >= size_of::<Self>();
        (ip.version() == 4 && whole && ip.is_first())
            .then_some((Self::QUOTED_AT.wrapping_add(length), ip.protocol))
    }

    #[inline(always)]
    fn set_addresses(&mut self, to: &FlowKey4, changed: Delta) {
        self.checksum = Update::of(self.checksum).change(changed).ip();
        self.source = to.source;
        self.destination = to.destination;
    }

    #[inline(always)]
    fn route_to<T: Tables>(tables: &T, address: &Address) -> Option<Route> {
        route4(tables, address.to_v4())
    }

    #[inline(always)]
    fn masquerade_address(masquerade: &Masquerade) -> Option<Address> {
        (masquerade.address4 != [0; 4]).then(|| Address::v4(masquerade.address4))
    }

    #[inline(always)]
    fn scratch<S: Services, R>(services: &S, with: impl FnOnce(&mut Scratch<FlowKey4>) -> R) -> Option<R> {
        services.scratch4(with)
    }

    #[inline(always)]
    fn flow<S: Services, R>(
        services: &S,
        key: &FlowKey4,
        with: impl FnOnce(Place, &mut Flow) -> R,
    ) -> Option<R> {
        services.flow4(key, with)
    }

    #[inline(always)]
    fn add_flow<S: Services>(services: &S, place: Place, key: &FlowKey4, flow: &Flow, replace: bool) -> bool {
        services.add_flow4(place, key, flow, replace)
    }

    #[inline(always)]
    fn remove_flow<S: Services>(services: &S, place: Place, key: &FlowKey4) {
        services.remove_flow4(place, key);
    }
}

impl Family for Ipv6 {
    type Tuple = FlowKey6;
    const VERSION: u8 = 6;
    const HAS_HEADER_CHECKSUM: bool = false;
    const ICMP: u8 = PROTOCOL_ICMPV6;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;

    #[inline(always)]
    fn tuple(&self, ports: (u16, u16), protocol: u8) -> FlowKey6 {
        FlowKey6 {
            source: Address::v6(self.source),
            destination: Address::v6(self.destination),
            source_port: ports.0,
            destination_port: ports.1,
            protocol: protocol.into(),
        }
    }

    #[inline(always)]
    fn fragment<P: Packet>(packet: &P) -> Option<Piece> {
        let ip: &Self = packet.get(ETH_LEN)?;
        if ip.next_header != NEXT_FRAGMENT {
            return None;
        }
        let header: &Fragment6 = packet.get(Self::TRANSPORT_AT)?;
        Some(Piece {
            identification: header.identification.get(),
            protocol: header.next_header,
            first: header.is_first(),
            at: Self::TRANSPORT_AT.wrapping_add(size_of::<Fragment6>()),
        })
    }

    #[inline(always)]
    fn quoted<P: Packet>(packet: &P) -> Option<(usize, u8)> {
        let ip: &Self = packet.get(Self::QUOTED_AT)?;
        let at = Self::QUOTED_AT.wrapping_add(size_of::<Self>());
        if ip.next_header != NEXT_FRAGMENT {
            return ip.transport().map(|protocol| (at, protocol));
        }
        let header: &Fragment6 = packet.get(at)?;
        header.is_first().then_some((at.wrapping_add(size_of::<Fragment6>()), header.next_header))
    }

    #[inline(always)]
    fn set_addresses(&mut self, to: &FlowKey6, _changed: Delta) {
        self.source = to.source.octets;
        self.destination = to.destination.octets;
    }

    #[inline(always)]
    fn route_to<T: Tables>(tables: &T, address: &Address) -> Option<Route> {
        tables.route6(address.octets)
    }

    #[inline(always)]
    fn masquerade_address(masquerade: &Masquerade) -> Option<Address> {
        (masquerade.address6 != Address::default()).then_some(masquerade.address6)
    }

    #[inline(always)]
    fn scratch<S: Services, R>(services: &S, with: impl FnOnce(&mut Scratch<FlowKey6>) -> R) -> Option<R> {
        services.scratch6(with)
    }

    #[inline(always)]
    fn flow<S: Services, R>(
        services: &S,
        key: &FlowKey6,
        with: impl FnOnce(Place, &mut Flow) -> R,
    ) -> Option<R> {
        services.flow6(key, with)
    }

    #[inline(always)]
    fn add_flow<S: Services>(services: &S, place: Place, key: &FlowKey6, flow: &Flow, replace: bool) -> bool {
        services.add_flow6(place, key, flow, replace)
    }

    #[inline(always)]
    fn remove_flow<S: Services>(services: &S, place: Place, key: &FlowKey6) {
        services.remove_flow6(place, key);
    }
}
