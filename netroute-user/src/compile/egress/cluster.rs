//! What belongs to the cluster: nobody asks about traffic to it (E3), and what has a pod's address must
//! be known to send anything out of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netroute_common::layout::egress::{IDENTITY_CLUSTER, PREFIX_PODS, RuleSet};

use super::image::{Destination, Destinations};
use super::room::Room;
use super::sources::{Owner, Sources};
use crate::compile::Inputs;
use crate::desired::service::Skipped;

const CLUSTER: RuleSet = RuleSet { first: 0, count: 0, flags: 0 };
const PODS: RuleSet = RuleSet { flags: PREFIX_PODS, ..CLUSTER };

/// The prefixes of the configuration.
pub(super) fn internal(inputs: &Inputs<'_>) -> Vec<IpNet> {
    let settings = &inputs.desired.egress_settings;
    let all = settings.pod_cidrs.iter().chain(&settings.node_cidrs);
    let all = all.chain(&inputs.desired.service_settings.service_cidrs);
    all.copied().filter(is_one_family).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Around all of IPv4 in the trie: it would take that in.
fn is_one_family(prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(_) => true,
        IpNet::V6(_) => {
            let root = Destination::from(IpNet::V4(ipnet::Ipv4Net::default()));
            let outer = ipnet::Ipv6Net::from(Destination::from(*prefix));
            !outer.contains(&ipnet::Ipv6Net::from(root))
        }
    }
}

/// Entries of the trie as far as there is room; the most important ones first.
pub(super) fn destinations(inputs: &Inputs<'_>, sources: &Sources, room: &mut Room<'_>) -> Destinations {
    let settings = &inputs.desired.egress_settings;
    let services = &inputs.desired.service_settings.service_cidrs;
    let prefixes = |list: &mut dyn Iterator<Item = &IpNet>, set: RuleSet| {
        list.filter(|prefix| is_one_family(prefix)).map(|prefix| (Destination::from(*prefix), set)).collect()
    };
    let mut found: Vec<(Destination, RuleSet)> = prefixes(&mut settings.pod_cidrs.iter(), PODS);
    found.extend::<Vec<_>>(prefixes(&mut services.iter().chain(&settings.node_cidrs), CLUSTER));
    // The node's own may lie among the pods', and is no pod.
    found.extend(sources.node.iter().map(|address| (Destination::from(*address), CLUSTER)));
    let of_pods = |address: &IpAddr| settings.pod_cidrs.iter().any(|prefix| prefix.contains(address));
    let pods = sources.addresses.iter().filter(|(_, owner, _)| *owner == Owner::Pod);
    let pods = sources.unknown.iter().chain(pods.map(|(address, ..)| address));
    found.extend(pods.filter(|address| !of_pods(address)).map(|address| (Destination::from(*address), PODS)));
    // Another proxy translates them behind this node's hooks.
    let services_elsewhere = inputs
        .desired
        .cluster
        .services
        .values()
        .filter(|service| service.skipped == Some(Skipped::OtherProxy));
    let elsewhere = services_elsewhere.flat_map(|service| &service.cluster_ips);
    let internal =
        |address: &IpAddr| services.iter().chain(&settings.node_cidrs).any(|prefix| prefix.contains(address));
    let nodes = inputs.desired.cluster.nodes.values().flat_map(|node| &node.addresses);
    found.extend(
        nodes
            .chain(elsewhere)
            .filter(|address| !internal(address))
            .map(|address| (Destination::from(*address), CLUSTER)),
    );
    let mut entries = Destinations::new();
    for (destination, set) in found {
        if !entries.contains_key(&destination) && room.take(IDENTITY_CLUSTER, [destination].iter()) {
            entries.insert(destination, set);
        }
    }
    entries
}
