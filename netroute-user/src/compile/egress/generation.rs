//! Whether a flow that was let out could be judged otherwise now.

use std::collections::BTreeSet;
use std::sync::Arc;

use netroute_common::layout::egress::{DEFAULT_POLICY, IDENTITY_CLUSTER, Identity, Policy, RuleSet};
use netroute_common::layout::service::Address;

use super::image::{Destination, Destinations, EgressImage};

/// The generation of `wanted`: another one than the maps have if anything judged could differ. What is
/// new alone changes nothing for flows that are.
pub(super) fn next(installed: &EgressImage, wanted: &EgressImage, before: Option<u32>) -> u32 {
    let held = installed.default_policy().map_or(0, |policy| policy.generation);
    let settled = before == Some(held);
    let changed = !settled || sources_differ(installed, wanted) || judgement_differs(installed, wanted);
    if changed { held.wrapping_add(1) } else { held }
}

/// A source that was known is another one's, or nobody's.
pub(super) fn sources_differ(installed: &EgressImage, wanted: &EgressImage) -> bool {
    moved(installed, wanted).next().is_some()
}

fn moved<'a>(installed: &'a EgressImage, wanted: &'a EgressImage) -> impl Iterator<Item = &'a Address> {
    let mut kept = wanted.sources.iter().peekable();
    installed.sources.iter().filter_map(move |(address, identity)| {
        while kept.next_if(|(other, _)| *other < address).is_some() {}
        let now = kept.next_if(|(other, _)| *other == address);
        now.is_none_or(|(_, now)| now != identity).then_some(address)
    })
}

fn judgement_differs(installed: &EgressImage, wanted: &EgressImage) -> bool {
    policies_differ(installed, wanted) || destinations_differ(installed, wanted)
}

/// Those that are in both; of others the rules tell.
fn policies_differ(installed: &EgressImage, wanted: &EgressImage) -> bool {
    let judged = |policy: &Policy| Policy { generation: 0, ..*policy };
    let differ = |(index, policy): (&u32, &Policy)| match wanted.policies.get(index) {
        Some(now) => judged(now) != judged(policy),
        None => *index == DEFAULT_POLICY,
    };
    installed.policies.iter().any(differ) || !installed.policies.contains_key(&DEFAULT_POLICY)
}

/// Of an identity that sources have: anything else that a destination meets.
pub(super) fn destinations_differ(installed: &EgressImage, wanted: &EgressImage) -> bool {
    let same = |(identity, before): (&Identity, &Arc<Destinations>)| {
        wanted.destinations.get(identity).is_some_and(|after| Arc::ptr_eq(before, after))
    };
    // Mostly: then nobody has to be asked who has which.
    if installed.destinations.len() == wanted.destinations.len() && installed.destinations.iter().all(same) {
        return false;
    }
    let mut identities: Vec<Identity> = installed.sources.values().copied().collect();
    identities.push(IDENTITY_CLUSTER);
    identities.sort_unstable();
    identities.dedup();
    identities.into_iter().any(|identity| meets_other(installed, wanted, identity))
}

fn meets_other(installed: &EgressImage, wanted: &EgressImage, identity: Identity) -> bool {
    let empty = Arc::new(Destinations::new());
    let before = installed.destinations.get(&identity).unwrap_or(&empty);
    let after = wanted.destinations.get(&identity).unwrap_or(&empty);
    if Arc::ptr_eq(before, after) {
        return false;
    }
    let other = |((one, set), (other, now)): ((&Destination, &RuleSet), (&Destination, &RuleSet))| {
        one != other || set.flags != now.flags || installed.run(set) != wanted.run(now)
    };
    before.len() != after.len() || before.iter().zip(after.iter()).any(other)
}

/// Identities that mean something else now, while sources come to them or go: these would meet what is
/// neither theirs before nor after. The others of the same number are the same ones all along.
pub(super) fn mixed(installed: &EgressImage, wanted: &EgressImage) -> BTreeSet<Identity> {
    let involved: BTreeSet<Identity> = moved(installed, wanted)
        .flat_map(|address| [installed.sources.get(address), wanted.sources.get(address)])
        .flatten()
        .copied()
        .collect();
    let held = |identity: &Identity| {
        installed.destinations.contains_key(identity) || installed.sources.values().any(|one| one == identity)
    };
    involved.into_iter().filter(|one| meets_other(installed, wanted, *one) && held(one)).collect()
}
