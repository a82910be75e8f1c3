//! The entries of `NEXTHOPS` and `PORTS`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netroute_common::abi::MAX_PORTS;
use netroute_common::layout::route::{
    FIRST_FREE_ID, KIND_LOCAL, KIND_NEIGHBOUR, KIND_POD, KIND_SERVICE, NextHop, XDP_NO_TX, XDP_REDIRECT,
    fixed_id,
};

use super::health::{Health, judge, judge_pod};
use super::ids::{Ids, NextHopIdentity};
use super::image::Image;
use super::interfaces::Interfaces;
use super::{Gateway, Inputs, Suspension};
use crate::kernel::Link;

/// A next hop with its number and its state.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub id: u32,
    pub health: Health,
}

/// Makes next hops, each once.
pub struct NextHops<'a> {
    inputs: &'a Inputs<'a>,
    ids: Ids<NextHopIdentity>,
    ports: BTreeMap<u32, u32>,
    made: BTreeMap<Gateway, Option<Resolved>>,
    entries: BTreeMap<u32, NextHop>,
}

impl<'a> NextHops<'a> {
    pub fn new(inputs: &'a Inputs<'a>, interfaces: &Interfaces) -> Self {
        let Image { next_hops, ports, .. } = inputs.installed;
        let free = next_hops.iter().filter(|(id, _)| **id >= FIRST_FREE_ID);
        let ids = Ids::new(FIRST_FREE_ID..inputs.limits.next_hops, free.map(|(id, hop)| (hop.into(), *id)));
        let mut slots = Ids::new(0..MAX_PORTS, ports.iter().map(|(slot, ifindex)| (*ifindex, *slot)));
        let ports = interfaces.nics().filter_map(|ifindex| Some((ifindex, slots.get(&ifindex)?))).collect();
        let entries = (KIND_LOCAL..=KIND_SERVICE)
            .map(|kind| (fixed_id(kind), NextHop { kind, alive: 1, ..NextHop::default() }))
            .collect();
        Self { inputs, ids, ports, made: BTreeMap::new(), entries }
    }

    /// A neighbour on a NIC; `None` if the link has no MAC or `NEXTHOPS` is full.
    pub fn neighbour(&mut self, link: &Link, address: IpAddr) -> Option<Resolved> {
        self.make(link, address, KIND_NEIGHBOUR)
    }

    /// A pod behind the host end of its veth.
    pub fn pod(&mut self, link: &Link, address: IpAddr) -> Option<Resolved> {
        self.make(link, address, KIND_POD)
    }

    fn make(&mut self, link: &Link, address: IpAddr, kind: u8) -> Option<Resolved> {
        let gateway = Gateway { ifindex: link.index, address };
        if let Some(made) = self.made.get(&gateway) {
            return made.clone();
        }
        let made = self.build(link, gateway, kind);
        self.made.insert(gateway, made.clone());
        made
    }

    fn build(&mut self, link: &Link, gateway: Gateway, kind: u8) -> Option<Resolved> {
        let source_mac = link.mac?;
        let mut next_hop = NextHop {
            ifindex: link.index,
            mtu: link.mtu,
            kind,
            family: if gateway.address.is_ipv4() { 4 } else { 6 },
            source_mac,
            gateway: octets(gateway.address),
            ..NextHop::default()
        };
        let id = self.ids.get(&NextHopIdentity::from(&next_hop))?;
        let health = self.health(link, gateway, kind);
        next_hop.alive = u8::from(matches!(health, Health::Alive { .. }));
        next_hop.destination_mac = match health {
            Health::Alive { mac } | Health::Held { mac: Some(mac) } => mac,
            // Kept, so that the data plane reports a dead next hop as dead and not as unresolved.
            Health::Down(_) | Health::Held { mac: None } => {
                self.inputs.installed.next_hops.get(&id).map_or([0; 6], |hop| hop.destination_mac)
            }
            Health::Resolving => [0; 6],
        };
        if let Some(port) = self.ports.get(&link.index) {
            if self.takes_xdp(link) {
                next_hop.port = *port;
                next_hop.xdp |= XDP_REDIRECT;
            }
            if link.kind.as_deref() == Some("veth") {
                next_hop.xdp |= XDP_NO_TX;
            }
        }
        self.entries.insert(id, next_hop);
        Some(Resolved { id, health })
    }

    fn health(&self, link: &Link, gateway: Gateway, kind: u8) -> Health {
        let judge = if kind == KIND_POD { judge_pod } else { judge };
        let judged = judge(self.inputs.kernel, link, gateway.address);
        match (self.inputs.suspended.get(&gateway), judged) {
            (_, Health::Down(reason)) => Health::Down(reason),
            (Some(Suspension::Probe(reason)), _) => Health::Down(reason.clone()),
            (Some(Suspension::Held), Health::Alive { mac }) => Health::Held { mac: Some(mac) },
            (Some(Suspension::Held), _) => Health::Held { mac: None },
            (None, judged) => judged,
        }
    }

    /// Kernels before 6.3 do not tell. Drivers of hardware transmit for XDP once they run a program of
    /// their own; a virtual device may depend on its far end, and what it does not take is lost.
    fn takes_xdp(&self, link: &Link) -> bool {
        let native = || link.kind.is_none() && self.inputs.xdp_native.contains(&link.index);
        link.xdp_transmit.unwrap_or_else(native)
    }

    /// Next hops and device slots as the maps should hold them.
    pub fn finish(self) -> (BTreeMap<u32, NextHop>, BTreeMap<u32, u32>) {
        (self.entries, self.ports.into_iter().map(|(ifindex, slot)| (slot, ifindex)).collect())
    }
}

/// The address as map entries hold it: IPv4 in the first four octets.
#[must_use]
pub fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&address.octets());
            octets
        }
    }
}

/// The address of a next hop in a map.
#[must_use]
pub fn address(next_hop: &NextHop) -> Option<IpAddr> {
    let [a, b, c, d, ..] = next_hop.gateway;
    match next_hop.family {
        4 => Some(IpAddr::from([a, b, c, d])),
        6 => Some(IpAddr::from(next_hop.gateway)),
        _ => None,
    }
}
