//! Random tables: small, full of every kind of entry, some of them wrong.

use std::net::IpAddr;

use fastrand::Rng;
use netroute_common::layout::route::{
    FIRST_FREE_ID, Group, KIND_NEIGHBOUR, KIND_POD, MAX_MEMBERS, Member, NextHop, Route,
};

use crate::vectors::{Bounds, Interface, TableSet};

const MTUS: [u32; 9] = [0, 68, 576, 1280, 1400, 1500, 1500, 1500, 9000];

pub fn random_tables(rng: &mut Rng) -> TableSet {
    let mut set = TableSet::default();
    for interface in Interface::ALL {
        if rng.u8(..) < 200 {
            set.ports.insert(interface.port, interface.index);
        }
    }
    for _ in 0..rng.u32(1..=24) {
        let id = rng.u32(FIRST_FREE_ID..Bounds::NEXT_HOPS);
        set.next_hops.insert(id, next_hop(rng));
    }
    for _ in 0..rng.u32(1..=16) {
        let group = group(rng, &set);
        set.groups.insert(rng.u32(..Bounds::GROUPS), group);
    }
    for v6 in [false, true] {
        for _ in 0..rng.u32(1..=24) {
            let key = prefix(rng, v6);
            let route = route(rng, &set);
            set.routes.insert(key, route);
        }
    }
    set
}

fn next_hop(rng: &mut Rng) -> NextHop {
    let interface = pick(rng, &Interface::ALL);
    let kind = match rng.u8(..) {
        0..150 => KIND_NEIGHBOUR,
        150..190 => KIND_POD,
        190..250 => rng.u8(2..=5),
        _ => rng.u8(..),
    };
    let mac = |rng: &mut Rng| std::array::from_fn(|_| rng.u8(..));
    let resolved = rng.u8(..) < 220;
    NextHop {
        ifindex: interface.index,
        mtu: pick(rng, &MTUS),
        port: if rng.u8(..) < 240 { interface.port } else { rng.u32(..) },
        kind,
        alive: u8::from(rng.u8(..) < 190),
        xdp: u8::from(rng.u8(..) < 220),
        family: pick(rng, &[4, 6]),
        source_mac: mac(rng),
        destination_mac: if resolved { mac(rng) } else { [0; 6] },
        gateway: [0; 16],
    }
}

fn group(rng: &mut Rng, set: &TableSet) -> Group {
    let ids: Vec<u32> = set.next_hops.keys().copied().collect();
    let mut members = [Member::default(); MAX_MEMBERS];
    let many = rng.bool();
    let len = if many { rng.usize(0..=MAX_MEMBERS) } else { 1 };
    for member in members.iter_mut().take(len) {
        let next_hop = match rng.u8(..) {
            0..245 => pick(rng, &ids),
            245..252 => rng.u32(..Bounds::NEXT_HOPS + 2),
            _ => rng.u32(..),
        };
        let tier = pick(rng, &[0, 0, 0, 1, 2, 255]);
        let weight = pick(rng, &[1, 1, 2, 7, 254, 255, 0]);
        *member = Member { next_hop, tier, weight, inverse: Member::inverse_of(weight) };
    }
    let len = if rng.u8(..) < 250 { len as u32 } else { rng.u32(..) };
    Group { len, members }
}

fn route(rng: &mut Rng, set: &TableSet) -> Route {
    let ids: Vec<u32> = set.groups.keys().copied().collect();
    let group = match rng.u8(..) {
        0..245 => pick(rng, &ids),
        245..252 => rng.u32(..Bounds::GROUPS + 2),
        _ => rng.u32(..),
    };
    let stats = if rng.u8(..) < 245 { rng.u32(..Bounds::ROUTE_STATS) } else { rng.u32(..) };
    Route { group, stats }
}

/// Prefixes that lie inside of each other often, without bits behind their length.
fn prefix(rng: &mut Rng, v6: bool) -> (IpAddr, u8) {
    if v6 {
        let length = pick(rng, &[0, 7, 8, 16, 32, 48, 63, 64, 65, 127, 128]);
        let base = 0xfd00_u128 << 112 | u128::from(rng.u8(..4)) << 64 | u128::from(rng.u16(..8));
        let mask = u128::MAX.checked_shr(length.into()).map_or(u128::MAX, |rest| !rest);
        (std::net::Ipv6Addr::from_bits(base & mask).into(), length)
    } else {
        let length = pick(rng, &[0, 1, 7, 8, 15, 16, 23, 24, 25, 31, 32]);
        let base = 10 << 24 | u32::from(rng.u8(..4)) << 16 | u32::from(rng.u8(..8));
        let mask = u32::MAX.checked_shr(length.into()).map_or(u32::MAX, |rest| !rest);
        (std::net::Ipv4Addr::from_bits(base & mask).into(), length)
    }
}

pub(super) fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}
