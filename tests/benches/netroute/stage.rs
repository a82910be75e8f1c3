//! The product's programs over tables of a chosen size, and interfaces for them, in a network
//! namespace of the calling thread's own.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context, Result};
use ipnet::{Ipv4Net, Ipv6Net};
use netroute_common::host::strides::Strides;
use netroute_common::layout::config::Nic;
use netroute_common::layout::route::{
    FIRST_FREE_ID, Group, KIND_LOCAL, KIND_NEIGHBOUR, KIND_POD, MAX_MEMBERS, Member, NextHop, Route,
    UNCOUNTED,
};
use netroute_tests::namespace::{enter, ifindex, sh};
use netroute_user::apply::apply;
use netroute_user::compile::image::{Image, Limits};
use netroute_user::load::object::bpf_object;
use netroute_user::load::testrun::TestBed;
use netroute_user::plan::diff;

use crate::packet::NIC_MAC;

/// Where the routes of a table lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Out of another NIC.
    Out,
    /// Back out of the NIC they came in on.
    Same,
    /// Out of another NIC, by one of that many next hops.
    Group(u32),
    /// To a pod of this node.
    Pod,
    /// Up: an address of this node.
    Local,
}

/// Interface indices.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    pub nic: u32,
    pub out: u32,
    pub pod: u32,
}

const OUT_PORT: u32 = 1;
const GROUP: u32 = FIRST_FREE_ID;
const MTU: u32 = 1500;

/// Room in `BLOCKS4` for the last two strides of that many scattered prefixes.
pub fn blocks(routes: usize) -> u32 {
    u32::try_from(routes.max(64) * 2).unwrap_or(u32::MAX).min(1 << 17)
}

/// Capacities for that many routes of either family.
pub fn limits(routes: usize) -> Limits {
    let capacity = u32::try_from(routes).unwrap_or(u32::MAX).max(64);
    Limits {
        routes4: capacity,
        blocks4: blocks(routes),
        routes6: capacity,
        groups: 64,
        next_hops: 64,
        route_stats: 1024,
        egress_policies: 2048,
        ..Limits::DEFAULT
    }
}

impl Stage {
    /// Moves the calling thread into a new namespace with a NIC, another one and a pod.
    pub fn build() -> Result<Self> {
        enter()?;
        let mac = NIC_MAC.map(|byte| format!("{byte:02x}")).join(":");
        sh(&format!(
            "ip link add nic address {mac} type veth peer name nic-peer
             ip link add out type veth peer name out-peer
             ip link add pod type veth peer name pod-peer
             for link in nic nic-peer out out-peer pod pod-peer; do ip link set $link up; done"
        ))?;
        Ok(Self { nic: ifindex("nic")?, out: ifindex("out")?, pod: ifindex("pod")? })
    }

    /// The programs over these routes, all leading one way.
    pub fn bed(&self, routes4: &[Ipv4Net], routes6: &[Ipv6Net], way: Way) -> Result<Rc<TestBed>> {
        let mut bed = self.empty_bed(routes4.len().max(routes6.len()))?;
        let image = self.image(routes4, routes6, way);
        apply(&diff(&Image::default(), &image), &mut bed.store).context("cannot fill the maps")?;
        Ok(Rc::new(bed))
    }

    /// The programs over empty tables with room for that many routes of either family.
    pub fn empty_bed(&self, routes: usize) -> Result<TestBed> {
        let nic = Nic { ifindex: self.nic, mac: NIC_MAC, zero: 0 };
        Ok(TestBed::load(bpf_object(), limits(routes), &nic)?)
    }

    /// What the maps hold then.
    pub fn image(&self, routes4: &[Ipv4Net], routes6: &[Ipv6Net], way: Way) -> Image {
        let members = if let Way::Group(members) = way { members } else { 1 };
        let next_hops: BTreeMap<u32, NextHop> =
            (0..members).map(|number| (FIRST_FREE_ID + number, self.next_hop(way, number))).collect();
        let mut group = Group { len: members, members: [Member::default(); MAX_MEMBERS] };
        for (member, id) in group.members.iter_mut().zip(next_hops.keys()) {
            *member = Member { next_hop: *id, tier: 0, weight: 1, inverse: Member::inverse_of(1) };
        }
        let route = Route { group: GROUP, stats: UNCOUNTED };
        let numbers = routes4.iter().map(|prefix| (prefix.network().to_bits(), prefix.prefix_len(), route));
        Image {
            strides: Strides::build(numbers, blocks(routes4.len()), &Strides::default()),
            routes4: routes4.iter().map(|prefix| (*prefix, route)).collect(),
            routes6: routes6.iter().map(|prefix| (*prefix, route)).collect(),
            groups: BTreeMap::from([(GROUP, group)]),
            next_hops,
            ports: BTreeMap::from([(OUT_PORT, self.out)]),
            ..Image::default()
        }
    }

    fn next_hop(&self, way: Way, number: u32) -> NextHop {
        let (kind, ifindex) = match way {
            Way::Out | Way::Group(_) => (KIND_NEIGHBOUR, self.out),
            Way::Same => (KIND_NEIGHBOUR, self.nic),
            Way::Pod => (KIND_POD, self.pod),
            Way::Local => (KIND_LOCAL, 0),
        };
        let [.., last] = number.to_be_bytes();
        NextHop {
            ifindex,
            mtu: MTU,
            port: OUT_PORT,
            kind,
            alive: 1,
            xdp: 1,
            family: 4,
            source_mac: [2, 0, 0, 0, 0, 0x0c],
            destination_mac: [2, 0, 0, 0, 1, last],
            gateway: [0; 16],
        }
    }
}
