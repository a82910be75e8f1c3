//! Asks an image what the data plane would answer, by the data plane's own code.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netroute_common::hash::Hash;
use netroute_common::layout::route::{Group, NextHop, Route};
use netroute_common::stage::choose::{for_flow, preferred};
use netroute_common::strides::route4;
use netroute_common::tables::Tables;
use netroute_common::verdict::Reason;

use super::image::Image;

/// An image as the tables of the packet logic.
pub struct Lookup<'a>(pub &'a Image);

/// The way of an address through the tables.
pub struct Found<'a> {
    pub prefix: IpNet,
    /// The next hop, or why the packet goes up to the kernel.
    pub next_hop: Result<(u32, &'a NextHop), Reason>,
}

impl<'a> Lookup<'a> {
    /// What happens to packets from `source` to `destination`, as far as routes decide it.
    #[must_use]
    pub fn find(&self, destination: IpAddr, source: Option<IpAddr>) -> Option<Found<'a>> {
        let (prefix, record) = self.longest(destination)?;
        // As the data plane asks: were the strides wrong, this would tell.
        let route = match destination {
            IpAddr::V4(address) => route4(self, address.octets())?,
            IpAddr::V6(_) => record,
        };
        let flow = flow_hash(destination, source);
        let next_hop = self.choose(route, flow);
        Some(Found { prefix, next_hop })
    }

    fn choose(&self, route: Route, flow: u32) -> Result<(u32, &'a NextHop), Reason> {
        let group = self.0.groups.get(&route.group).ok_or(Reason::TableInconsistent)?;
        let (choice, _) = match preferred(self, group)? {
            Some(preferred) => preferred,
            None => for_flow(self, group, flow)?,
        };
        let next_hop = self.0.next_hops.get(&choice.id()).ok_or(Reason::TableInconsistent)?;
        Ok((choice.id(), next_hop))
    }

    /// The longest prefix around an address, and its entry.
    #[must_use]
    pub fn longest(&self, destination: IpAddr) -> Option<(IpNet, Route)> {
        match destination {
            IpAddr::V4(address) => (0..=32).rev().find_map(|length| {
                let prefix = Ipv4Net::new(address, length).ok()?.trunc();
                self.0.routes4.get(&prefix).map(|route| (IpNet::V4(prefix), *route))
            }),
            IpAddr::V6(address) => (0..=128).rev().find_map(|length| {
                let prefix = Ipv6Net::new(address, length).ok()?.trunc();
                self.0.routes6.get(&prefix).map(|route| (IpNet::V6(prefix), *route))
            }),
        }
    }
}

/// Stands for the flows between two addresses; real ones also hash their ports.
fn flow_hash(destination: IpAddr, source: Option<IpAddr>) -> u32 {
    let octets = |address: IpAddr| super::next_hops::octets(address);
    let both = [source.map(octets).unwrap_or_default(), octets(destination)];
    let words = both.as_flattened().as_chunks::<4>().0;
    words.iter().fold(Hash::new(), |hash, word| hash.word(u32::from_ne_bytes(*word))).finish()
}

impl Tables for Lookup<'_> {
    fn root4(&self, first: u8, second: u8) -> Option<Route> {
        self.0.strides.root.get(&first.into())?.entries.get(usize::from(second)).copied()
    }

    fn block4(&self, index: u32, octet: u8) -> Option<Route> {
        self.0.strides.blocks.get(&index)?.entries.get(usize::from(octet)).copied()
    }

    fn trie4(&self, destination: [u8; 4]) -> Option<Route> {
        self.longest(IpAddr::V4(Ipv4Addr::from(destination))).map(|(_, route)| route)
    }

    fn route6(&self, destination: [u8; 16]) -> Option<Route> {
        self.longest(IpAddr::V6(Ipv6Addr::from(destination))).map(|(_, route)| route)
    }

    fn group(&self, id: u32) -> Option<&Group> {
        self.0.groups.get(&id)
    }

    fn next_hop(&self, id: u32) -> Option<&NextHop> {
        self.0.next_hops.get(&id)
    }

    fn take_port(&self, slot: u32) -> bool {
        self.0.ports.contains_key(&slot)
    }

    fn count_forwarded(&self, _stats: u32, _next_hop: u32, _bytes: u32) {}

    fn count_verdict(&self, _reason: Reason, _bytes: u32) {}
}
