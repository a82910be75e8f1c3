//! Who is meant, and where the packet comes in.

use std::net::IpAddr;

use netroute_common::layout::route::{KIND_NEIGHBOUR, KIND_POD, NextHop};
use netroute_common::tables::Tables as _;
use netroute_common::verdict::Hook;

use super::{Place, Scene};
use crate::api::request::Refusal;
use crate::compile::services::selection::NodeAddresses;
use crate::desired::egress::Pod;
use crate::desired::service::{Family, ObjectKey};
use crate::explain::packet::Shape;
use crate::explain::query::{Party, Query};
use crate::kernel::{Link, NeighbourKey};
use std::net::SocketAddr;

/// The two addresses, of one IP version.
pub(super) struct Parties {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// A pod that was named.
    pod: Option<ObjectKey>,
}

/// Where it begins.
pub(super) enum Begin {
    At(Place),
    /// A process of the node sends it.
    Node,
}

impl Scene<'_> {
    pub(super) fn parties(&self) -> Result<Parties, Refusal> {
        let cluster = &self.snapshot.desired.cluster;
        let Query { from, to, .. } = self.query;
        let (sources, pod): (Vec<IpAddr>, _) = match from {
            Party::Address(address) => (vec![*address], None),
            Party::Object(key) => {
                let pod = cluster.pods.get(key).ok_or_else(|| {
                    Refusal::new(format!("--from: no object tells of a pod {key}; name its address instead"))
                })?;
                (pod.addresses.iter().copied().collect(), Some(pod))
            }
        };
        let destinations: Vec<IpAddr> = match to {
            Party::Address(address) => vec![*address],
            Party::Object(key) => match (cluster.services.get(key), cluster.pods.get(key)) {
                (Some(service), _) => service.cluster_ips.iter().copied().collect(),
                (None, Some(pod)) => pod.addresses.iter().copied().collect(),
                (None, None) => {
                    return Err(Refusal::new(format!(
                        "--to: there is no Service {key}, and no pod; see `netroute service list`"
                    )));
                }
            },
        };
        let pair = sources.iter().find_map(|source| {
            let same = |destination: &&IpAddr| destination.is_ipv4() == source.is_ipv4();
            destinations.iter().find(same).map(|destination| (*source, *destination))
        });
        let Some((source, destination)) = pair else {
            let family = |addresses: &[IpAddr]| match addresses {
                [] => "no address".to_owned(),
                [one, ..] => format!("{} only", Family::from(*one)),
            };
            let (one, other) = (family(&sources), family(&destinations));
            return Err(Refusal::new(format!("{from} has {one}, {to} has {other}: no packet goes there")));
        };
        self.ensure_here(pod.map(|pod| &**pod))?;
        Ok(Parties { source, destination, pod: pod.map(|pod| pod.key.clone()) })
    }

    /// A pod of another node sends nothing here.
    fn ensure_here(&self, pod: Option<&Pod>) -> Result<(), Refusal> {
        let Some(pod) = pod else { return Ok(()) };
        let here = &self.snapshot.desired.service_settings.node_name;
        match &pod.node {
            _ if self.query.interface.is_some() => Ok(()),
            Some(node) if node == here => Ok(()),
            Some(node) => Err(Refusal::new(format!(
                "--from: the pod {} is on node {node}: ask there, or say where its packets come in here with --in INTERFACE",
                pod.key
            ))),
            None => Err(Refusal::new(format!("--from: the pod {} is on no node yet", pod.key))),
        }
    }

    pub(super) fn begin(&self, parties: &Parties) -> Result<Begin, Refusal> {
        let Parties { source, .. } = *parties;
        if let Some(name) = &self.query.interface {
            return self.named(name, parties).map(Begin::At);
        }
        let own = NodeAddresses::of(&self.snapshot.desired, &self.snapshot.kernel).all;
        if own.contains(&source) {
            return Ok(Begin::Node);
        }
        let hop = self.hop_to(source);
        if let Some(pod) = hop.filter(|hop| hop.kind == KIND_POD) {
            return self.at(Hook::TcPod, pod.ifindex, parties).map(Begin::At);
        }
        if let Some(key) = &parties.pod {
            return Err(Refusal::new(format!(
                "--from: no interface of this node leads to the pod {key} ({source}) yet; `netroute route get {source}` says what is known"
            )));
        }
        let is_nic = |ifindex: &u32| self.interfaces.is_nic(*ifindex);
        let by_route = hop.filter(|hop| hop.kind == KIND_NEIGHBOUR).map(|hop| hop.ifindex).filter(is_nic);
        let nic = by_route.or_else(|| {
            let way = self.ask_kernel(source, None, 0).ok().flatten();
            way.map(|way| way.ifindex).filter(is_nic)
        });
        let nic = nic.ok_or_else(|| {
            Refusal::new(format!(
                "--from: no route says which NIC packets of {source} come in by; name it with --in INTERFACE"
            ))
        })?;
        self.at(Hook::XdpNic, nic, parties).map(Begin::At)
    }

    /// At the interface that was named.
    fn named(&self, name: &str, parties: &Parties) -> Result<Place, Refusal> {
        let kernel = &self.snapshot.kernel;
        if let Ok(link) = self.interfaces.find(name, kernel) {
            return self.at(Hook::XdpNic, link.index, parties);
        }
        let pod = self
            .interfaces
            .pods()
            .filter_map(|index| kernel.links.get(&index))
            .find(|link| link.name == name);
        match pod {
            Some(link) => self.at(Hook::TcPod, link.index, parties),
            None => Err(Refusal::new(format!(
                "--in: no NIC of the configuration and no pod's interface is called {name}; `netroute status` lists NICs"
            ))),
        }
    }

    fn at(&self, hook: Hook, ifindex: u32, parties: &Parties) -> Result<Place, Refusal> {
        let Query { protocol, port, source_port, .. } = *self.query;
        let Parties { source, destination, .. } = *parties;
        let hop = self.hop_to(source).filter(|hop| hop.ifindex == ifindex);
        let shape = Shape {
            source_mac: hop.map_or_else(|| self.mac_of(ifindex, source), |hop| hop.destination_mac),
            destination_mac: self.mac(ifindex)?,
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, port),
            protocol,
        };
        Ok(Place { hook, ifindex, shape })
    }

    /// The next hop that the compiled route to an address prefers.
    pub(super) fn hop_to(&self, address: IpAddr) -> Option<NextHop> {
        let route = self.tables.route_to(address)?;
        let [first, ..] = self.tables.group(route.group)?.members;
        self.tables.next_hop(first.next_hop).copied()
    }

    pub(super) fn mac(&self, ifindex: u32) -> Result<[u8; 6], Refusal> {
        let link: Option<&Link> = self.snapshot.kernel.links.get(&ifindex);
        link.and_then(|link| link.mac).ok_or_else(|| {
            Refusal::new(format!("the interface {} has no Ethernet address", self.name_of(ifindex)))
        })
    }

    /// As the kernel knows it; zeroes if it does not.
    pub(super) fn mac_of(&self, ifindex: u32, address: IpAddr) -> [u8; 6] {
        let neighbour = self.snapshot.kernel.neighbours.get(&NeighbourKey { ifindex, address });
        neighbour.and_then(|neighbour| neighbour.mac).unwrap_or_default()
    }
}
