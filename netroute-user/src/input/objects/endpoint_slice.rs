//! `EndpointSlice` of the group `discovery.k8s.io`.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1 as discovery;

use super::field::{Fault, FieldError, address, port, word};
use super::service::{PROTOCOLS, key};
use crate::desired::service::{EndpointSlice, Family, ServiceKey, SliceEndpoint, SlicePort};
use crate::input::yaml::Step::{Index, Key};

/// Names the Service that a slice belongs to.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// No default: the first word would be one. Host names (`FQDN`) are nothing to send packets to.
const FAMILIES: [(&str, Family); 2] = [("IPv4", Family::V4), ("IPv6", Family::V6)];

/// # Errors
/// The first field that cannot be used.
pub fn endpoint_slice(object: &discovery::EndpointSlice) -> Result<EndpointSlice, FieldError> {
    let discovery::EndpointSlice { address_type, endpoints, metadata, ports } = object;
    let key = key(metadata);
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
    let Some(name) = label.filter(|name| !name.is_empty()) else {
        let path = [Key("metadata"), Key("labels"), Key(SERVICE_LABEL)];
        return Err(FieldError::new(&path, Fault::Missing("name the Service whose endpoints these are")));
    };
    if address_type.is_empty() {
        return Err(FieldError::new(&[Key("addressType")], Fault::Missing("write IPv4 or IPv6")));
    }
    let endpoints = endpoints.iter().enumerate();
    Ok(EndpointSlice {
        service: ServiceKey { namespace: key.namespace.clone(), name: name.clone() },
        key,
        family: word(Some(address_type), &[Key("addressType")], &FAMILIES)?,
        ports: slice_ports(ports.as_deref().unwrap_or_default())?,
        endpoints: endpoints
            .map(|(index, endpoint)| slice_endpoint(index, endpoint))
            .collect::<Result<_, _>>()?,
    })
}

/// Ports without a number stand for all ports, which no front end asks for.
fn slice_ports(ports: &[discovery::EndpointPort]) -> Result<Vec<SlicePort>, FieldError> {
    let mut found = Vec::with_capacity(ports.len());
    for (index, entry) in ports.iter().enumerate() {
        let path = |key| [Key("ports"), Index(index), Key(key)];
        let Some(number) = entry.port else { continue };
        found.push(SlicePort {
            name: entry.name.clone().unwrap_or_default(),
            protocol: word(entry.protocol.as_deref(), &path("protocol"), &PROTOCOLS)?,
            port: port(number, &path("port"))?,
        });
    }
    Ok(found)
}

fn slice_endpoint(index: usize, endpoint: &discovery::Endpoint) -> Result<SliceEndpoint, FieldError> {
    let addresses = [Key("endpoints"), Index(index), Key("addresses")];
    let Some(first) = endpoint.addresses.first() else {
        return Err(FieldError::new(&addresses, Fault::Missing("give one address")));
    };
    let [list, at, key] = addresses;
    let conditions = endpoint.conditions.as_ref();
    let condition = |of: fn(&discovery::EndpointConditions) -> Option<bool>| conditions.and_then(of);
    // Not known counts as ready (discovery.k8s.io/v1, EndpointConditions).
    let ready = condition(|conditions| conditions.ready).unwrap_or(true);
    let hints = endpoint.hints.as_ref();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_deref()).unwrap_or_default();
    let zones = hints.and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
    Ok(SliceEndpoint {
        address: address(first, &[list, at, key, Index(0)])?,
        ready,
        serving: condition(|conditions| conditions.serving).unwrap_or(ready),
        terminating: condition(|conditions| conditions.terminating).unwrap_or(false),
        node: endpoint.node_name.clone(),
        node_hints: nodes.iter().map(|hint| hint.name.clone()).collect::<BTreeSet<_>>(),
        zone_hints: zones.iter().map(|hint| hint.name.clone()).collect::<BTreeSet<_>>(),
    })
}

#[cfg(test)]
mod tests;
