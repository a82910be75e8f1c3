//! `NetRoute`: one custom route.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refusal::RouteRefusal;
use crate::config::ProbeSpec;
use crate::desired::route::{CustomRoute, DEFAULT_METRIC, Origin, Probe, RouteKey};
use crate::input::address::{LeadingZeros, parse_address, parse_prefix};

/// `"true"`: accept the route although its interface has only dynamic addresses.
pub const FORCE_ANNOTATION: &str = "netroute.dev/force";

/// One next hop of one destination. Several routes with the same destination and different
/// metrics are fallbacks of each other, with the same metric they share the traffic.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "netroute.dev",
    version = "v1alpha1",
    kind = "NetRoute",
    plural = "netroutes",
    shortname = "nr",
    printcolumn = r#"{"name":"Destination","type":"string","jsonPath":".spec.destination"}"#,
    printcolumn = r#"{"name":"NextHop","type":"string","jsonPath":".spec.nextHop"}"#,
    printcolumn = r#"{"name":"Interface","type":"string","jsonPath":".spec.interface"}"#,
    printcolumn = r#"{"name":"Metric","type":"integer","jsonPath":".spec.metric"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetRouteSpec {
    /// Prefix (`192.168.20.0/24`, no host bits set) or one address.
    pub destination: String,
    /// Address of the router, same family; may lie inside the destination.
    pub next_hop: String,
    /// Name of the interface: an alias of the agent's configuration, or a device name.
    pub interface: String,
    /// Lower is preferred. Default 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub metric: Option<u32>,
    /// Share of the traffic among routes of equal metric. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 255))]
    pub weight: Option<u8>,
    /// Liveness check of the next hop. Default: the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeSpec>,
    /// Labels a node must have for the route to be installed on it. Default: all nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
}

impl NetRouteSpec {
    /// Whether a node with these labels is meant.
    #[must_use]
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// `zeros`: how octets with leading zeros are read; `default_probe`: for routes that name none.
    ///
    /// # Errors
    /// When the destination, next hop or a number cannot be used.
    pub fn route(
        &self,
        zeros: LeadingZeros,
        default_probe: Option<Probe>,
        forced: bool,
        origin: Origin,
    ) -> Result<CustomRoute, RouteRefusal> {
        let Self { destination, next_hop, interface, metric, weight, probe, node_selector: _ } = self;
        let destination = parse_prefix(destination, zeros).map_err(RouteRefusal::Destination)?;
        let next_hop = parse_address(next_hop, zeros).map_err(RouteRefusal::NextHop)?;
        check_addresses(destination, next_hop)?;
        let interface = interface.trim();
        if interface.is_empty() {
            return Err(RouteRefusal::Interface);
        }
        // As in an alias. An export could not be read back otherwise.
        if interface.contains(|c: char| c == '"' || c.is_control()) {
            return Err(RouteRefusal::InterfaceName(interface.to_owned()));
        }
        let metric = metric.unwrap_or(DEFAULT_METRIC);
        let weight = weight.unwrap_or(1);
        if metric == 0 {
            return Err(RouteRefusal::Metric);
        }
        if weight == 0 {
            return Err(RouteRefusal::Weight);
        }
        let probe = match probe {
            None => default_probe,
            Some(spec) => spec.probe().map_err(|_| RouteRefusal::Probe(spec.clone()))?,
        };
        let key = RouteKey { destination, interface: interface.to_owned(), next_hop };
        Ok(CustomRoute { key, metric, weight, forced, probe, origin })
    }

    /// The spec that reads back as `route`; a probe equal to the default stays unnamed.
    #[must_use]
    pub fn of(route: &CustomRoute, default_probe: Option<Probe>) -> Self {
        let CustomRoute { key, metric, weight, forced: _, probe, origin: _ } = route;
        Self {
            destination: key.destination.to_string(),
            next_hop: key.next_hop.to_string(),
            interface: key.interface.clone(),
            metric: Some(*metric),
            weight: (*weight != 1).then_some(*weight),
            probe: (*probe != default_probe).then(|| ProbeSpec::from(*probe)),
            node_selector: BTreeMap::new(),
        }
    }
}

impl NetRoute {
    /// Whether the object carries [`FORCE_ANNOTATION`].
    #[must_use]
    pub fn is_forced(&self) -> bool {
        let annotations = self.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(FORCE_ANNOTATION)).is_some_and(|value| value == "true")
    }

    /// The object that a route of the command line is kept as.
    #[must_use]
    pub fn of(route: &CustomRoute, default_probe: Option<Probe>) -> Self {
        let mut object = Self::new(&object_name(&route.key), NetRouteSpec::of(route, default_probe));
        if route.forced {
            let annotations = BTreeMap::from([(FORCE_ANNOTATION.to_owned(), "true".to_owned())]);
            object.metadata.annotations = Some(annotations);
        }
        object
    }
}

/// A valid `metadata.name` (RFC 1123 subdomain) that tells routes apart.
fn object_name(key: &RouteKey) -> String {
    let RouteKey { destination, interface, next_hop } = key;
    let addresses = format!("cli-{destination}-{next_hop}-").replace([':', '/'], "-");
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = addresses.chars().chain(interface.chars().map(letter)).collect();
    name.trim_end_matches('-').to_owned()
}

fn check_addresses(destination: IpNet, next_hop: IpAddr) -> Result<(), RouteRefusal> {
    if destination.prefix_len() > 0
        && let Some(kind) = not_routed(destination.addr(), destination.prefix_len())
    {
        return Err(RouteRefusal::DestinationRange(destination, kind));
    }
    if let Some(kind) = not_routed(next_hop, u8::MAX) {
        return Err(RouteRefusal::NextHopRange(next_hop, kind));
    }
    if destination.addr().is_ipv4() != next_hop.is_ipv4() {
        return Err(RouteRefusal::Family { destination, next_hop });
    }
    Ok(())
}

/// What makes a prefix that begins with `address` no unicast destination of a router.
pub(super) fn not_routed(address: IpAddr, prefix_len: u8) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) if address.octets()[0] == 0 && prefix_len >= 8 => {
            Some("in 0.0.0.0/8 (this host)")
        }
        IpAddr::V4(address) if address.is_loopback() => Some("loopback"),
        IpAddr::V4(address) if address.is_multicast() => Some("multicast"),
        IpAddr::V4(address) if address.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(address) if address.is_unspecified() && prefix_len >= 96 => {
            Some("the unspecified address")
        }
        IpAddr::V6(address) if address.is_loopback() => Some("loopback"),
        IpAddr::V6(address) if address.is_multicast() => Some("multicast"),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
            Some("an IPv4-mapped address; write it as IPv4")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
