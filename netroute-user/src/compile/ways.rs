//! The next hops that egress policies name, as groups: the same way as those of custom routes, but
//! under no prefix, and not in the kernel's FIB.

use std::collections::BTreeSet;

use super::Gateway;
use super::build::Builder;
use super::candidate::{Candidate, by_metric, members};
use super::egress::condition::Condition;
use super::egress::vias::{AllWays, Way, Ways};
use super::health::Health;
use super::place;
use crate::desired::egress::{Effect, Via};
use crate::desired::service::Family;
use crate::kernel::Link;

impl<'a> Builder<'a> {
    pub(super) fn ways(&mut self) -> AllWays {
        let policies = &self.inputs.desired.cluster.egress_policies;
        let effects = policies.values().filter_map(|policy| Some((policy, policy.effect.as_ref().ok()?)));
        let named = effects.filter(|(_, effect)| !effect.via.is_empty());
        named.map(|(policy, effect)| (policy.name.clone(), self.ways_of(effect))).collect()
    }

    fn ways_of(&mut self, effect: &'a Effect) -> Ways {
        let mut ways = Ways { of: [Way::NotGiven; 2], interfaces: BTreeSet::new(), conditions: Vec::new() };
        for (at, family) in [Family::V4, Family::V6].into_iter().enumerate() {
            let mut vias: Vec<&Via> =
                effect.via.iter().filter(|via| Family::from(via.next_hop) == family).collect();
            if vias.is_empty() {
                continue;
            }
            vias.sort_by_key(|via| via.metric);
            ways.of[at] = self.group_of(family, &vias, &mut ways.interfaces, &mut ways.conditions);
        }
        ways
    }

    fn group_of(
        &mut self,
        family: Family,
        vias: &[&'a Via],
        interfaces: &mut BTreeSet<(Family, u32)>,
        conditions: &mut Vec<Condition>,
    ) -> Way {
        let mut candidates: Vec<Candidate<'a>> = Vec::new();
        for via in vias {
            let refused = |reason| Condition::Via { via: (*via).clone(), reason };
            let link = match place::named(self.inputs, &self.interfaces, &via.interface, false) {
                Ok(link) => link,
                Err((_, reason)) => {
                    conditions.push(refused(reason));
                    continue;
                }
            };
            match self.via(via, link) {
                Ok(one) if candidates.iter().any(|other| other.next_hop == one.next_hop) => {}
                Ok(one) => {
                    if let Some(Health::Down(reason)) = &one.health {
                        conditions.push(refused(reason.clone()));
                    }
                    interfaces.insert((family, link.index));
                    candidates.push(one);
                }
                Err(reason) => conditions.push(refused(reason)),
            }
        }
        if candidates.is_empty() {
            return Way::Unusable;
        }
        let down = |one: &Candidate<'_>| matches!(one.health, Some(Health::Down(_)));
        if let Some(first) = vias.first().filter(|_| candidates.iter().all(down)) {
            conditions.push(Condition::Down((*first).clone()));
        }
        match self.group(&members(&candidates)) {
            Some(group) => Way::Group(group),
            None => {
                if let Some(via) = vias.first() {
                    let limit = self.inputs.limits.groups;
                    let reason = format!("the group table is full: raise limits.groups (now {limit})");
                    conditions.push(Condition::Via { via: (*via).clone(), reason });
                }
                Way::Unusable
            }
        }
    }

    fn via(&mut self, via: &Via, link: &Link) -> Result<Candidate<'a>, String> {
        let gateway = Gateway { ifindex: link.index, address: via.next_hop };
        self.keep.insert(gateway);
        if let Some(probe) = self.inputs.desired.egress_settings.probe {
            self.probes.entry(gateway).or_insert(probe);
        }
        let resolved = self.next_hops.neighbour(link, via.next_hop).ok_or_else(|| self.no_next_hop(link))?;
        Ok(Candidate {
            rank: by_metric(via.metric),
            next_hop: resolved.id,
            weight: 1,
            health: Some(resolved.health),
            custom: None,
        })
    }
}
