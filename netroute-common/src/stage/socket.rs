//! Services at the socket: a process connects or sends to a front end, and the kernel is told the endpoint
//! instead. No packet is translated then. What is asked and answered lies in a [`Peer`].

use core::hint::black_box;

use super::open::endpoint;
use crate::layout::route::{KIND_SERVICE, Route};
use crate::layout::service::{
    Address, FRONTEND_SOURCE_RANGES, FrontEnd, FrontEndKey, SCOPE_INTERNAL, SourceRange,
};
use crate::layout::socket::{SOCKET_HEARS, SOCKET_SENDS, SocketKey, SocketPeer};
use crate::services::Services;
use crate::sockets::{Socket, SocketEvent, Sockets};
use crate::strides::route4;
use crate::tables::Tables;
use crate::wire::l4::{PROTOCOL_TCP, PROTOCOL_UDP};

/// The other side of a socket, as the process or the kernel names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Peer {
    pub address: Address,
    /// Host order.
    pub port: u16,
    pub protocol: u8,
    pub zero: u8,
}

/// What becomes of a call; a number, so that it comes out of a function in a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Ruling(u32);

impl Ruling {
    /// To no Service, or left to the packets' way: it goes on as it is.
    pub const AS_IT_IS: Self = Self(0);
    /// It goes on to what the peer is now.
    pub const TRANSLATED: Self = Self(1);
    /// It fails.
    pub const REFUSED: Self = Self(2);
}

/// A process connects a socket.
#[inline(always)]
pub fn connect<S: Socket, T: Tables + Services + Sockets>(socket: &S, tables: &T, peer: &mut Peer) -> Ruling {
    match front_end(tables, peer) {
        Ok(front_end) => choose(socket, tables, front_end, peer, false),
        Err(ruling) => ruling,
    }
}

/// A process sends a datagram to an address by a socket that may send to others too. All its datagrams to
/// one front end go to one endpoint, as long as that is there (S18).
#[inline(always)]
pub fn send<S: Socket, T: Tables + Services + Sockets>(socket: &S, tables: &T, peer: &mut Peer) -> Ruling {
    let front_end = match front_end(tables, peer) {
        Ok(front_end) => front_end,
        Err(ruling) => return ruling,
    };
    let asked = *peer;
    let sends = key(socket, &asked, SOCKET_SENDS);
    if let Some(held) = tables.peer(&sends)
        && tables.backend(held.backend).is_some_and(|backend| backend.generation == held.generation)
    {
        peer.address = held.address;
        peer.port = held.port;
        // May have given way to others, or be that of another front end with this endpoint.
        let heard = tables.peer(&key(socket, peer, SOCKET_HEARS));
        if heard.is_none_or(|heard| (heard.address, heard.port) != (asked.address, asked.port)) {
            hear(socket, tables, peer, &asked, held);
        }
        return Ruling::TRANSLATED;
    }
    choose(socket, tables, front_end, peer, true)
}

/// The process asks who a datagram is from, or whom its socket is connected to: true if that is a front end,
/// which the peer then is.
#[inline(always)]
pub fn name<S: Socket, T: Sockets>(socket: &S, tables: &T, peer: &mut Peer) -> bool {
    let Some(front_end) = tables.peer(&key(socket, peer, SOCKET_HEARS)) else { return false };
    peer.address = front_end.address;
    peer.port = front_end.port;
    true
}

/// The front end that the peer is, if it has an endpoint; else what becomes of the call.
#[inline(always)]
fn front_end<'t, T: Tables + Services + Sockets>(tables: &'t T, peer: &Peer) -> Result<&'t FrontEnd, Ruling> {
    let &Peer { address, port, protocol, .. } = peer;
    if protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP {
        return Err(Ruling::AS_IT_IS);
    }
    let key = FrontEndKey { address, port, protocol, scope: SCOPE_INTERNAL };
    let Some(front_end) = tables.front_end(&key) else {
        // By the default route it would leave the node (S6, S8).
        return Err(if is_service(tables, &address) { Ruling::REFUSED } else { Ruling::AS_IT_IS });
    };
    if front_end.size == 0 {
        tables.count_socket(front_end.service, SocketEvent::NoEndpoint);
        return Err(Ruling::REFUSED);
    }
    Ok(front_end)
}

/// Chooses an endpoint anew, and remembers what the process asked for; if it `sends`, the choice as well.
#[inline(always)]
fn choose<S: Socket, T: Tables + Services + Sockets>(
    socket: &S,
    tables: &T,
    front_end: &FrontEnd,
    peer: &mut Peer,
    sends: bool,
) -> Ruling {
    let asked = *peer;
    if front_end.flags & FRONTEND_SOURCE_RANGES != 0 {
        let ruling = admit(socket, tables, front_end.service, is_v4(&asked.address));
        if ruling != Ruling::TRANSLATED {
            return ruling;
        }
    }
    let (client, now) = match front_end.affinity {
        0 => (Address::default(), 0),
        _ => (client(socket, is_v4(&asked.address)), tables.now()),
    };
    let Some(id) = endpoint(tables, front_end, &client, now, socket.random()) else { return Ruling::REFUSED };
    let Some(backend) = tables.backend(id) else { return Ruling::REFUSED };
    peer.address = backend.address;
    peer.port = backend.port;
    let held = SocketPeer {
        address: backend.address,
        port: backend.port,
        protocol: asked.protocol,
        zero: 0,
        backend: id,
        generation: backend.generation,
    };
    if sends {
        tables.set_peer(&key(socket, &asked, SOCKET_SENDS), &held);
    }
    hear(socket, tables, peer, &asked, held);
    tables.count_socket(front_end.service, SocketEvent::NewFlow);
    Ruling::TRANSLATED
}

/// What comes from this endpoint is from this front end, as the process sees it.
#[inline(always)]
fn hear<S: Socket, T: Sockets>(socket: &S, tables: &T, endpoint: &Peer, front_end: &Peer, held: SocketPeer) {
    let peer = SocketPeer { address: front_end.address, port: front_end.port, ..held };
    tables.set_peer(&key(socket, endpoint, SOCKET_HEARS), &peer);
}

#[inline(always)]
fn key<S: Socket>(socket: &S, peer: &Peer, direction: u16) -> SocketKey {
    SocketKey { cookie: socket.cookie(), address: peer.address, port: peer.port, direction, zero: 0 }
}

/// Whom affinity is kept for (S12): the address that the socket is bound to, else its network namespace,
/// since what address the kernel will take is not known yet. A pod has one of each. The namespace's number
/// stands in a range of addresses that nobody has (100::/8), apart by family: so are endpoints.
#[inline(always)]
fn client<S: Socket>(socket: &S, v4: bool) -> Address {
    let source = socket.source(v4);
    if source != Address::default() {
        return source;
    }
    let [a, b, c, d, e, f, g, h] = socket.network().to_be_bytes();
    Address::v6([1, 0, 0, 0, 0, 0, 0, if v4 { 4 } else { 6 }, a, b, c, d, e, f, g, h])
}

/// Whether the client is in the Service's source ranges (S14): translated if it is. A process of the node is
/// the node's address; a pod's address is seen by its packets first, which are left to find their way.
#[inline(always)]
fn admit<S: Socket, T: Services>(socket: &S, tables: &T, service: u32, v4: bool) -> Ruling {
    let mut client = socket.source(v4);
    if client == Address::default() {
        if !socket.is_of_node() {
            return Ruling::AS_IT_IS;
        }
        let Some(node) = tables.masquerade(0) else { return Ruling::REFUSED };
        client = if v4 { Address::v4(node.address4) } else { node.address6 };
    }
    let range = SourceRange { service: service.to_be_bytes(), address: client };
    if tables.source_allowed(&range) { Ruling::TRANSLATED } else { Ruling::REFUSED }
}

/// Out of line: joined with other ways to an answer, the compiler leaves registers unset where there is no
/// route, and the verifier refuses to read them.
#[inline(never)]
fn is_service<T: Tables>(tables: &T, address: &Address) -> bool {
    let none = u64::from(Route::NONE.group);
    let group = |route: Option<Route>| route.map_or(none, |route| route.group.into());
    let group = if is_v4(address) {
        black_box(group(route4(tables, address.to_v4())))
    } else {
        black_box(group(tables.route6(address.octets)))
    };
    group == u64::from(KIND_SERVICE)
}

#[inline(always)]
fn is_v4(address: &Address) -> bool {
    let [a, b, c, _] = address.words();
    let [_, _, mapped, _] = Address::v4([0; 4]).words();
    a == 0 && b == 0 && c == mapped
}

#[cfg(all(test, feature = "host"))]
mod tests;
