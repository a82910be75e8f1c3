//! Calls of sockets over tables in memory.

use std::cell::Cell;
use std::net::IpAddr;

use super::*;
use crate::host::{Capacities, HostTables};
use crate::layout::flow::Masquerade;
use crate::layout::service::{Backend, FRONTEND_DROP, SCOPE_EXTERNAL};
use crate::wire::l4::PROTOCOL_SCTP;

struct Caller {
    cookie: u64,
    network: u64,
    of_node: bool,
    source: Address,
    random: Cell<u32>,
}

impl Socket for Caller {
    fn cookie(&self) -> u64 {
        self.cookie
    }

    fn network(&self) -> u64 {
        self.network
    }

    fn is_of_node(&self) -> bool {
        self.of_node
    }

    fn source(&self, _v4: bool) -> Address {
        self.source
    }

    fn random(&self) -> u32 {
        let next = self.random.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.random.replace(next)
    }
}

fn caller(cookie: u64) -> Caller {
    Caller {
        cookie,
        network: 7,
        of_node: false,
        source: Address::default(),
        random: Cell::new((cookie as u32).wrapping_mul(0x9e37_79b1)),
    }
}

const FRONT: Address = Address::v4([10, 96, 0, 10]);
const NODE: Address = Address::v4([10, 128, 44, 11]);
const FRONT6: Address = Address::v6([0xfd, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]);
const SERVICE: u32 = 3;
const SLOTS: u32 = 31;

fn endpoint_at(number: u8) -> Address {
    Address::v4([10, 244, 1, number])
}

fn peer(address: Address, port: u16, protocol: u8) -> Peer {
    Peer { address, port, protocol, zero: 0 }
}

fn front_end_of(flags: u32, affinity: u32) -> FrontEnd {
    FrontEnd { service: SERVICE, block: 0, size: SLOTS, affinity, flags }
}

/// A Service at an address of each family and at a port of the node, with endpoints 1 to 3.
fn tables(front_end: FrontEnd) -> HostTables {
    let service = Route { group: KIND_SERVICE.into(), stats: 0 };
    let routes: [(IpAddr, u8, Route); 2] =
        [([10, 96, 0, 0].into(), 12, service), (IpAddr::from(FRONT6.octets), 112, service)];
    let mut tables = HostTables::new(Capacities::default(), routes, [], [], []);
    for protocol in [PROTOCOL_TCP, PROTOCOL_UDP] {
        for (address, port) in [(FRONT, 80), (FRONT6, 80), (NODE, 30_080)] {
            let key = FrontEndKey { address, port, protocol, scope: SCOPE_INTERNAL };
            tables.services.front_ends.insert(key, front_end);
        }
    }
    for slot in 0..SLOTS {
        tables.services.slots.insert(slot, (slot % 3).wrapping_add(1));
    }
    for number in 1..=3_u8 {
        let backend = Backend { address: endpoint_at(number), port: 8080, flags: 0, generation: 1 };
        tables.services.backends.insert(number.into(), backend);
    }
    tables
}

fn connected(caller: &Caller, tables: &HostTables, to: Peer) -> (Ruling, Peer) {
    let mut peer = to;
    (connect(caller, tables, &mut peer), peer)
}

fn sent(caller: &Caller, tables: &HostTables, to: Peer) -> (Ruling, Peer) {
    let mut peer = to;
    (send(caller, tables, &mut peer), peer)
}

fn named(caller: &Caller, tables: &HostTables, endpoint: Peer) -> Peer {
    let mut peer = endpoint;
    let _ = name(caller, tables, &mut peer);
    peer
}

#[test]
fn s13_front_ends_lead_to_their_endpoints_and_everything_else_stays() {
    let tables = tables(front_end_of(0, 0));
    let mut used = std::collections::BTreeSet::new();
    for cookie in 0..100 {
        let asked = peer(FRONT, 80, PROTOCOL_TCP);
        let (ruling, got) = connected(&caller(cookie), &tables, asked);
        assert_eq!((ruling, got.port), (Ruling::TRANSLATED, 8080));
        assert_eq!(named(&caller(cookie), &tables, got), asked, "getpeername");
        assert_eq!(named(&caller(cookie.wrapping_add(1000)), &tables, got), got, "another socket");
        used.insert(got.address);
    }
    assert_eq!(used.len(), 3);
    assert_eq!(
        tables.services.counted.borrow().get(&SERVICE).map(|c| (c.new_flows, c.packets)),
        Some((100, 0))
    );
    let loopback = Address::v4([127, 0, 0, 1]);
    for stays in [
        peer(loopback, 30_080, PROTOCOL_TCP),
        peer(NODE, 22, PROTOCOL_TCP),
        peer(NODE, 30_080, PROTOCOL_SCTP),
        peer(FRONT, 80, PROTOCOL_SCTP),
        peer(Address::v4([192, 0, 2, 1]), 80, PROTOCOL_TCP),
    ] {
        assert_eq!(connected(&caller(1), &tables, stays), (Ruling::AS_IT_IS, stays));
        assert_eq!(sent(&caller(1), &tables, stays), (Ruling::AS_IT_IS, stays));
    }
    assert_eq!(connected(&caller(1), &tables, peer(NODE, 30_080, PROTOCOL_UDP)).0, Ruling::TRANSLATED);
    assert_eq!(connected(&caller(1), &tables, peer(FRONT6, 80, PROTOCOL_UDP)).0, Ruling::TRANSLATED);
}

#[test]
fn s3_s4_s6_what_leads_nowhere_is_refused() {
    for flags in [0, FRONTEND_DROP] {
        let tables = tables(FrontEnd { size: 0, ..front_end_of(flags, 0) });
        for protocol in [PROTOCOL_TCP, PROTOCOL_UDP] {
            let asked = peer(FRONT, 80, protocol);
            assert_eq!(connected(&caller(1), &tables, asked), (Ruling::REFUSED, asked));
            assert_eq!(sent(&caller(1), &tables, asked), (Ruling::REFUSED, asked));
        }
        assert_eq!(tables.services.counted.borrow().get(&SERVICE).map(|c| c.no_endpoint), Some(4));
    }
    let tables = tables(front_end_of(0, 0));
    for asked in [
        peer(FRONT, 81, PROTOCOL_TCP),
        peer(FRONT6, 81, PROTOCOL_UDP),
        peer(Address::v4([10, 96, 9, 9]), 80, PROTOCOL_TCP),
    ] {
        assert_eq!(connected(&caller(1), &tables, asked), (Ruling::REFUSED, asked));
    }
}

#[test]
fn s5_what_holds_for_clients_outside_does_not_here() {
    let mut tables = tables(front_end_of(0, 0));
    let outside = FrontEnd { size: 0, ..front_end_of(FRONTEND_DROP, 0) };
    let key = FrontEndKey { address: FRONT, port: 80, protocol: PROTOCOL_TCP, scope: SCOPE_EXTERNAL };
    tables.services.front_ends.insert(key, outside);
    assert_eq!(connected(&caller(1), &tables, peer(FRONT, 80, PROTOCOL_TCP)).0, Ruling::TRANSLATED);
}

#[test]
fn s12_a_network_or_a_bound_address_stays_with_its_endpoint() {
    let tables = tables(front_end_of(0, 10_800));
    let bound = |cookie| Caller { source: endpoint_at(9), ..caller(cookie) };
    let elsewhere = |cookie| Caller { network: 8, ..caller(cookie) };
    let asked = peer(FRONT, 80, PROTOCOL_TCP);
    for of in [&caller as &dyn Fn(u64) -> Caller, &bound, &elsewhere] {
        let first = connected(&of(1), &tables, asked).1.address;
        for cookie in 2..50 {
            assert_eq!(connected(&of(cookie), &tables, asked).1.address, first);
        }
    }
    // Both families of a network are clients of their own: their endpoints are.
    assert_eq!(connected(&caller(1), &tables, peer(FRONT6, 80, PROTOCOL_TCP)).0, Ruling::TRANSLATED);
    assert_eq!(tables.services.affinity.borrow().len(), 4);
}

#[test]
fn s18_datagrams_stay_with_an_endpoint_as_long_as_it_is_there() {
    let mut tables = tables(front_end_of(0, 0));
    let (asked, socket) = (peer(FRONT, 80, PROTOCOL_UDP), caller(1));
    let first = sent(&socket, &tables, asked).1;
    for _ in 0..50 {
        assert_eq!(sent(&socket, &tables, asked), (Ruling::TRANSLATED, first));
        assert_eq!(named(&socket, &tables, first), asked, "recvmsg");
    }
    assert_eq!(tables.services.counted.borrow().get(&SERVICE).map(|c| c.new_flows), Some(1));
    // Half of what is remembered gave way to others.
    tables.services.sockets.borrow_mut().retain(|key, _| key.direction == SOCKET_SENDS);
    assert_eq!(sent(&socket, &tables, asked).1, first);
    assert_eq!(named(&socket, &tables, first), asked);
    for backend in tables.services.backends.values_mut().filter(|backend| backend.address == first.address) {
        *backend = Backend { generation: 2, address: endpoint_at(4), ..*backend };
    }
    assert_ne!(sent(&socket, &tables, asked).1.address, first.address, "the endpoint is gone");
}

#[test]
fn s18_a_datagram_comes_from_whom_the_last_was_sent_to() {
    let mut tables = tables(front_end_of(0, 0));
    tables.services.slots.values_mut().for_each(|backend| *backend = 1);
    let socket = caller(1);
    let (one, other) = (peer(FRONT, 80, PROTOCOL_UDP), peer(NODE, 30_080, PROTOCOL_UDP));
    for asked in [one, other, one, one, other] {
        let (ruling, endpoint) = sent(&socket, &tables, asked);
        assert_eq!((ruling, endpoint.address), (Ruling::TRANSLATED, endpoint_at(1)));
        assert_eq!(named(&socket, &tables, endpoint), asked, "recvmsg");
    }
}

#[test]
fn s14_source_ranges_hold_where_the_client_is_known() {
    let mut tables = tables(front_end_of(FRONTEND_SOURCE_RANGES, 0));
    let range = SourceRange { service: SERVICE.to_be_bytes(), address: Address::v4([10, 244, 1, 0]) };
    tables.services.source_ranges.push((32 + 96 + 24, range));
    let asked = peer(FRONT, 80, PROTOCOL_TCP);
    let ruling = |caller: Caller, tables: &HostTables| connected(&caller, tables, asked).0;
    assert_eq!(ruling(caller(1), &tables), Ruling::AS_IT_IS, "a pod is left to its packets' way");
    let bound = |source| Caller { source, ..caller(1) };
    assert_eq!(ruling(bound(endpoint_at(5)), &tables), Ruling::TRANSLATED);
    assert_eq!(ruling(bound(Address::v4([10, 244, 2, 5])), &tables), Ruling::REFUSED);
    let node = || Caller { of_node: true, ..caller(1) };
    assert_eq!(ruling(node(), &tables), Ruling::REFUSED, "no address known");
    let own = Masquerade { address4: [10, 244, 1, 200], ..Masquerade::default() };
    tables.services.masquerade.insert(0, own);
    assert_eq!(ruling(node(), &tables), Ruling::TRANSLATED);
    tables.services.masquerade.insert(0, Masquerade { address4: [10, 128, 44, 11], ..own });
    assert_eq!(ruling(node(), &tables), Ruling::REFUSED);
}
