//! Egress policies in memory as [`Egress`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::vec::Vec;

use super::tables::HostTables;
use crate::egress::{Egress, EgressEvent};
use crate::layout::egress::{
    EgressCounter, EgressPrefix, EgressRule, Identity, Policy, RuleSet, SnatAddress,
};
use crate::layout::service::Address;

/// The content of the egress maps. An absent entry of an array is one that nobody wrote.
#[derive(Clone, Debug, Default)]
pub struct HostEgress {
    pub sources: BTreeMap<Address, Identity>,
    /// With their prefix length, the identity's 32 bits included.
    pub rule_sets: Vec<(u32, EgressPrefix, RuleSet)>,
    pub rules: BTreeMap<u32, EgressRule>,
    pub policies: BTreeMap<u32, Policy>,
    pub snat: BTreeMap<u32, SnatAddress>,
    pub counted: RefCell<BTreeMap<u32, EgressCounter>>,
}

static ZERO_RULE: EgressRule =
    EgressRule { policy: 0, first_port: 0, last_port: 0, protocol: 0, zero: [0; 3] };

static ZERO_POLICY: Policy = Policy {
    generation: 0,
    group4: 0,
    group6: 0,
    snat4: 0,
    snat6: 0,
    snat4_count: 0,
    snat6_count: 0,
    action: 0,
    flags: 0,
    zero: [0; 2],
};

static ZERO_SNAT: SnatAddress =
    SnatAddress { address: Address::v6([0; 16]), ifindex: 0, first_port: 0, ports: 0 };

impl Egress for HostTables {
    fn identity(&self, source: &Address) -> Option<Identity> {
        self.egress.sources.get(source).copied()
    }

    fn rules(&self, destination: &EgressPrefix) -> Option<RuleSet> {
        let holding = self.egress.rule_sets.iter().filter(|(length, prefix, _)| {
            let keep = length.saturating_sub(32);
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(keep)).unwrap_or(0);
            let bits = |address: Address| u128::from_be_bytes(address.octets) & mask;
            prefix.identity == destination.identity && bits(prefix.address) == bits(destination.address)
        });
        holding.max_by_key(|(length, ..)| *length).map(|(.., set)| *set)
    }

    fn rule(&self, index: u32) -> Option<&EgressRule> {
        Some(self.egress.rules.get(&index).unwrap_or(&ZERO_RULE))
    }

    fn policy(&self, index: u32) -> Option<&Policy> {
        Some(self.egress.policies.get(&index).unwrap_or(&ZERO_POLICY))
    }

    fn snat(&self, index: u32) -> Option<&SnatAddress> {
        Some(self.egress.snat.get(&index).unwrap_or(&ZERO_SNAT))
    }

    fn count_egress(&self, policy: u32, bytes: u32, now: u64, event: EgressEvent) {
        let mut counted = self.egress.counted.borrow_mut();
        counted.entry(policy).or_default().count(bytes, now, event);
    }
}
