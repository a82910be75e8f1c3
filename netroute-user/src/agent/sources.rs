//! Where custom routes and the cluster's objects come from, and how they become one desired state.
//! Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::AgentConfig;
use crate::desired::Desired;
use crate::desired::egress::EgressSettings;
use crate::desired::interface::{DeviceRef, Interface};
use crate::desired::route::{CustomRoute, Origin, RouteKey};
use crate::desired::service::{Cluster, ServiceSettings};

/// Routes by origin, and what the cluster's objects say.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Added at the command line; kept in the state directory.
    pub cli: BTreeMap<RouteKey, CustomRoute>,
    /// Declared in manifests; of equal keys the manifest's counts.
    pub manifests: BTreeMap<RouteKey, CustomRoute>,
    pub cluster: Arc<Cluster>,
}

impl Sources {
    /// Everything together, interfaces by their configured alias.
    #[must_use]
    pub fn desired(&self, config: &AgentConfig) -> Desired {
        let mut routes = self.cli.clone();
        routes.extend(self.manifests.iter().map(|(key, route)| (key.clone(), route.clone())));
        Desired {
            interfaces: config.interfaces.clone(),
            pod_interfaces: config.pod_interfaces.clone(),
            routes,
            cluster: self.cluster.clone(),
            service_settings: settings(config),
            egress_settings: egress_settings(config),
        }
    }
}

fn egress_settings(config: &AgentConfig) -> EgressSettings {
    EgressSettings {
        default: config.default_egress,
        pod_cidrs: config.cluster_cidrs.pods.clone(),
        node_cidrs: config.cluster_cidrs.nodes.clone(),
        own_sources: config.anti_spoofing,
        probe: config.probe,
    }
}

fn settings(config: &AgentConfig) -> ServiceSettings {
    ServiceSettings {
        node_name: config.node_name.clone(),
        node_labels: config.node_labels.clone(),
        service_cidrs: config.cluster_cidrs.services.iter().copied().collect(),
        node_port_cidrs: config.node_ports.addresses.clone(),
        node_port_range: config.node_ports.range.clone(),
        external_ip_cidrs: config.external_ips.clone(),
    }
}

/// A change of the command line's routes, not carried out yet.
#[derive(Clone, Debug)]
pub enum Change {
    /// Add or update; all or none.
    Set(Vec<CustomRoute>),
    Remove {
        destination: IpNet,
        interface: String,
        next_hop: Option<IpAddr>,
    },
}

/// Why a change is refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("{key} is declared in {origin}: change it there")]
    Declared { key: RouteKey, origin: Origin },
    #[error("no route {destination} on {interface}{via}; `netroute route list` shows what is there", via = via(next_hop.as_ref()))]
    Absent { destination: IpNet, interface: String, next_hop: Option<IpAddr> },
}

fn via(next_hop: Option<&IpAddr>) -> String {
    next_hop.map_or_else(String::new, |next_hop| format!(" via {next_hop}"))
}

/// Keys that a change touches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub added: Vec<RouteKey>,
    pub changed: Vec<RouteKey>,
    pub unchanged: usize,
    pub removed: Vec<RouteKey>,
}

impl Sources {
    /// Carries a change out on the command line's routes.
    ///
    /// # Errors
    /// The route belongs to a manifest, or is not there; then nothing was changed.
    pub fn apply(&mut self, change: &Change, interfaces: &[Interface]) -> Result<Touched, ChangeError> {
        match change {
            Change::Set(routes) => self.set(routes, interfaces),
            Change::Remove { destination, interface, next_hop } => {
                let interface = canonical(interface, interfaces);
                self.remove(*destination, &interface, *next_hop)
            }
        }
    }

    fn set(&mut self, routes: &[CustomRoute], interfaces: &[Interface]) -> Result<Touched, ChangeError> {
        let canonical = |route: &CustomRoute| {
            let key = canonical_key(&route.key, interfaces);
            CustomRoute { key, ..route.clone() }
        };
        let routes: Vec<CustomRoute> = routes.iter().map(canonical).collect();
        for CustomRoute { key, .. } in &routes {
            if let Some(declared) = self.manifests.get(key) {
                return Err(ChangeError::Declared { key: key.clone(), origin: declared.origin.clone() });
            }
        }
        let mut touched = Touched::default();
        for route in routes {
            let key = route.key.clone();
            match self.cli.insert(key.clone(), route.clone()) {
                None => touched.added.push(key),
                Some(old) if old == route => touched.unchanged += 1,
                Some(_) => touched.changed.push(key),
            }
        }
        Ok(touched)
    }

    fn remove(
        &mut self,
        destination: IpNet,
        interface: &str,
        next_hop: Option<IpAddr>,
    ) -> Result<Touched, ChangeError> {
        let matches = |key: &RouteKey| {
            key.destination == destination
                && key.interface == interface
                && next_hop.is_none_or(|next_hop| key.next_hop == next_hop)
        };
        let lowest = RouteKey { destination, interface: String::new(), next_hop: IpAddr::from([0; 4]) };
        let same_prefix =
            self.cli.range(lowest..).map(|(key, _)| key).take_while(|key| key.destination == destination);
        let removed: Vec<RouteKey> = same_prefix.filter(|key| matches(key)).cloned().collect();
        if removed.is_empty() {
            let declared = self.manifests.values().find(|route| matches(&route.key));
            return Err(match declared {
                Some(route) => ChangeError::Declared { key: route.key.clone(), origin: route.origin.clone() },
                None => ChangeError::Absent { destination, interface: interface.to_owned(), next_hop },
            });
        }
        for key in &removed {
            self.cli.remove(key);
        }
        Ok(Touched { removed, ..Touched::default() })
    }
}

/// The key with its interface by the configured alias.
#[must_use]
pub fn canonical_key(key: &RouteKey, interfaces: &[Interface]) -> RouteKey {
    RouteKey { interface: canonical(&key.interface, interfaces), ..key.clone() }
}

/// The configured alias that a name means, in its own spelling; other names stay as they are.
#[must_use]
pub fn canonical(name: &str, interfaces: &[Interface]) -> String {
    let alias = interfaces.iter().find(|interface| interface.alias.eq_ignore_ascii_case(name));
    let device = || {
        interfaces
            .iter()
            .find(|interface| matches!(&interface.device, DeviceRef::Name(device) if device == name))
    };
    alias.or_else(device).map_or_else(|| name.to_owned(), |interface| interface.alias.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::interface::Role;

    fn route(destination: &str, next_hop: &str, interface: &str, origin: Origin) -> CustomRoute {
        CustomRoute {
            key: RouteKey {
                destination: destination.parse().expect("prefix"),
                interface: interface.to_owned(),
                next_hop: next_hop.parse().expect("address"),
            },
            metric: 100,
            weight: 1,
            forced: false,
            probe: None,
            origin,
        }
    }

    fn port3() -> Vec<Interface> {
        let device = DeviceRef::Name("eth1".to_owned());
        vec![Interface { alias: "Port3".to_owned(), device, role: Role::External }]
    }

    #[test]
    fn r7_removal_takes_all_next_hops_of_the_prefix_on_the_interface() {
        let mut sources = Sources::default();
        let routes = [
            ("192.168.20.0/24", "192.168.20.1"),
            ("192.168.20.0/24", "192.168.20.2"),
            ("10.9.0.0/16", "192.168.20.1"),
        ];
        let routes = routes.map(|(to, via)| route(to, via, "eth1", Origin::Cli));
        sources.apply(&Change::Set(routes.to_vec()), &port3()).expect("set");
        let destination = "192.168.20.0/24".parse().expect("prefix");
        let remove = |next_hop| Change::Remove { destination, interface: "PORT3".to_owned(), next_hop };
        let one = sources.clone().apply(&remove(Some("192.168.20.2".parse().expect("address"))), &port3());
        assert_eq!(one.expect("one").removed.len(), 1);
        let all = sources.apply(&remove(None), &port3()).expect("all");
        assert_eq!(all.removed.len(), 2);
        assert_eq!(sources.cli.len(), 1);
        let again = sources.apply(&remove(None), &port3()).expect_err("nothing left");
        assert!(again.to_string().starts_with("no route 192.168.20.0/24 on Port3;"), "{again}");
    }

    #[test]
    fn what_services_may_take_is_the_configurations_to_say() {
        let text = "nodeName: worker-1\ninterfaces: [{alias: Port3, device: eth1, role: external}]\n\
                    clusterCidrs: {services: [10.96.0.0/12]}\nexternalIPs: {allow: [192.0.2.0/28]}\n\
                    nodePorts: {addresses: [10.128.44.0/24], range: 31000-31999}\n";
        let config = AgentConfig::parse(text, std::path::Path::new("agent.yaml")).expect("good");
        let net = |text: &str| text.parse::<IpNet>().expect("prefix");
        let settings = Sources::default().desired(&config).service_settings;
        let node_labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), "worker-1".to_owned())]);
        let expected = ServiceSettings {
            node_name: "worker-1".to_owned(),
            node_labels,
            service_cidrs: [net("10.96.0.0/12")].into(),
            node_port_cidrs: vec![net("10.128.44.0/24")],
            node_port_range: 31000..=31999,
            external_ip_cidrs: vec![net("192.0.2.0/28")],
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn a_manifest_keeps_its_routes() {
        let origin = Origin::Manifest { file: "cameras.yaml".to_owned(), name: "cameras".to_owned() };
        let declared = route("192.168.20.0/24", "192.168.20.1", "Port3", origin);
        let mut sources = Sources::default();
        sources.manifests.insert(declared.key.clone(), declared.clone());
        let again = CustomRoute { origin: Origin::Cli, ..declared };
        let other = route("10.9.0.0/16", "192.168.20.1", "Port3", Origin::Cli);
        let refused = sources.apply(&Change::Set(vec![other, again]), &port3()).expect_err("declared");
        assert!(refused.to_string().contains("cameras.yaml"), "{refused}");
        assert!(sources.cli.is_empty());
    }
}
