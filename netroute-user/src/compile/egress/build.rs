//! From policies, pods and the node's state to the image.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use netroute_common::layout::egress::{
    ACTION_ALLOW, DEFAULT_POLICY, Identity, POLICY_OWN_SOURCES, Policy, SnatAddress,
};
use netroute_common::layout::service::Address;

use super::assemble::Assembled;
use super::content::Content;
use super::identities::{self, Who};
use super::image::EgressImage;
use super::memory::Memory;
use super::order::Order;
use super::policies::{Judge, Judged};
use super::runs::Runs;
use super::slots::{Slot, Slots};
use super::sources::{Owner, SetId, Sources};
use super::vias::AllWays;
use super::{Egress, cluster, generation, statuses};
use crate::compile::Inputs;
use crate::compile::interfaces::Interfaces;
use crate::compile::services::image::mapped;
use crate::desired::egress::DefaultEgress;

/// Sources that are selected alike.
pub(super) struct Group {
    pub(super) owner: Owner,
    pub(super) set: SetId,
    pub(super) who: Who,
    pub(super) content: Arc<Content>,
}

/// What the image is put together from.
pub(super) struct Parts<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) before: &'a Memory,
    pub(super) order: &'a Order<'a>,
    pub(super) sources: &'a Sources,
    /// The first are those that the first policies select: they get what room there is.
    pub(super) groups: Vec<Group>,
    /// The addresses of each, where nobody remembers their numbers.
    members: BTreeMap<Who, Vec<Address>>,
    /// Who has all of the node's addresses.
    whole_node: Option<Who>,
    /// In the order of policies.
    pub(super) judged: Vec<Judged>,
    pub(super) snat: BTreeMap<u32, Arc<[SnatAddress]>>,
}

/// The image of egress policies, and what it came to.
#[must_use]
pub(in crate::compile) fn build(
    inputs: &Inputs<'_>,
    interfaces: &Interfaces,
    ways: &AllWays,
) -> (EgressImage, Egress) {
    let policies = &inputs.desired.cluster.egress_policies;
    if policies.is_empty() && inputs.desired.egress_settings.default == DefaultEgress::Allow {
        return nothing(inputs);
    }
    let order = Order::of(policies);
    let before = inputs.egress;
    let sources = Sources::of(inputs, interfaces, &order, before);
    let snat = Runs::new(&inputs.installed.egress.snat, inputs.limits.snat);
    let mut judge = Judge { inputs, interfaces, ways, snat };
    let judged: Vec<Judged> = order.0.iter().map(|policy| judge.judge(policy)).collect();
    let refused = |judged: &Judged| {
        judged.conditions.iter().any(|one| matches!(one, super::condition::Condition::SnatFull { .. }))
    };
    let snat_again = judged.iter().any(refused) && judge.snat.has_more_later();
    let internal = cluster::internal(inputs);
    let (groups, contents) = groups(inputs, &order, &sources, before, &internal);
    let (members, whole_node) = members(&sources, &groups, before);
    let snat = judge.snat.finish();
    let parts =
        Parts { inputs, before, order: &order, sources: &sources, groups, members, whole_node, judged, snat };

    let Numbering { slots, identities, assembled } = parts.numbered();
    let (unplaced, again) = (assembled.unplaced, assembled.again || snat_again);
    let generation = if again {
        // On the way only: flows that the next compilation finds room for are not to end.
        inputs.installed.egress.default_policy().map_or(0, |policy| policy.generation)
    } else {
        generation::next(&inputs.installed.egress, &assembled.image, before.generation)
    };
    let statuses = statuses::statuses(&parts, &assembled, &slots);
    let Assembled { mut image, numbered, numbers, .. } = assembled;
    if let Some(default) = image.policies.get_mut(&DEFAULT_POLICY) {
        default.generation = generation;
    }
    let memory = Memory {
        generation: (!again).then_some(generation),
        slots,
        identities,
        policies: policies.clone(),
        namespaces: inputs.desired.cluster.namespaces.clone(),
        known: sources.known,
        sets: sources.sets,
        internal,
        contents,
        numbered,
        numbers,
    };
    (image, Egress { memory: Arc::new(memory), statuses, unplaced, again })
}

/// No policy is there. Numbers go on: flows may carry them.
fn nothing(inputs: &Inputs<'_>) -> (EgressImage, Egress) {
    let installed = &inputs.installed.egress;
    let flags = own_sources(inputs);
    let held = match installed.default_policy() {
        None if flags == 0 => return (EgressImage::default(), Egress::default()),
        held => held.map_or(0, |policy| policy.generation),
    };
    let generation = held.wrapping_add(u32::from(installed.in_force()));
    let default = Policy { generation, action: ACTION_ALLOW, flags, ..Policy::default() };
    let image = EgressImage { policies: [(DEFAULT_POLICY, default)].into(), ..EgressImage::default() };
    let limit = inputs.limits.egress_policies;
    let slots = inputs.egress.slots.next(&[], &BTreeSet::new(), installed, limit);
    let memory = Memory { generation: Some(generation), slots, ..Memory::default() };
    (image, Egress { memory: Arc::new(memory), ..Egress::default() })
}

/// Of the default policy, whether others are in force or not.
pub(super) fn own_sources(inputs: &Inputs<'_>) -> u8 {
    if inputs.desired.egress_settings.own_sources { POLICY_OWN_SOURCES } else { 0 }
}

fn groups(
    inputs: &Inputs<'_>,
    order: &Order<'_>,
    sources: &Sources,
    before: &Memory,
    internal: &[ipnet::IpNet],
) -> (Vec<Group>, BTreeMap<SetId, Arc<Content>>) {
    let cluster = &inputs.desired.cluster;
    let same = before.has(&cluster.egress_policies, &cluster.namespaces) && before.internal == *internal;
    let mut used: Vec<(Owner, SetId)> =
        sources.addresses.iter().map(|(_, owner, set)| (*owner, *set)).collect();
    used.sort_unstable();
    used.dedup();
    // The data plane knows one identity as the node's.
    let node_is_split = used.iter().filter(|(owner, _)| *owner == Owner::Node).count() > 1;
    let mut contents: BTreeMap<SetId, Arc<Content>> = BTreeMap::new();
    let mut groups = Vec::with_capacity(used.len());
    for (owner, set) in used {
        let Some(ranks) = sources.sets.get(set as usize) else { continue };
        let content = contents.entry(set).or_insert_with(|| {
            let known = before.contents.get(&set).filter(|_| same);
            known.cloned().unwrap_or_else(|| Arc::new(Content::of(ranks, order, internal)))
        });
        let who = Who::Sources(owner, order.names(ranks));
        let content = match owner {
            Owner::Node if node_is_split => Arc::new(content.for_node()),
            Owner::Node | Owner::Pod => content.clone(),
        };
        groups.push(Group { owner, set, who, content });
    }
    groups.sort_by(|one, other| {
        let key = |group: &Group| (sources.sets.get(group.set as usize), group.owner);
        key(one).cmp(&key(other))
    });
    (groups, contents)
}

/// Who there is: the addresses of each, and who has the number of the node.
fn members(
    sources: &Sources,
    groups: &[Group],
    before: &Memory,
) -> (BTreeMap<Who, Vec<Address>>, Option<Who>) {
    let mut members: BTreeMap<Who, Vec<Address>> =
        groups.iter().map(|group| (group.who.clone(), Vec::new())).collect();
    if before.identities.is_empty() {
        let whos: BTreeMap<(Owner, SetId), &Who> =
            groups.iter().map(|group| ((group.owner, group.set), &group.who)).collect();
        for (address, owner, set) in &sources.addresses {
            if let Some(list) = whos.get(&(*owner, *set)).and_then(|who| members.get_mut(*who)) {
                list.push(mapped(*address));
            }
        }
    }
    let mut of_node = groups.iter().filter(|group| group.owner == Owner::Node);
    let whole_node = of_node.next().filter(|_| of_node.next().is_none());
    (members, whole_node.map(|group| group.who.clone()))
}

/// An image with its numbers.
struct Numbering {
    slots: Slots,
    identities: BTreeMap<Who, Identity>,
    assembled: Assembled,
}

impl Parts<'_> {
    /// Numbers for policies and identities, and the image with them. What cannot go from one meaning to
    /// the other in place gets another number, until nothing is left that a packet could meet half done.
    fn numbered(&self) -> Numbering {
        let installed = &self.inputs.installed.egress;
        let limit = self.inputs.limits.egress_policies;
        let wanted = self.slots();
        let (mut slots_anew, mut whos_anew) = (BTreeSet::new(), BTreeSet::new());
        let mut recognised = None;
        loop {
            let before = &self.before.identities;
            let whole_node = self.whole_node.as_ref();
            let identities = identities::number(before, &whos_anew, &self.members, whole_node, installed);
            let held = if self.before.slots == Slots::default() {
                &*recognised.get_or_insert_with(|| self.recognised(&identities))
            } else {
                &self.before.slots
            };
            let slots = held.next(&wanted, &slots_anew, installed, limit);
            let assembled = self.assemble(&slots, &identities);
            let known = slots_anew.len() + whos_anew.len();
            slots_anew.extend(changed(held, &slots, installed, &assembled.image));
            let mixed = generation::mixed(installed, &assembled.image);
            let whos = identities.iter().filter(|(who, id)| self.may_move(who) && mixed.contains(id));
            whos_anew.extend(whos.map(|(who, _)| who.clone()));
            if slots_anew.len() + whos_anew.len() == known {
                return Numbering { slots, identities, assembled };
            }
        }
    }

    /// The node's number is fixed, and what is closed means the same always.
    fn may_move(&self, who: &Who) -> bool {
        *who != Who::Closed && self.whole_node.as_ref() != Some(who)
    }

    /// In the order in which they get numbers.
    fn slots(&self) -> Vec<Slot> {
        let slot = |policy: &str, denied| Slot { policy: policy.to_owned(), denied };
        let mut of_node = self.groups.iter().filter(|group| group.owner == Owner::Node);
        let of_node = of_node.any(|_| self.whole_node.is_none()).then(Slot::of_node);
        let main = self.order.0.iter().map(|policy| slot(&policy.name, false));
        let halves = self.order.0.iter().zip(&self.judged);
        let halves = halves.filter(|(_, judged)| judged.denied.contains(&true));
        of_node.into_iter().chain(main).chain(halves.map(|(policy, _)| slot(&policy.name, true))).collect()
    }
}

/// Policies that do something else now, where rules or sources change as well. They are written before
/// their rules are: packets of the old rules would meet what the new ones are for.
fn changed(held: &Slots, slots: &Slots, installed: &EgressImage, wanted: &EgressImage) -> Vec<Slot> {
    let other = |(slot, id): (&Slot, &u32)| {
        let before = installed.policies.get(id).filter(|_| held.ids.get(slot) == Some(id))?;
        (wanted.policies.get(id) != Some(before)).then(|| slot.clone())
    };
    let changed: Vec<Slot> = slots.ids.iter().filter_map(other).collect();
    let moved = || {
        generation::sources_differ(installed, wanted) || generation::destinations_differ(installed, wanted)
    };
    if changed.is_empty() || !moved() { Vec::new() } else { changed }
}
