//! Gives each address and port at which Services answer to one of them, and says what happens there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::condition::Condition;
use super::endpoints::Sets;
use super::selection::{
    FrontEndAddress, FrontEndSpec, Kind, NodeAddresses, Scope, Selection, SelectionInputs, ServicePort,
    WithoutEndpoint,
};
use crate::desired::service::{
    Family, IpMode, Protocol, Service, ServiceKey, ServicePortSpec, ServiceType, TrafficPolicy,
};

/// A Service with the endpoints of its ports.
pub struct Prepared<'a> {
    pub service: &'a Service,
    pub ports: Vec<PreparedPort<'a>>,
    pub local_ready: usize,
}

pub struct PreparedPort<'a> {
    pub spec: &'a ServicePortSpec,
    pub sets: BTreeMap<Family, Sets>,
}

impl Prepared<'_> {
    /// Families are those of the ClusterIPs (S9); where there is none, as manifests may have it, the
    /// other addresses decide.
    fn has_family(&self, address: IpAddr) -> bool {
        let ips = &self.service.cluster_ips;
        ips.is_empty() || ips.iter().any(|ip| ip.is_ipv4() == address.is_ipv4())
    }
}

/// Fills the selection.
pub struct FrontEnds<'a> {
    inputs: &'a SelectionInputs<'a>,
    selection: Selection,
    /// Of all nodes: no route of a Service may lead elsewhere.
    node_addresses: BTreeSet<IpAddr>,
    node_ports: BTreeMap<(Protocol, u16), &'a ServiceKey>,
}

impl<'a> FrontEnds<'a> {
    pub fn new(inputs: &'a SelectionInputs<'a>, selection: Selection) -> Self {
        let others = inputs.nodes.values().flat_map(|node| &node.addresses);
        let node_addresses = inputs.node_addresses.all.iter().chain(others).copied().collect();
        Self { inputs, selection, node_addresses, node_ports: BTreeMap::new() }
    }

    /// In the order of `services`: of two that claim the same the first gets it. ClusterIPs go before
    /// whatever a Service may ask for freely.
    pub fn fill(mut self, services: &[Prepared<'a>]) -> Selection {
        services.iter().for_each(|service| self.cluster_ips(service));
        services.iter().for_each(|service| self.load_balancer(service));
        services.iter().for_each(|service| self.external_ips(service));
        services.iter().for_each(|service| self.node_ports(service));
        services.iter().for_each(|service| self.health_port(service));
        self.selection
    }

    fn condition(&mut self, service: &Prepared<'_>, condition: Condition) {
        let key = service.service.key.clone();
        self.selection.conditions.entry(key).or_default().push(condition);
    }

    fn cluster_ips(&mut self, service: &Prepared<'a>) {
        let Service { kind, cluster_ips, .. } = service.service;
        if cluster_ips.is_empty() && *kind == ServiceType::ClusterIp {
            self.condition(service, Condition::NoClusterIp);
        }
        for &address in cluster_ips {
            self.address(service, Kind::ClusterIp, address);
        }
    }

    fn load_balancer(&mut self, service: &Prepared<'a>) {
        let Service { kind, load_balancer, .. } = service.service;
        let captured = load_balancer.iter().filter(|&(_, mode)| *mode == IpMode::Vip);
        for (&address, _) in captured.filter(|_| *kind == ServiceType::LoadBalancer) {
            self.address(service, Kind::LoadBalancer, address);
        }
    }

    fn external_ips(&mut self, service: &Prepared<'a>) {
        for &address in &service.service.external_ips {
            if contains(&self.inputs.settings.external_ip_cidrs, address) {
                self.address(service, Kind::ExternalIp, address);
            } else {
                self.condition(service, Condition::ExternalIpNotAllowed(address));
            }
        }
    }

    /// All ports of the Service at one of its addresses.
    fn address(&mut self, service: &Prepared<'a>, kind: Kind, address: IpAddr) {
        if !service.has_family(address) {
            self.condition(service, Condition::AddressFamily { address });
            return;
        }
        if !self.node_addresses.contains(&address) {
            *self.selection.addresses.entry(address).or_default() |= kind == Kind::LoadBalancer;
        }
        for port in &service.ports {
            self.add(service, port, kind, address, port.spec.port);
        }
    }

    fn node_ports(&mut self, service: &Prepared<'a>) {
        let Service { key, kind, .. } = service.service;
        if *kind == ServiceType::ClusterIp {
            return;
        }
        for port in &service.ports {
            let &ServicePortSpec { protocol, port: number, node_port, .. } = port.spec;
            match node_port {
                Some(node_port) if self.is_in_range(service, node_port) => {
                    if let Some(&by) = self.node_ports.get(&(protocol, node_port)) {
                        let by = by.clone();
                        self.condition(service, Condition::NodePortTaken { node_port, protocol, by });
                        continue;
                    }
                    self.node_ports.insert((protocol, node_port), key);
                    for address in self.node_port_addresses(service) {
                        self.add(service, port, Kind::NodePort, address, node_port);
                    }
                }
                None if *kind == ServiceType::NodePort => {
                    self.condition(service, Condition::NoNodePort { port: number, protocol });
                }
                Some(_) | None => {}
            }
        }
    }

    fn is_in_range(&mut self, service: &Prepared<'_>, node_port: u16) -> bool {
        let range = &self.inputs.settings.node_port_range;
        let (first, last) = (*range.start(), *range.end());
        let is_in_range = range.contains(&node_port);
        if !is_in_range {
            self.condition(service, Condition::NodePortRange { node_port, first, last });
        }
        is_in_range
    }

    /// The node's own that the configuration allows (S13); never loopback, nor what means one link only.
    fn node_port_addresses(&self, service: &Prepared<'_>) -> Vec<IpAddr> {
        let wanted = &self.inputs.settings.node_port_cidrs;
        let NodeAddresses { all, of_pods } = self.inputs.node_addresses;
        all.difference(of_pods)
            .copied()
            .filter(|address| !address.is_loopback() && !is_link_local(*address))
            .filter(|address| service.has_family(*address))
            .filter(|address| wanted.is_empty() || contains(wanted, *address))
            .collect()
    }

    fn health_port(&mut self, service: &Prepared<'a>) {
        let Service { key, kind, external_policy, health_check_port, .. } = service.service;
        let wanted = *kind == ServiceType::LoadBalancer && *external_policy == TrafficPolicy::Local;
        let Some(port) = health_check_port.filter(|_| wanted) else { return };
        if !self.is_in_range(service, port) {
            return;
        }
        let node_port = self.node_ports.get(&(Protocol::Tcp, port)).copied();
        let taken = node_port.or_else(|| self.selection.health_ports.get(&port).map(|(by, _)| by));
        if let Some(by) = taken.cloned() {
            self.condition(service, Condition::HealthPortTaken { port, by });
        } else {
            self.selection.health_ports.insert(port, (key.clone(), service.local_ready));
        }
    }

    /// Both scopes of one front end.
    fn add(
        &mut self,
        service: &Prepared<'_>,
        port: &PreparedPort<'_>,
        kind: Kind,
        address: IpAddr,
        number: u16,
    ) {
        let protocol = port.spec.protocol;
        let at = |scope| FrontEndAddress { address, port: number, protocol, scope };
        if let Some(other) = self.selection.front_ends.get(&at(Scope::External)) {
            let ServicePort { namespace, name, .. } = other.service.clone();
            let by = ServiceKey { namespace, name };
            // One Service may have the same address twice, as the balancer's and as an external IP.
            if by != service.service.key {
                self.condition(service, Condition::AddressTaken { address, port: number, protocol, by });
            }
            return;
        }
        let echo = kind == Kind::LoadBalancer && !self.node_addresses.contains(&address);
        for scope in [Scope::External, Scope::Internal] {
            let spec = FrontEndSpec { echo, ..front_end(service.service, port, kind, scope, address) };
            self.selection.front_ends.insert(at(scope), spec);
        }
    }
}

fn front_end(
    service: &Service,
    port: &PreparedPort<'_>,
    kind: Kind,
    scope: Scope,
    address: IpAddr,
) -> FrontEndSpec {
    let policy = match (kind, scope) {
        (Kind::ClusterIp, _) => service.internal_policy,
        (_, Scope::External) => service.external_policy,
        // As if it had gone out and come back by a balancer that knows all endpoints (S5).
        (_, Scope::Internal) => TrafficPolicy::Cluster,
    };
    let none = Sets::default();
    let sets = port.sets.get(&Family::from(address)).unwrap_or(&none);
    let endpoints = match policy {
        TrafficPolicy::Cluster => &sets.cluster,
        TrafficPolicy::Local => &sets.local,
    };
    let elsewhere = endpoints.is_empty() && !sets.cluster.is_empty();
    FrontEndSpec {
        service: ServicePort {
            namespace: service.key.namespace.clone(),
            name: service.key.name.clone(),
            protocol: port.spec.protocol,
            port: port.spec.port,
        },
        kind,
        endpoints: endpoints.clone(),
        without: if elsewhere { WithoutEndpoint::Drop } else { WithoutEndpoint::Reject },
        masquerade: masquerades(kind, scope, policy),
        affinity: service.affinity,
        source_ranges: if kind == Kind::LoadBalancer { service.source_ranges.clone() } else { Vec::new() },
        echo: false,
    }
}

/// Whether an answer from another node would not find its way back by this one (S17).
fn masquerades(kind: Kind, scope: Scope, policy: TrafficPolicy) -> bool {
    match (kind, scope) {
        (Kind::ClusterIp, Scope::External) => true,
        (_, Scope::External) => policy == TrafficPolicy::Cluster,
        // The client may be a pod or a process of another node.
        (Kind::NodePort, Scope::Internal) => true,
        // What is captured at these addresses was sent on this node.
        (_, Scope::Internal) => false,
    }
}

/// fe80::/10 (RFC 4291, 2.5.6) and 169.254.0.0/16 (RFC 3927).
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn contains(ranges: &[IpNet], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&address))
}
