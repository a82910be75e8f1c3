//! The route tables in memory as [`Tables`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::egress::HostEgress;
use super::lpm::Lpm;
use super::services::HostServices;
use crate::abi;
use crate::layout::route::{Group, MAX_MEMBERS, Member, NextHop, Route};
use crate::layout::stats::Counter;
use crate::tables::Tables;
use crate::verdict::Reason;

/// Entries of the arrays: an index from here on is absent, one below that nobody wrote is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacities {
    pub groups: u32,
    pub next_hops: u32,
    pub route_stats: u32,
}

impl Default for Capacities {
    fn default() -> Self {
        Self {
            groups: abi::DEFAULT_GROUPS,
            next_hops: abi::DEFAULT_NEXTHOPS,
            route_stats: abi::DEFAULT_ROUTE_STATS,
        }
    }
}

/// What was counted, without the slots that are zero.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    pub verdicts: BTreeMap<Reason, Counter>,
    pub routes: BTreeMap<u32, Counter>,
    pub next_hops: BTreeMap<u32, Counter>,
}

/// One set of tables, for one hook. Counters start at zero.
#[derive(Clone, Debug)]
pub struct HostTables {
    capacities: Capacities,
    routes4: Lpm<Route>,
    routes6: Lpm<Route>,
    groups: BTreeMap<u32, Group>,
    next_hops: BTreeMap<u32, NextHop>,
    ports: BTreeSet<u32>,
    counted: RefCell<Counted>,
    pub services: HostServices,
    pub egress: HostEgress,
}

static ZERO_GROUP: Group =
    Group { len: 0, members: [Member { next_hop: 0, tier: 0, weight: 0, inverse: 0 }; MAX_MEMBERS] };

static ZERO_NEXT_HOP: NextHop = NextHop {
    ifindex: 0,
    mtu: 0,
    port: 0,
    kind: 0,
    alive: 0,
    xdp: 0,
    family: 0,
    source_mac: [0; 6],
    destination_mac: [0; 6],
    gateway: [0; 16],
};

impl HostTables {
    /// `ports` are the slots of `PORTS` that hold a device.
    pub fn new(
        capacities: Capacities,
        routes: impl IntoIterator<Item = (IpAddr, u8, Route)>,
        groups: impl IntoIterator<Item = (u32, Group)>,
        next_hops: impl IntoIterator<Item = (u32, NextHop)>,
        ports: impl IntoIterator<Item = u32>,
    ) -> Self {
        let mut tables = Self {
            capacities,
            routes4: Lpm::new(),
            routes6: Lpm::new(),
            groups: groups.into_iter().collect(),
            next_hops: next_hops.into_iter().collect(),
            ports: ports.into_iter().collect(),
            counted: RefCell::default(),
            services: HostServices::default(),
            egress: HostEgress::default(),
        };
        for (address, length, route) in routes {
            tables.set_route(address, length, route);
        }
        tables
    }

    pub fn set_route(&mut self, address: IpAddr, length: u8, route: Route) {
        match address {
            IpAddr::V4(address) => self.routes4.insert(key4(address.octets()), length, route),
            IpAddr::V6(address) => self.routes6.insert(u128::from_be_bytes(address.octets()), length, route),
        }
    }

    pub fn set_next_hop(&mut self, id: u32, next_hop: NextHop) {
        self.next_hops.insert(id, next_hop);
    }

    /// The counters as they are now.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.counted.borrow().clone()
    }
}

impl Tables for HostTables {
    // Always the trie: what the strides say is compared with it.
    fn root4(&self, _first: u8, _second: u8) -> Option<Route> {
        None
    }

    fn block4(&self, _index: u32, _octet: u8) -> Option<Route> {
        None
    }

    fn trie4(&self, destination: [u8; 4]) -> Option<Route> {
        self.routes4.longest(key4(destination))
    }

    fn route6(&self, destination: [u8; 16]) -> Option<Route> {
        self.routes6.longest(u128::from_be_bytes(destination))
    }

    fn group(&self, id: u32) -> Option<&Group> {
        (id < self.capacities.groups).then(|| self.groups.get(&id).unwrap_or(&ZERO_GROUP))
    }

    fn next_hop(&self, id: u32) -> Option<&NextHop> {
        (id < self.capacities.next_hops).then(|| self.next_hops.get(&id).unwrap_or(&ZERO_NEXT_HOP))
    }

    fn take_port(&self, slot: u32) -> bool {
        self.ports.contains(&slot)
    }

    fn count_forwarded(&self, stats: u32, next_hop: u32, bytes: u32) {
        let mut counted = self.counted.borrow_mut();
        if stats < self.capacities.route_stats {
            add(counted.routes.entry(stats).or_default(), bytes);
        }
        if next_hop < self.capacities.next_hops {
            add(counted.next_hops.entry(next_hop).or_default(), bytes);
        }
    }

    fn count_verdict(&self, reason: Reason, bytes: u32) {
        add(self.counted.borrow_mut().verdicts.entry(reason).or_default(), bytes);
    }
}

/// IPv4 in the upper 32 bits.
fn key4(address: [u8; 4]) -> u128 {
    u128::from(u32::from_be_bytes(address)) << 96
}

fn add(counter: &mut Counter, bytes: u32) {
    counter.packets = counter.packets.wrapping_add(1);
    counter.bytes = counter.bytes.wrapping_add(u64::from(bytes));
}
