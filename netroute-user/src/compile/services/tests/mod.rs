//! Selection: objects in, front ends out, on the node `worker-1` in zone `a`.

mod conflicts;
mod endpoints;
mod front_ends;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::condition::Condition;
use super::selection::{
    FrontEndAddress, FrontEndSpec, Kind, NodeAddresses, Scope, Selection, SelectionInputs, ServicePort,
    WithoutEndpoint, select,
};
use crate::desired::Desired;
use crate::desired::service::{
    Cluster, EndpointSlice, Family, Node, ObjectKey, Protocol, Service, ServicePortSpec, ServiceSettings,
    ServiceType, SliceEndpoint, SlicePort, TrafficPolicy, ZONE_LABEL,
};

const HERE: &str = "worker-1";
const THERE: &str = "worker-2";
const BOTH: [Scope; 2] = [Scope::External, Scope::Internal];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

/// A ClusterIP Service `name` at `cluster_ip` with port 80/TCP `http`.
fn service(name: &str, cluster_ip: &str) -> Service {
    Service {
        cluster_ips: BTreeSet::from([ip(cluster_ip)]),
        ports: vec![port("http", Protocol::Tcp, 80, None)],
        ..Service::named(key(name))
    }
}

fn port(name: &str, protocol: Protocol, port: u16, node_port: Option<u16>) -> ServicePortSpec {
    ServicePortSpec { name: name.to_owned(), protocol, port, node_port }
}

fn slice_port(name: &str, protocol: Protocol, port: u16) -> SlicePort {
    SlicePort { name: name.to_owned(), protocol, port }
}

/// Ready, without hints.
fn endpoint(address: &str, node: &str) -> SliceEndpoint {
    SliceEndpoint {
        address: ip(address),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(node.to_owned()),
        node_hints: BTreeSet::new(),
        zone_hints: BTreeSet::new(),
    }
}

fn terminating(address: &str, node: &str) -> SliceEndpoint {
    SliceEndpoint { ready: false, terminating: true, ..endpoint(address, node) }
}

fn not_ready(address: &str, node: &str) -> SliceEndpoint {
    SliceEndpoint { ready: false, serving: false, ..endpoint(address, node) }
}

/// Of the family of its first endpoint (IPv4 without), with 8080/TCP as `http`.
fn slice(name: &str, service: &str, endpoints: Vec<SliceEndpoint>) -> EndpointSlice {
    EndpointSlice {
        key: key(name),
        service: key(service),
        family: endpoints.first().map_or(Family::V4, |endpoint| Family::from(endpoint.address)),
        ports: vec![slice_port("http", Protocol::Tcp, 8080)],
        endpoints,
    }
}

struct World {
    desired: Desired,
    addresses: NodeAddresses,
}

impl World {
    fn of(
        services: impl IntoIterator<Item = Service>,
        slices: impl IntoIterator<Item = EndpointSlice>,
    ) -> Self {
        let node = |name: &str, zone: &str, address: &str| Node {
            name: name.to_owned(),
            labels: BTreeMap::from([(ZONE_LABEL.to_owned(), zone.to_owned())]),
            addresses: BTreeSet::from([ip(address)]),
        };
        let nodes = [node(HERE, "a", "10.128.44.11"), node(THERE, "b", "10.128.44.12")];
        let cluster = Cluster {
            services: services.into_iter().map(|service| (service.key.clone(), service)).collect(),
            endpoint_slices: slices.into_iter().map(|slice| (slice.key.clone(), slice)).collect(),
            nodes: nodes.map(|node| (node.name.clone(), node)).into(),
            ..Cluster::default()
        };
        let service_settings = ServiceSettings {
            node_name: HERE.to_owned(),
            service_cidrs: BTreeSet::from(["10.96.0.0/12".parse().expect("prefix")]),
            ..ServiceSettings::default()
        };
        let desired = Desired { cluster: cluster.into(), service_settings, ..Desired::default() };
        let all = ["127.0.0.1", "::1", "10.128.44.11", "172.16.3.11", "fd16:3::11"].map(ip).into();
        Self { desired, addresses: NodeAddresses { all, of_pods: BTreeSet::new() } }
    }

    fn settings(&mut self) -> &mut ServiceSettings {
        &mut self.desired.service_settings
    }

    fn select(&self) -> Selection {
        select(&SelectionInputs::new(&self.desired, &self.addresses))
    }
}

impl Selection {
    fn at(&self, address: &str, port: u16, scope: Scope) -> &FrontEndSpec {
        let protocol = Protocol::Tcp;
        let key = FrontEndAddress { address: ip(address), port, protocol, scope };
        self.front_ends.get(&key).unwrap_or_else(|| panic!("no front end {key:?}"))
    }

    /// Endpoints at a TCP front end, for clients outside.
    fn endpoints(&self, address: &str, port: u16) -> Vec<String> {
        shown(self.at(address, port, Scope::External))
    }

    /// Every front end for clients outside, as `address:port/protocol of service`.
    fn outside(&self) -> Vec<String> {
        let external = self.front_ends.iter().filter(|(key, _)| key.scope == Scope::External);
        external
            .map(|(key, spec)| {
                let FrontEndAddress { address, port, protocol, .. } = key;
                let ServicePort { name, .. } = &spec.service;
                format!("{address}:{port}/{protocol} of {name}")
            })
            .collect()
    }

    fn conditions_of(&self, service: &str) -> Vec<(&'static str, String)> {
        let of = self.conditions.get(&key(service)).map_or(&[][..], Vec::as_slice);
        of.iter().map(|condition: &Condition| (condition.reason(), condition.to_string())).collect()
    }
}

/// `address:port`, with a star where it is local.
fn shown(spec: &FrontEndSpec) -> Vec<String> {
    let star = |local| if local { "*" } else { "" };
    let endpoints = spec.endpoints.iter();
    endpoints.map(|end| format!("{}:{}{}", end.address, end.port, star(end.local))).collect()
}
