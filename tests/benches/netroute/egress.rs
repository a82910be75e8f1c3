//! Egress policies as the product's maps hold them.

use std::collections::BTreeMap;
use std::iter::once;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use netroute_common::layout::egress::{
    ACTION_DENY, ACTION_MASQUERADE, DEFAULT_POLICY, EgressRule, FIRST_IDENTITY, POLICY_IN_FORCE, Policy,
    RuleSet,
};
use netroute_user::compile::egress::image::{Destination, EgressImage};
use netroute_user::compile::services::image::mapped;

/// Everything that these send is masqueraded.
pub fn masquerade(sources: impl IntoIterator<Item = IpAddr>) -> EgressImage {
    let policy = Policy { action: ACTION_MASQUERADE, ..in_force() };
    EgressImage {
        sources: sources.into_iter().map(|source| (mapped(source), FIRST_IDENTITY)).collect(),
        policies: BTreeMap::from([(DEFAULT_POLICY, policy)]),
        ..EgressImage::default()
    }
}

/// A policy for each of these destinations, which denies it to this source.
pub fn denied(source: IpAddr, destinations: &[Ipv4Net]) -> EgressImage {
    let numbers = DEFAULT_POLICY + 1..;
    let every_port = EgressRule { last_port: u16::MAX, ..EgressRule::default() };
    let rules = numbers.clone().map(|policy| EgressRule { policy, ..every_port });
    let set = |first| RuleSet { first, count: 1, flags: 0 };
    let sets =
        destinations.iter().zip(0..).map(|(to, first)| (Destination::from(IpNet::from(*to)), set(first)));
    let deny = Policy { action: ACTION_DENY, ..Policy::default() };
    EgressImage {
        sources: BTreeMap::from([(mapped(source), FIRST_IDENTITY)]),
        destinations: BTreeMap::from([(FIRST_IDENTITY, Arc::new(sets.collect()))]),
        rules: rules.take(destinations.len()).zip(0..).map(|(rule, at)| (at, Arc::from([rule]))).collect(),
        policies: once((DEFAULT_POLICY, in_force()))
            .chain(numbers.zip(destinations).map(|(id, _)| (id, deny)))
            .collect(),
        ..EgressImage::default()
    }
}

fn in_force() -> Policy {
    Policy { generation: 1, flags: POLICY_IN_FORCE, ..Policy::default() }
}
