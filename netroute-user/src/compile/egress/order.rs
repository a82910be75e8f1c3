//! The total order of policies (E1), but for the length of the destination prefix, which only a
//! destination has.

use std::collections::BTreeMap;

use crate::desired::egress::EgressPolicy;

/// Place of a policy in the order of priority, age and name.
pub(super) type Rank = u32;

/// All policies, the first to be asked first.
#[derive(Clone, Debug, Default)]
pub(super) struct Order<'a>(pub(super) Vec<&'a EgressPolicy>);

impl<'a> Order<'a> {
    pub(super) fn of(policies: &'a BTreeMap<String, EgressPolicy>) -> Self {
        let mut order: Vec<&EgressPolicy> = policies.values().collect();
        // What has no age is no older than what has.
        order.sort_by_key(|policy| (policy.priority, policy.created.is_none(), policy.created, &policy.name));
        Self(order)
    }

    pub(super) fn get(&self, rank: Rank) -> Option<&'a EgressPolicy> {
        self.0.get(rank as usize).copied()
    }

    pub(super) fn ranked(&self) -> impl Iterator<Item = (Rank, &'a EgressPolicy)> + '_ {
        (0..).zip(self.0.iter().copied())
    }

    /// One a line.
    pub(super) fn names(&self, set: &[Rank]) -> String {
        let mut names = String::new();
        for policy in set.iter().filter_map(|rank| self.get(*rank)) {
            names.push_str(&policy.name);
            names.push('\n');
        }
        names
    }
}
