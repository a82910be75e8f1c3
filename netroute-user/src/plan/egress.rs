//! The steps of egress policies. What rules name is there before them, rules before the destinations
//! that lead to them, and destinations before the sources that are judged by them; then the generation,
//! by which flows are judged anew. So each packet meets what was before or what comes after (E4).

use std::fmt;
use std::sync::Arc;

use netroute_common::layout::egress::{
    ACTION_DENY, DEFAULT_POLICY, EgressRule, Identity, Policy, RuleSet, SnatAddress,
};
use netroute_common::layout::service::Address;

use super::Step;
use super::diff::{changed, gone};
use crate::compile::egress::image::{Destination, Destinations, EgressImage};
use crate::compile::services::image::unmapped;

/// One write to a map of egress policies; of runs, several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressStep {
    SetSnat {
        first: u32,
        addresses: Arc<[SnatAddress]>,
    },
    SetRules {
        first: u32,
        rules: Arc<[EgressRule]>,
    },
    /// Zeroes a counter before another policy takes it.
    ResetStats {
        policy: u32,
    },
    SetPolicy {
        index: u32,
        policy: Policy,
    },
    SetDestination {
        identity: Identity,
        destination: Destination,
        rules: RuleSet,
    },
    SetSource {
        address: Address,
        identity: Identity,
    },
    RemoveSource {
        address: Address,
    },
    RemoveDestination {
        identity: Identity,
        destination: Destination,
    },
    /// The default policy, and with it the generation.
    SetDefault {
        policy: Policy,
    },
    /// Overwrites with zeroes.
    ClearPolicy {
        index: u32,
    },
    /// Nothing is written: a packet under way may still read them.
    FreeRules {
        first: u32,
    },
    FreeSnat {
        first: u32,
    },
}

/// Everything that is new or other than it was, but for the default policy.
pub(super) fn additions<'a>(
    installed: &'a EgressImage,
    wanted: &'a EgressImage,
) -> impl Iterator<Item = Step> + 'a {
    // With nothing in force nothing is missed: then sources may go first.
    let off = default(installed, wanted).filter(|_| !wanted.in_force());
    let off = off.or_else(|| closing(installed, wanted));
    let snat = changed(&installed.snat, &wanted.snat)
        .map(|(&first, addresses)| EgressStep::SetSnat { first, addresses: addresses.clone() });
    let new = gone(&wanted.policies, &installed.policies).filter(|index| **index != DEFAULT_POLICY);
    let counters = new.map(|&policy| EgressStep::ResetStats { policy });
    let policies = changed(&installed.policies, &wanted.policies)
        .filter(|(index, _)| **index != DEFAULT_POLICY)
        .map(|(&index, &policy)| EgressStep::SetPolicy { index, policy });
    let rules = changed(&installed.rules, &wanted.rules)
        .map(|(&first, rules)| EgressStep::SetRules { first, rules: rules.clone() });
    let sources = changed(&installed.sources, &wanted.sources)
        .map(|(&address, &identity)| EgressStep::SetSource { address, identity });
    let named = snat.chain(counters).chain(policies).chain(rules);
    let destinations = set(installed, wanted).chain(removed(installed, wanted, Of::Staying));
    off.into_iter().chain(named).chain(destinations).chain(sources).map(Step::Egress)
}

/// Everything that is no more, and then the default policy.
pub(super) fn removals<'a>(
    installed: &'a EgressImage,
    wanted: &'a EgressImage,
) -> impl Iterator<Item = Step> + 'a {
    let sources =
        gone(&installed.sources, &wanted.sources).map(|&address| EgressStep::RemoveSource { address });
    let on = default(installed, wanted).filter(|_| wanted.in_force());
    let policies = gone(&installed.policies, &wanted.policies)
        .filter(|index| **index != DEFAULT_POLICY)
        .map(|&index| EgressStep::ClearPolicy { index });
    let rules = gone(&installed.rules, &wanted.rules).map(|&first| EgressStep::FreeRules { first });
    let snat = gone(&installed.snat, &wanted.snat).map(|&first| EgressStep::FreeSnat { first });
    let steps = sources.chain(removed(installed, wanted, Of::Leaving)).chain(on);
    steps.chain(policies).chain(rules).chain(snat).map(Step::Egress)
}

fn default(installed: &EgressImage, wanted: &EgressImage) -> Option<EgressStep> {
    let former = installed.default_policy().copied().unwrap_or_default();
    let policy = wanted.default_policy().copied().unwrap_or_default();
    (policy != former).then_some(EgressStep::SetDefault { policy })
}

/// Where the default becomes another one, what comes to it and what goes from it would meet the wrong
/// one, whenever it is written: both are denied until all is there. Flows stay as they are.
fn closing(installed: &EgressImage, wanted: &EgressImage) -> Option<EgressStep> {
    let (former, policy) = (installed.default_policy()?, wanted.default_policy()?);
    let other = former.action != policy.action && former.action != ACTION_DENY;
    let policy = Policy { action: ACTION_DENY, ..*former };
    (other && installed.in_force() && wanted.in_force()).then_some(EgressStep::SetDefault { policy })
}

/// Longer prefixes first: until it is their turn, what they cover meets what it met before, and not
/// what a shorter one around them says now.
fn set<'a>(installed: &'a EgressImage, wanted: &'a EgressImage) -> impl Iterator<Item = EgressStep> + 'a {
    changed(&installed.destinations, &wanted.destinations).flat_map(|(&identity, after)| {
        let empty = Destinations::new();
        let before = installed.destinations.get(&identity).map_or(&empty, |before| before);
        let mut found: Vec<EgressStep> = changed(before, after)
            .map(|(&destination, &rules)| EgressStep::SetDestination { identity, destination, rules })
            .collect();
        found.reverse();
        found
    })
}

/// Which identities' destinations.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Staying,
    /// Sources must have left them before.
    Leaving,
}

/// Shorter prefixes first, so that what they covered does not fall to one that goes as well. An identity
/// that stays without destinations is one that its sources are to find empty.
fn removed<'a>(
    installed: &'a EgressImage,
    wanted: &'a EgressImage,
    of: Of,
) -> impl Iterator<Item = EgressStep> + 'a {
    installed.destinations.iter().flat_map(move |(&identity, before)| {
        let empty = Arc::new(Destinations::new());
        let after = wanted.destinations.get(&identity);
        if after.is_some_and(|after| Arc::ptr_eq(before, after)) {
            return Vec::new();
        }
        let stays = after.is_some() || wanted.sources.values().any(|one| *one == identity);
        if stays != (of == Of::Staying) {
            return Vec::new();
        }
        let after = after.unwrap_or(&empty);
        let removed = gone(&**before, &**after);
        removed.map(|&destination| EgressStep::RemoveDestination { identity, destination }).collect()
    })
}

impl EgressStep {
    /// Does to an image what the step does to the maps.
    pub(super) fn apply_to(&self, image: &mut EgressImage) {
        match *self {
            Self::SetSnat { first, ref addresses } => drop(image.snat.insert(first, addresses.clone())),
            Self::SetRules { first, ref rules } => drop(image.rules.insert(first, rules.clone())),
            Self::SetPolicy { index, policy } => drop(image.policies.insert(index, policy)),
            Self::SetDefault { policy } if policy == Policy::default() => {
                image.policies.remove(&DEFAULT_POLICY);
            }
            Self::SetDefault { policy } => drop(image.policies.insert(DEFAULT_POLICY, policy)),
            Self::ClearPolicy { index } => drop(image.policies.remove(&index)),
            Self::SetDestination { identity, destination, rules } => {
                let entry = image.destinations.entry(identity).or_default();
                Arc::make_mut(entry).insert(destination, rules);
            }
            Self::RemoveDestination { identity, destination } => {
                if let Some(entry) = image.destinations.get_mut(&identity) {
                    Arc::make_mut(entry).remove(&destination);
                    if entry.is_empty() {
                        image.destinations.remove(&identity);
                    }
                }
            }
            Self::SetSource { address, identity } => drop(image.sources.insert(address, identity)),
            Self::RemoveSource { address } => drop(image.sources.remove(&address)),
            Self::FreeRules { first } => drop(image.rules.remove(&first)),
            Self::FreeSnat { first } => drop(image.snat.remove(&first)),
            Self::ResetStats { .. } => {}
        }
    }

    /// How many entries it writes.
    pub(super) fn writes(&self) -> usize {
        match self {
            Self::SetSnat { addresses, .. } => addresses.len(),
            Self::SetRules { rules, .. } => rules.len(),
            Self::FreeRules { .. } | Self::FreeSnat { .. } => 0,
            _ => 1,
        }
    }
}

impl fmt::Display for EgressStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetSnat { first, addresses } => {
                write!(f, "set SNAT {first} and {} more", addresses.len().saturating_sub(1))
            }
            Self::SetRules { first, rules } => {
                write!(f, "set EGRESS_RULES {first} and {} more", rules.len().saturating_sub(1))
            }
            Self::ResetStats { policy } => write!(f, "reset EGRESS_STATS {policy}"),
            Self::SetPolicy { index, policy } => {
                let Policy { action, flags, group4, group6, .. } = policy;
                write!(
                    f,
                    "set EGRESS_POLICIES {index} to action {action} flags {flags} groups {group4} {group6}"
                )
            }
            Self::SetDestination { identity, destination, rules } => {
                let prefix = destination.prefix();
                write!(f, "set EGRESS {identity} {prefix} to {} rules", rules.count)
            }
            Self::SetSource { address, identity } => {
                write!(f, "set SOURCES {} to identity {identity}", unmapped(*address))
            }
            Self::RemoveSource { address } => write!(f, "remove SOURCES {}", unmapped(*address)),
            Self::RemoveDestination { identity, destination } => {
                write!(f, "remove EGRESS {identity} {}", destination.prefix())
            }
            Self::SetDefault { policy } => {
                let Policy { action, flags, generation, .. } = policy;
                write!(f, "set EGRESS_POLICIES 0 to action {action} flags {flags} generation {generation}")
            }
            Self::ClearPolicy { index } => write!(f, "clear EGRESS_POLICIES {index}"),
            Self::FreeRules { first } => write!(f, "free EGRESS_RULES {first}"),
            Self::FreeSnat { first } => write!(f, "free SNAT {first}"),
        }
    }
}
