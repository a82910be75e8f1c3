//! What is said of each policy.

use std::collections::{BTreeMap, BTreeSet};

use netroute_common::layout::egress::MAX_RULES;

use super::assemble::Assembled;
use super::build::{Group, Parts};
use super::condition::{Condition, PolicyStatus};
use super::content::Fate;
use super::order::Rank;
use super::slots::{Slot, Slots};

/// What the sets that a policy is in say of it.
#[derive(Clone, Default)]
struct Found {
    selects: bool,
    decides: bool,
    shadowed: Option<Rank>,
    conditions: BTreeSet<Condition>,
    pods: usize,
}

pub(super) fn statuses(
    parts: &Parts<'_>,
    assembled: &Assembled,
    slots: &Slots,
) -> BTreeMap<String, PolicyStatus> {
    let mut found = vec![Found::default(); parts.judged.len()];
    for group in &parts.groups {
        let ranks = parts.sources.sets.get(group.set as usize);
        for rank in ranks.into_iter().flat_map(|ranks| ranks.iter()) {
            if let Some(found) = found.get_mut(*rank as usize) {
                found.add(*rank, group, parts, assembled);
            }
        }
    }
    let limit = parts.inputs.limits.egress_policies;
    let status = |(rank, policy): (Rank, &crate::desired::egress::EgressPolicy)| {
        let judged = parts.judged.get(rank as usize)?;
        let Found { selects, decides, shadowed, conditions, pods } =
            std::mem::take(found.get_mut(rank as usize)?);
        let mut all = judged.conditions.clone();
        let slot = |denied| Slot { policy: policy.name.clone(), denied };
        if !slots.ids.contains_key(&slot(false)) {
            all.push(Condition::PoliciesFull { limit });
        }
        all.extend(conditions);
        match shadowed.and_then(|by| parts.order.get(by)) {
            _ if decides => {}
            Some(by) => all.push(Condition::ShadowedBy(by.name.clone())),
            None if selects => all.push(Condition::ClusterInternal),
            None => all.push(Condition::SelectsNothing),
        }
        let stats = [false, true].into_iter().filter_map(|denied| slots.ids.get(&slot(denied)).copied());
        Some((policy.name.clone(), PolicyStatus { conditions: all, stats: stats.collect(), pods }))
    };
    parts.order.ranked().filter_map(status).collect()
}

impl Found {
    fn add(&mut self, rank: Rank, group: &Group, parts: &Parts<'_>, assembled: &Assembled) {
        self.selects = true;
        if group.owner == super::sources::Owner::Pod {
            self.pods += parts.sources.pods.get(group.set as usize).copied().unwrap_or_default();
        }
        match group.content.fates.get(&rank) {
            Some(Fate::Decides) => self.decides = true,
            Some(Fate::Shadowed(by)) => drop(self.shadowed.get_or_insert(*by)),
            None => {}
        }
        if group.content.refused.contains(&rank) {
            self.conditions.insert(Condition::TooManyRules { limit: MAX_RULES });
        }
        self.conditions.extend(assembled.closed.get(&(group.owner, group.set)).cloned());
    }
}
