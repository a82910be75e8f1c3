//! Numbers of policies: indices of `EGRESS_POLICIES` and `EGRESS_STATS`, and their names in flows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use netroute_common::layout::egress::DEFAULT_POLICY;

use super::image::EgressImage;

/// Denies what there is no room for.
pub(super) const CLOSED_POLICY: u32 = DEFAULT_POLICY + 1;
const FIRST: u32 = CLOSED_POLICY + 1;

/// What has a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub policy: String,
    /// Of the IP version that is denied while the other one is not.
    pub denied: bool,
}

/// Which policy has which number, and which numbers rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    pub ids: BTreeMap<Slot, u32>,
    /// Numbers whose policy is gone, the one that rests longest first: flows may carry them.
    resting: VecDeque<u32>,
}

impl Slot {
    /// Of what lets the node's own processes out; no policy is without a name.
    pub(super) const fn of_node() -> Self {
        Self { policy: String::new(), denied: false }
    }
}

impl Slots {
    pub(super) const fn of(ids: BTreeMap<Slot, u32>) -> Self {
        Self { ids, resting: VecDeque::new() }
    }

    /// Numbers for these, below `limit`: those they have, but for those that are to have others; else
    /// ones never used; else of those that rest, the one that does so longest. The last ones are left
    /// out when numbers run out.
    pub(super) fn next(
        &self,
        wanted: &[Slot],
        anew: &BTreeSet<Slot>,
        installed: &EgressImage,
        limit: u32,
    ) -> Self {
        let range = FIRST..limit;
        let wanted = &wanted[..wanted.len().min(range.len())];
        let kept = wanted.iter().filter(|slot| !anew.contains(slot));
        let kept = kept.filter_map(|slot| Some((slot.clone(), *self.ids.get(slot)?)));
        let mut ids: BTreeMap<Slot, u32> = kept.filter(|(_, id)| range.contains(id)).collect();

        let given: BTreeSet<u32> = ids.values().copied().collect();
        let rested: BTreeSet<u32> = self.resting.iter().copied().collect();
        let left: BTreeSet<u32> = self.ids.values().chain(installed.policies.keys()).copied().collect();
        let left = left.into_iter().filter(|id| !rested.contains(id));
        let resting = self.resting.iter().copied().chain(left);
        let resting: Vec<u32> = resting.filter(|id| range.contains(id) && !given.contains(id)).collect();

        let known: BTreeSet<u32> = given.iter().chain(&resting).copied().collect();
        let unused = range.clone().filter(|id| !known.contains(id));
        let rested = resting.iter().copied().filter(|id| !installed.policies.contains_key(id));
        let mut free = unused.chain(rested);
        for slot in wanted {
            if ids.contains_key(slot) {
                continue;
            }
            // Rather the same number at once than none.
            let again = || self.ids.get(slot).copied().filter(|id| anew.contains(slot) && range.contains(id));
            if let Some(id) = free.next().or_else(again) {
                ids.insert(slot.clone(), id);
            }
        }
        let given: BTreeSet<u32> = ids.values().copied().collect();
        Self { ids, resting: resting.into_iter().filter(|id| !given.contains(id)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use netroute_common::layout::egress::Policy;

    use super::*;

    fn slots(names: &[&str]) -> Vec<Slot> {
        names.iter().map(|name| Slot { policy: (*name).to_owned(), denied: false }).collect()
    }

    fn holding(slots: &Slots) -> EgressImage {
        let policies = slots.ids.values().map(|id| (*id, Policy::default())).collect();
        EgressImage { policies, ..EgressImage::default() }
    }

    fn numbers(slots: &Slots) -> Vec<(&str, u32)> {
        slots.ids.iter().map(|(slot, id)| (slot.policy.as_str(), *id)).collect()
    }

    #[test]
    fn e7_a_number_rests_before_another_policy_gets_it() {
        let none = BTreeSet::new();
        let first = Slots::default().next(&slots(&["a", "b"]), &none, &EgressImage::default(), 6);
        assert_eq!(numbers(&first), [("a", 2), ("b", 3)]);
        let second = first.next(&slots(&["b", "c"]), &none, &holding(&first), 6);
        assert_eq!(numbers(&second), [("b", 3), ("c", 4)]);
        let third = second.next(&slots(&["c", "d", "e"]), &none, &holding(&second), 6);
        assert_eq!(numbers(&third), [("c", 4), ("d", 5), ("e", 2)], "2 rested; 3 is in the maps");
        let fourth = third.next(&slots(&["c", "d", "e", "f", "g"]), &none, &holding(&third), 6);
        assert_eq!(numbers(&fourth), [("c", 4), ("d", 5), ("e", 2), ("f", 3)], "g finds none");
    }

    #[test]
    fn e7_a_policy_that_is_to_have_another_number_gets_one_if_there_is() {
        let first = Slots::default().next(&slots(&["a"]), &BTreeSet::new(), &EgressImage::default(), 4);
        let anew: BTreeSet<Slot> = slots(&["a"]).into_iter().collect();
        let second = first.next(&slots(&["a"]), &anew, &holding(&first), 4);
        assert_eq!(numbers(&second), [("a", 3)]);
        let full = second.next(&slots(&["a", "b"]), &BTreeSet::new(), &holding(&second), 4);
        let same = full.next(&slots(&["a", "b"]), &anew, &holding(&full), 4);
        assert_eq!(numbers(&same), numbers(&full));
    }
}
