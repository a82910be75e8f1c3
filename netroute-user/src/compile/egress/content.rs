//! What a set of policies says of each destination: the prefixes that make a difference, and for each
//! the rules in their order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netroute_common::layout::egress::MAX_RULES;

use super::image::Destination;
use super::order::{Order, Rank};
use crate::desired::egress::{EgressPolicy, PortRange};
use crate::desired::service::Protocol;

/// One rule before its policy has a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    /// `None`: denied, for there is no room for what would be asked.
    pub(super) rank: Option<Rank>,
    /// IP protocol number; 0 for all.
    pub(super) protocol: u8,
    pub(super) first: u16,
    pub(super) last: u16,
}

/// Stands for the default of the node's own processes, which are let out: the configuration's is for pods.
pub(super) const NODE_DEFAULT: Rank = Rank::MAX;

impl Rule {
    /// Matches everything.
    pub(super) const CLOSED: Self = Self { rank: None, protocol: 0, first: 0, last: u16::MAX };

    const fn covers(&self, other: &Self) -> bool {
        self.protocol == 0
            || (self.protocol == other.protocol && self.first <= other.first && other.last <= self.last)
    }
}

/// What became of one policy of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Somewhere it decides.
    Decides,
    /// Everywhere others come first, this one among them.
    Shadowed(Rank),
}

/// The answer of one set of policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) rules: BTreeMap<Destination, Arc<[Rule]>>,
    /// Without those whose destinations are all of the cluster.
    pub(super) fates: BTreeMap<Rank, Fate>,
    /// Policies with rules beyond the last one that a destination can have.
    pub(super) refused: BTreeSet<Rank>,
}

impl Content {
    /// `internal`: prefixes of the cluster, whose traffic nobody asks about.
    pub(super) fn of(set: &[Rank], order: &Order<'_>, internal: &[IpNet]) -> Self {
        let policies: Vec<(Rank, &EgressPolicy)> =
            set.iter().filter_map(|rank| Some((*rank, order.get(*rank)?))).collect();
        let mut content = Self::default();
        // Of nested prefixes the longer one comes right after those around it.
        let mut around: Vec<(Ipv6Net, Arc<[Rule]>)> = Vec::new();
        for (prefix, own) in prefixes(&policies) {
            if internal.iter().any(|cluster| cluster.contains(&own)) {
                continue;
            }
            let rules = content.rules_at(&policies, &own);
            while around.last().is_some_and(|(outer, _)| !outer.contains(&prefix)) {
                around.pop();
            }
            let before = around.last().map(|(_, rules)| &rules[..]).unwrap_or_default();
            // What would be found without the entry needs none. Of both IP versions a policy may have
            // two numbers.
            let crosses = matches!(own, IpNet::V4(_)) && prefix.prefix_len() == 96;
            if before != rules || (crosses && !rules.is_empty()) {
                let rules: Arc<[Rule]> = rules.into();
                content.rules.insert(own.into(), rules.clone());
                around.push((prefix, rules));
            }
        }
        content
    }

    /// With an answer for everything: of an identity that the data plane does not know as the node's.
    pub(super) fn for_node(&self) -> Self {
        let open = Rule { rank: Some(NODE_DEFAULT), ..Rule::CLOSED };
        let mut content = self.clone();
        let whole = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        for root in whole {
            content.rules.entry(root.into()).or_default();
        }
        for rules in content.rules.values_mut() {
            let decides = rules.iter().any(|rule| rule.protocol == 0);
            if !decides && rules.len() < usize::from(MAX_RULES) {
                *rules = rules.iter().copied().chain([open]).collect();
            }
        }
        content
    }

    fn rules_at(&mut self, policies: &[(Rank, &EgressPolicy)], prefix: &IpNet) -> Vec<Rule> {
        let mut covering: Vec<(u32, Reverse<u8>, Rank, &EgressPolicy)> = policies
            .iter()
            .filter_map(|(rank, policy)| {
                Some((policy.priority, Reverse(covers(policy, prefix)?), *rank, *policy))
            })
            .collect();
        covering.sort_unstable_by_key(|&(priority, length, rank, _)| (priority, length, rank));
        let mut rules: Vec<Rule> = Vec::new();
        for (_, _, rank, policy) in covering {
            for rule in rules_of(rank, policy) {
                match rules.iter().find(|earlier| earlier.covers(&rule)) {
                    Some(earlier) if earlier.rank == Some(rank) => {}
                    Some(earlier) => {
                        let by = earlier.rank.unwrap_or(rank);
                        self.fates.entry(rank).or_insert(Fate::Shadowed(by));
                    }
                    None => {
                        self.fates.insert(rank, Fate::Decides);
                        rules.push(rule);
                    }
                }
            }
        }
        if rules.len() > usize::from(MAX_RULES) {
            let beyond = rules.split_off(usize::from(MAX_RULES) - 1);
            self.refused.extend(beyond.iter().filter_map(|rule| rule.rank));
            rules.push(Rule::CLOSED);
        }
        rules
    }
}

/// Every prefix at which the answer may change, in the one space of the trie and as it was written.
fn prefixes(policies: &[(Rank, &EgressPolicy)]) -> BTreeSet<(Ipv6Net, IpNet)> {
    let written = policies.iter().flat_map(|(_, policy)| policy.to.cidrs.iter().chain(&policy.to.except));
    let mut all: BTreeSet<(Ipv6Net, IpNet)> =
        written.map(|prefix| (Destination::from(*prefix).into(), *prefix)).collect();
    // In the trie IPv4 is inside of ::/0: what is said of IPv6 must end there.
    let whole = IpNet::V4(Ipv4Net::default());
    let root = Ipv6Net::from(Destination::from(whole));
    if all.iter().any(|(prefix, own)| matches!(own, IpNet::V6(_)) && prefix.contains(&root)) {
        all.insert((root, whole));
    }
    all
}

/// The length of the longest destination of the policy around the prefix, if it applies there.
pub(super) fn covers(policy: &EgressPolicy, prefix: &IpNet) -> Option<u8> {
    if policy.to.except.iter().any(|except| except.contains(prefix)) {
        return None;
    }
    let around = policy.to.cidrs.iter().filter(|cidr| cidr.contains(prefix));
    around.map(IpNet::prefix_len).max()
}

pub(super) fn rules_of(rank: Rank, policy: &EgressPolicy) -> Vec<Rule> {
    if policy.to.ports.is_empty() {
        return vec![Rule { rank: Some(rank), ..Rule::CLOSED }];
    }
    let rule = |&PortRange { protocol, first, last }: &PortRange| {
        let protocol = match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        Rule { rank: Some(rank), protocol, first, last }
    };
    policy.to.ports.iter().map(rule).collect()
}
