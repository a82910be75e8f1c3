//! Egress policies as the maps have them.

use aya::maps::lpm_trie::Key;
use netroute_common::abi;
use netroute_common::egress::{Egress, EgressEvent};
use netroute_common::layout::egress::{EgressPrefix, EgressRule, Identity, Policy, RuleSet, SnatAddress};
use netroute_common::layout::service::Address;

use super::tables::LiveTables;
use super::trace::Stage;

/// Prefix length of a whole address under its identity.
const WHOLE_ADDRESS: u32 = 32 + 128;

impl Egress for LiveTables<'_> {
    fn identity(&self, source: &Address) -> Option<Identity> {
        let identity = self.read(abi::MAP_SOURCES, self.maps.sources.get(source, 0));
        self.note(|trace| trace.identity = Some((*source, identity)));
        identity
    }

    fn rules(&self, destination: &EgressPrefix) -> Option<RuleSet> {
        let key = Key::new(WHOLE_ADDRESS, *destination);
        let found = self.read(abi::MAP_EGRESS, self.maps.destinations.get(&key, 0));
        self.note(|trace| trace.rule_sets.push((*destination, found)));
        found
    }

    fn rule(&self, index: u32) -> Option<&EgressRule> {
        self.rules.get_or(index, |index| self.read(abi::MAP_EGRESS_RULES, self.maps.rules.get(index, 0)))
    }

    fn policy(&self, index: u32) -> Option<&Policy> {
        self.note(|trace| {
            if trace.stage == Stage::Leave {
                trace.policies.push(index);
            }
        });
        let read = |index: &u32| self.read(abi::MAP_EGRESS_POLICIES, self.maps.policies.get(index, 0));
        self.policies.get_or(index, read)
    }

    fn snat(&self, index: u32) -> Option<&SnatAddress> {
        self.snat.get_or(index, |index| self.read(abi::MAP_SNAT, self.maps.snat.get(index, 0)))
    }

    fn count_egress(&self, policy: u32, _bytes: u32, _now: u64, event: EgressEvent) {
        self.note(|trace| trace.counted = Some((policy, event)));
    }
}
