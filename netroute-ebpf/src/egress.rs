//! The maps of egress policies as [`Egress`].

use aya_ebpf::btf_maps::lpm_trie::Key;
use netroute_common::egress::{Egress, EgressEvent};
use netroute_common::layout::egress::{EgressPrefix, EgressRule, Identity, Policy, RuleSet, SnatAddress};
use netroute_common::layout::service::Address;

use crate::maps::{EGRESS, EGRESS_POLICIES, EGRESS_RULES, EGRESS_STATS, SNAT, SOURCES};
use crate::tables::Maps;

/// Prefix length of a whole address under its identity.
const WHOLE_ADDRESS: u32 = 32 + 128;

impl Egress for Maps {
    #[inline(always)]
    fn identity(&self, source: &Address) -> Option<Identity> {
        // SAFETY: one word.
        unsafe { SOURCES.get(source) }.copied()
    }

    #[inline(always)]
    fn rules(&self, destination: &EgressPrefix) -> Option<RuleSet> {
        EGRESS.get(&Key::new(WHOLE_ADDRESS, *destination)).copied()
    }

    #[inline(always)]
    fn rule(&self, index: u32) -> Option<&EgressRule> {
        EGRESS_RULES.get(index)
    }

    #[inline(always)]
    fn policy(&self, index: u32) -> Option<&Policy> {
        EGRESS_POLICIES.get(index)
    }

    #[inline(always)]
    fn snat(&self, index: u32) -> Option<&SnatAddress> {
        SNAT.get(index)
    }

    #[inline(always)]
    fn count_egress(&self, policy: u32, bytes: u32, now: u64, event: EgressEvent) {
        let Some(counter) = EGRESS_STATS.get_ptr_mut(policy) else { return };
        // SAFETY: a per-CPU slot, valid for the whole run; nothing else on this CPU writes it meanwhile.
        unsafe { &mut *counter }.count(bytes, now, event);
    }
}
