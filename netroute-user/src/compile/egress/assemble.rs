//! The image, once every policy has its number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use netroute_common::layout::egress::{
    ACTION_ALLOW, ACTION_DENY, ACTION_MASQUERADE, DEFAULT_POLICY, EgressRule, IDENTITY_CLUSTER, Identity,
    POLICY_IN_FORCE, Policy, RuleSet,
};

use super::build::{Parts, own_sources};
use super::condition::Condition;
use super::content::{Content, NODE_DEFAULT, Rule};
use super::identities::Who;
use super::image::{Destination, Destinations, EgressImage};
use super::memory::Numbered;
use super::order::Rank;
use super::policies::DEGRADED;
use super::room::Room;
use super::runs::Runs;
use super::slots::{CLOSED_POLICY, Slot, Slots};
use super::sources::{Owner, SetId};
use crate::compile::services::image::mapped;
use crate::desired::egress::DefaultEgress;

/// An image, and what it left out.
pub(super) struct Assembled {
    pub(super) image: EgressImage,
    pub(super) numbered: BTreeMap<Identity, Numbered>,
    pub(super) numbers: Vec<[u32; 2]>,
    /// Sources of these sets send nothing out of the cluster, and why.
    pub(super) closed: BTreeMap<(Owner, SetId), Condition>,
    pub(super) unplaced: usize,
    pub(super) again: bool,
}

/// What entries and rules take their places from.
struct Placing<'a> {
    room: Room<'a>,
    rules: Runs<EgressRule>,
    /// Policies have the numbers that they had.
    same: bool,
    numbers: Vec<[u32; 2]>,
}

impl Placing<'_> {
    /// Everything is denied.
    fn closed(&mut self, identity: Identity) -> Destinations {
        let run: Arc<[EgressRule]> = [rule(&Rule::CLOSED, CLOSED_POLICY)].into();
        let first = self.rules.place_all([&run]).and_then(|firsts| firsts.first().copied());
        let whole = Destination::default();
        self.room.take(identity, [whole].iter());
        // Without a place for its rule it leads to none, and a source must not have it.
        first.map(|first| (whole, RuleSet { first, count: 1, flags: 0 })).into_iter().collect()
    }
}

/// Whether entries go that others wait for.
fn leaves_room(installed: &EgressImage, wanted: &EgressImage) -> bool {
    installed.destinations.iter().any(|(identity, before)| match wanted.destinations.get(identity) {
        None => !before.is_empty(),
        Some(after) => !Arc::ptr_eq(before, after) && before.keys().any(|one| !after.contains_key(one)),
    })
}

impl Parts<'_> {
    pub(super) fn assemble(&self, slots: &Slots, identities: &BTreeMap<Who, Identity>) -> Assembled {
        let limits = self.inputs.limits;
        let installed = &self.inputs.installed.egress;
        let mut image = EgressImage { policies: self.entries(slots), ..EgressImage::default() };
        let mut placing = Placing {
            room: Room::new(installed, limits.egress),
            rules: Runs::new(&installed.rules, limits.egress_rules),
            same: false,
            numbers: self.numbers(slots),
        };
        placing.same = self.before.numbers == placing.numbers;
        // Always there: whoever finds no room needs none.
        let identity = identities.get(&Who::Closed).copied().unwrap_or_default();
        image.destinations.insert(identity, self.kept(identity, placing.closed(identity)));
        let cluster = super::cluster::destinations(self.inputs, self.sources, &mut placing.room);
        image.destinations.insert(IDENTITY_CLUSTER, self.kept(IDENTITY_CLUSTER, cluster));

        let (mut numbered, mut closed) = (BTreeMap::new(), BTreeMap::new());
        for group in &self.groups {
            let Some(&identity) = identities.get(&group.who) else { continue };
            match self.place(&mut placing, identity, &group.content) {
                Ok(found) => {
                    if !found.destinations.is_empty() {
                        image.destinations.insert(identity, found.destinations.clone());
                    }
                    numbered.insert(identity, found);
                }
                Err(condition) => drop(closed.insert((group.owner, group.set), condition)),
            }
        }
        let unplaced = self.place_sources(&mut image, identities, &closed);
        let Placing { room, rules, numbers, .. } = placing;
        let refused = |of: fn(&Condition) -> bool| closed.values().any(of);
        let again = (refused(|why| matches!(why, Condition::RulesFull { .. })) && rules.has_more_later())
            || (room.crowded && leaves_room(installed, &image));
        image.rules = rules.finish();
        image.snat.clone_from(&self.snat);
        Assembled { image, numbered, numbers, closed, unplaced, again }
    }

    fn place(
        &self,
        placing: &mut Placing<'_>,
        identity: Identity,
        content: &Arc<Content>,
    ) -> Result<Numbered, Condition> {
        let (limits, installed) = (self.inputs.limits, &self.inputs.installed.egress);
        let held = installed.destinations.get(&identity);
        let known = self.before.numbered.get(&identity).filter(|known| {
            placing.same
                && Arc::ptr_eq(&known.content, content)
                && held.map_or(known.destinations.is_empty(), |held| Arc::ptr_eq(held, &known.destinations))
        });
        let fits = match known {
            Some(known) => placing.room.keep(known.destinations.len()),
            None => placing.room.take(identity, content.rules.keys()),
        };
        if !fits {
            return Err(Condition::EgressFull { limit: limits.egress });
        }
        let placed = match known {
            Some(known) if placing.rules.keep(&known.firsts, &installed.rules) => Some(known.clone()),
            _ => self.number(content, identity, placing),
        };
        placed.ok_or(Condition::RulesFull { limit: limits.egress_rules })
    }

    /// The number of each policy, by IP version; the last is of what lets the node out.
    fn numbers(&self, slots: &Slots) -> Vec<[u32; 2]> {
        let number = |policy: &str, denied| {
            let slot = Slot { policy: policy.to_owned(), denied };
            slots.ids.get(&slot).copied().unwrap_or(CLOSED_POLICY)
        };
        let of_one =
            |(judged, policy): (&super::policies::Judged, &&crate::desired::egress::EgressPolicy)| {
                let main = number(&policy.name, false);
                judged.denied.map(|denied| if denied { number(&policy.name, true) } else { main })
            };
        let of_node = slots.ids.get(&Slot::of_node()).copied().unwrap_or(CLOSED_POLICY);
        self.judged.iter().zip(&self.order.0).map(of_one).chain([[of_node; 2]]).collect()
    }

    fn entries(&self, slots: &Slots) -> BTreeMap<u32, Policy> {
        let action = match self.inputs.desired.egress_settings.default {
            DefaultEgress::Allow => ACTION_ALLOW,
            DefaultEgress::Masquerade => ACTION_MASQUERADE,
            DefaultEgress::Deny => ACTION_DENY,
        };
        let default =
            Policy { action, flags: POLICY_IN_FORCE | own_sources(self.inputs), ..Policy::default() };
        let mut entries = BTreeMap::from([(DEFAULT_POLICY, default), (CLOSED_POLICY, DEGRADED)]);
        if let Some(id) = slots.ids.get(&Slot::of_node()) {
            entries.insert(*id, Policy { action: ACTION_ALLOW, ..Policy::default() });
        }
        for (judged, policy) in self.judged.iter().zip(&self.order.0) {
            for denied in [false, true] {
                let slot = Slot { policy: policy.name.clone(), denied };
                if let Some(id) = slots.ids.get(&slot) {
                    entries.insert(*id, if denied { DEGRADED } else { judged.entry });
                }
            }
        }
        entries
    }

    /// The content with numbers; `None` if there is no room for its rules.
    fn number(
        &self,
        content: &Arc<Content>,
        identity: Identity,
        placing: &mut Placing<'_>,
    ) -> Option<Numbered> {
        let Placing { numbers, rules, .. } = placing;
        let policy = |rank: Option<Rank>, family: usize| {
            let of = rank.and_then(|rank| match rank {
                NODE_DEFAULT => numbers.last(),
                rank => numbers.get(rank as usize),
            });
            of.map_or(CLOSED_POLICY, |of| of[family])
        };
        // Of one content for many destinations there is one run.
        let mut different: BTreeMap<(&[Rule], usize), Arc<[EgressRule]>> = BTreeMap::new();
        let mut runs: Vec<(Destination, Arc<[EgressRule]>)> = Vec::with_capacity(content.rules.len());
        for (destination, list) in &content.rules {
            let family = usize::from(!destination.is_v4());
            let run = different
                .entry((list, family))
                .or_insert_with(|| list.iter().map(|one| rule(one, policy(one.rank, family))).collect());
            runs.push((*destination, run.clone()));
        }
        let firsts = rules.place_all(runs.iter().map(|(_, run)| run))?;
        let set = |run: &Arc<[EgressRule]>, first| {
            let count = u16::try_from(run.len()).unwrap_or(u16::MAX);
            RuleSet { first, count, flags: 0 }
        };
        let entries = runs.iter().zip(&firsts);
        let destinations = entries.map(|((destination, run), first)| (*destination, set(run, *first)));
        let mut used: Vec<u32> = runs
            .iter()
            .zip(&firsts)
            .filter(|((_, run), _)| !run.is_empty())
            .map(|(_, first)| *first)
            .collect();
        used.sort_unstable();
        used.dedup();
        Some(Numbered {
            content: content.clone(),
            destinations: self.kept(identity, destinations.collect()),
            firsts: used.into(),
        })
    }

    /// That of the maps if it is the same: then nothing has to be compared later.
    fn kept(&self, identity: Identity, destinations: Destinations) -> Arc<Destinations> {
        let installed = self.inputs.installed.egress.destinations.get(&identity);
        match installed.filter(|installed| ***installed == destinations) {
            Some(installed) => installed.clone(),
            None => Arc::new(destinations),
        }
    }

    /// The node's own first. Says how many find no room.
    fn place_sources(
        &self,
        image: &mut EgressImage,
        identities: &BTreeMap<Who, Identity>,
        closed: &BTreeMap<(Owner, SetId), Condition>,
    ) -> usize {
        let of_closed = identities.get(&Who::Closed).copied();
        let of_closed = of_closed.filter(|id| image.destinations.get(id).is_some_and(|one| !one.is_empty()));
        let groups = self.groups.iter().filter_map(|group| {
            let key = (group.owner, group.set);
            let own = identities.get(&group.who).copied();
            Some((key, if closed.contains_key(&key) { of_closed? } else { own? }))
        });
        let of_groups: BTreeMap<(Owner, SetId), Identity> = groups.collect();
        let all = &self.sources.addresses;
        let mut placed: Vec<_> = Vec::with_capacity(all.len());
        for wanted in [Owner::Node, Owner::Pod] {
            let of_owner = all.iter().filter(|(_, owner, _)| *owner == wanted);
            placed.extend(of_owner.filter_map(|(address, owner, set)| {
                Some((mapped(*address), *of_groups.get(&(*owner, *set))?))
            }));
        }
        let found = placed.len();
        placed.truncate(self.inputs.limits.sources as usize);
        let unplaced = found - placed.len();
        image.sources = placed.into_iter().collect();
        unplaced
    }

    /// After a start: numbers that the maps tell, by where their rules are.
    pub(super) fn recognised(&self, identities: &BTreeMap<Who, Identity>) -> Slots {
        let installed = &self.inputs.installed.egress;
        let mut votes: BTreeMap<Slot, u32> = BTreeMap::new();
        let mut taken: BTreeSet<u32> = [DEFAULT_POLICY, CLOSED_POLICY].into();
        for group in &self.groups {
            let identity = identities.get(&group.who);
            let Some(before) = identity.and_then(|identity| installed.destinations.get(identity)) else {
                continue;
            };
            for (destination, list) in &group.content.rules {
                let run = before.get(destination).map(|set| installed.run(set)).unwrap_or_default();
                let alike = |(rule, entry): (&Rule, &EgressRule)| *entry == self::rule(rule, entry.policy);
                if run.len() != list.len() || !list.iter().zip(run).all(alike) {
                    continue;
                }
                for (rule, entry) in list.iter().zip(run) {
                    let Some(slot) = self.slot(rule.rank, destination.is_v4()) else { continue };
                    if !votes.contains_key(&slot) && taken.insert(entry.policy) {
                        votes.insert(slot, entry.policy);
                    }
                }
            }
        }
        Slots::of(votes)
    }

    fn slot(&self, rank: Option<Rank>, v4: bool) -> Option<Slot> {
        let rank = rank?;
        if rank == NODE_DEFAULT {
            return Some(Slot::of_node());
        }
        let judged = self.judged.get(rank as usize)?;
        let denied = judged.denied[usize::from(!v4)];
        Some(Slot { policy: self.order.get(rank)?.name.clone(), denied })
    }
}

const fn rule(rule: &Rule, policy: u32) -> EgressRule {
    let Rule { rank: _, protocol, first, last } = *rule;
    EgressRule { policy, first_port: first, last_port: last, protocol, zero: [0; 3] }
}
