//! A small node as values: two NICs as on the appliance, a pod, and the routes a test adds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use netroute_user::compile::egress::Memory;
use netroute_user::compile::image::{Image, Limits};
use netroute_user::compile::services::ids::ServiceIds;
use netroute_user::compile::services::nat::Nat;
use netroute_user::compile::services::selection::Selection;
use netroute_user::compile::status::State;
use netroute_user::compile::{Compiled, Gateway, Inputs, Suspension, compile};
use netroute_user::desired::Desired;
use netroute_user::desired::interface::{DeviceRef, Interface, Role};
use netroute_user::desired::route::{CustomRoute, Origin, RouteKey};
use netroute_user::kernel::{
    Address, KernelNextHop, KernelRoute, KernelRouteKind, KernelState, Link, Neighbour, NeighbourKey,
    NeighbourState,
};

pub const ETH0: u32 = 2;
pub const ETH1: u32 = 3;
pub const POD: u32 = 9;

/// Everything `compile` reads.
pub struct World {
    pub desired: Desired,
    pub kernel: KernelState,
    pub suspended: BTreeMap<Gateway, Suspension>,
    /// NICs with XDP in the driver.
    pub xdp_native: BTreeSet<u32>,
    pub installed: Image,
    pub selection: Selection,
    pub service_ids: ServiceIds,
    /// Numbers of Service ports that flows carry.
    pub carried: BTreeSet<u32>,
    pub limits: Limits,
    /// What the last installed compilation left of egress policies.
    pub egress: Arc<Memory>,
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

pub fn key(destination: &str, next_hop: &str, interface: &str) -> RouteKey {
    let destination = destination.parse().expect("prefix");
    RouteKey { destination, interface: interface.to_owned(), next_hop: ip(next_hop) }
}

pub fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        altnames: Vec::new(),
        mac: Some([2, 0, 0, 0, 0, index as u8]),
        mtu: 1500,
        up: true,
        carrier: true,
        master: None,
        kind: Some("veth".to_owned()),
        loopback: false,
        xdp_transmit: Some(true),
    }
}

pub fn kernel_route(destination: &str, via: Option<&str>, ifindex: u32, metric: u32) -> KernelRoute {
    let next_hop = KernelNextHop { ifindex, gateway: via.map(ip), weight: 1, dead: false };
    KernelRoute {
        table: 254,
        destination: destination.parse().expect("prefix"),
        kind: KernelRouteKind::Unicast,
        metric,
        protocol: 2,
        next_hops: vec![next_hop],
    }
}

impl World {
    /// Port2 = eth0 with the default route, Port3 = eth1 towards the cameras, one pod.
    pub fn appliance() -> Self {
        let interface = |alias: &str, device: &str, role| Interface {
            alias: alias.to_owned(),
            device: DeviceRef::Name(device.to_owned()),
            role,
        };
        let interfaces =
            vec![interface("Port2", "eth0", Role::Internal), interface("Port3", "eth1", Role::External)];
        let mut world = Self {
            desired: Desired { interfaces, pod_interfaces: vec!["cali*".to_owned()], ..Desired::default() },
            kernel: KernelState::default(),
            suspended: BTreeMap::new(),
            xdp_native: BTreeSet::new(),
            installed: Image::default(),
            selection: Selection::default(),
            service_ids: ServiceIds::default(),
            carried: BTreeSet::new(),
            limits: Limits::default(),
            egress: Arc::default(),
        };
        for link in [link(ETH0, "eth0"), link(ETH1, "eth1"), link(POD, "cali1")] {
            world.kernel.links.insert(link.index, link);
        }
        world.address(ETH0, "10.128.44.11/24", true);
        world.address(ETH1, "172.16.3.11/24", true);
        world.address(ETH1, "fd16:3::11/64", true);
        let routes = [
            kernel_route("0.0.0.0/0", Some("10.128.44.1"), ETH0, 0),
            kernel_route("10.128.44.0/24", None, ETH0, 0),
            kernel_route("172.16.3.0/24", None, ETH1, 0),
            kernel_route("10.244.1.10/32", None, POD, 0),
            KernelRoute {
                table: 255,
                kind: KernelRouteKind::Local,
                ..kernel_route("172.16.3.11/32", None, ETH1, 0)
            },
        ];
        world.kernel.routes.extend(routes);
        for (ifindex, address) in [(ETH0, "10.128.44.1"), (ETH1, "192.168.20.1"), (POD, "10.244.1.10")] {
            world.neighbour(ifindex, address, NeighbourState::Reachable);
        }
        world
    }

    pub fn address(&mut self, ifindex: u32, address: &str, permanent: bool) {
        let address = address.parse().expect("address with prefix length");
        self.kernel.addresses.insert(Address { ifindex, address, permanent, usable: true });
    }

    pub fn neighbour(&mut self, ifindex: u32, address: &str, state: NeighbourState) {
        let last = match ip(address) {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        let known = !matches!(state, NeighbourState::Failed | NeighbourState::Incomplete);
        let neighbour = Neighbour { mac: known.then_some([6, 0, 0, 0, ifindex as u8, last]), state };
        self.kernel.neighbours.insert(NeighbourKey { ifindex, address: ip(address) }, neighbour);
    }

    pub fn link(&mut self, index: u32) -> &mut Link {
        self.kernel.links.get_mut(&index).expect("link")
    }

    pub fn route(
        &mut self,
        destination: &str,
        next_hop: &str,
        interface: &str,
        metric: u32,
    ) -> &mut CustomRoute {
        let key = key(destination, next_hop, interface);
        let route = CustomRoute {
            key: key.clone(),
            metric,
            weight: 1,
            forced: false,
            probe: None,
            origin: Origin::Cli,
        };
        self.desired.routes.insert(key.clone(), route);
        self.desired.routes.get_mut(&key).expect("just inserted")
    }

    /// The appliance's own example.
    pub fn cameras(&mut self) {
        self.route("192.168.20.0/24", "192.168.20.1", "Port3", 100);
    }

    pub fn compile(&self) -> Compiled {
        compile(&Inputs {
            desired: &self.desired,
            kernel: &self.kernel,
            suspended: &self.suspended,
            xdp_native: &self.xdp_native,
            installed: &self.installed,
            selection: &self.selection,
            service_ids: &self.service_ids,
            carried: &self.carried,
            egress: &self.egress,
            nat: Nat::DEFAULT,
            limits: self.limits,
        })
    }

    /// Compiles, and takes the result for what the maps hold from now on.
    pub fn install(&mut self) -> Compiled {
        let compiled = self.compile();
        self.installed = compiled.image.clone();
        self.service_ids = compiled.services.ids.clone();
        self.egress = compiled.egress.memory.clone();
        compiled
    }

    pub fn state(&self, destination: &str, next_hop: &str, interface: &str) -> (State, String) {
        let compiled = self.compile();
        let status = &compiled.statuses[&key(destination, next_hop, interface)];
        (status.state, status.reason.clone())
    }
}
