//! Numbers for next hops, groups, counters and device slots: what is installed keeps its number,
//! and a freed number is not given out again in the same compilation, so that no packet in flight
//! follows an old number to a new thing.

use std::collections::BTreeMap;
use std::ops::Range;

use netroute_common::layout::route::{Group, NextHop};

/// Hands out numbers of a range, each to one identity.
#[derive(Clone, Debug)]
pub struct Ids<K> {
    installed: BTreeMap<K, u32>,
    taken: Vec<bool>,
    given: BTreeMap<K, u32>,
    range: Range<u32>,
    next: u32,
}

impl<K: Ord + Clone> Ids<K> {
    /// `installed` are the identities that have a number now.
    pub fn new(range: Range<u32>, installed: impl IntoIterator<Item = (K, u32)>) -> Self {
        let mut taken = vec![false; range.end as usize];
        let mut by_key = BTreeMap::new();
        for (key, id) in installed {
            if let Some(slot) = taken.get_mut(id as usize) {
                *slot = true;
                by_key.insert(key, id);
            }
        }
        Self { installed: by_key, taken, given: BTreeMap::new(), next: range.start, range }
    }

    /// The number of `key`; `None` when the range is used up.
    pub fn get(&mut self, key: &K) -> Option<u32> {
        if let Some(id) = self.given.get(key) {
            return Some(*id);
        }
        let id = match self.installed.get(key) {
            Some(id) => *id,
            None => self.free()?,
        };
        self.given.insert(key.clone(), id);
        Some(id)
    }

    fn free(&mut self) -> Option<u32> {
        while self.next < self.range.end {
            let id = self.next;
            self.next += 1;
            if let Some(slot) = self.taken.get_mut(id as usize).filter(|slot| !**slot) {
                *slot = true;
                return Some(id);
            }
        }
        None
    }
}

/// What makes an entry of `NEXTHOPS` itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHopIdentity {
    ifindex: u32,
    kind: u8,
    family: u8,
    gateway: [u8; 16],
}

impl From<&NextHop> for NextHopIdentity {
    fn from(next_hop: &NextHop) -> Self {
        let NextHop { ifindex, kind, family, gateway, .. } = *next_hop;
        Self { ifindex, kind, family, gateway }
    }
}

/// A group is its content: as bytes, which are compared many times faster than members one by one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupIdentity([u8; size_of::<Group>()]);

impl From<&Group> for GroupIdentity {
    fn from(group: &Group) -> Self {
        Self(zerocopy::transmute!(*group))
    }
}

/// Contiguous blocks of counters, each for one prefix with a number of members.
#[derive(Clone, Debug)]
pub struct Blocks {
    taken: Vec<bool>,
    next: usize,
}

impl Blocks {
    /// `installed` are (first slot, length) of the blocks in use; `first` and `end` bound the
    /// slots that can be given out.
    pub fn new(end: u32, first: u32, installed: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut taken = vec![false; end as usize];
        for (start, length) in installed {
            for slot in start..start.saturating_add(length) {
                if let Some(slot) = taken.get_mut(slot as usize) {
                    *slot = true;
                }
            }
        }
        Self { taken, next: first as usize }
    }

    /// The first of `length` free slots in a row, if there are any.
    pub fn take(&mut self, length: u32) -> Option<u32> {
        let length = length as usize;
        while self.next + length <= self.taken.len() {
            let block = self.taken.get_mut(self.next..self.next + length)?;
            match block.iter().rposition(|taken| *taken) {
                Some(last) => self.next += last + 1,
                None => {
                    block.fill(true);
                    let start = self.next;
                    self.next += length;
                    return u32::try_from(start).ok();
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_numbers_stay_and_freed_ones_rest() {
        let mut ids = Ids::new(8..12, [("kept", 9), ("gone", 8)]);
        assert_eq!(ids.get(&"new"), Some(10));
        assert_eq!(ids.get(&"kept"), Some(9));
        assert_eq!(ids.get(&"new"), Some(10), "asking twice gives the same number");
        assert_eq!(ids.get(&"second"), Some(11));
        assert_eq!(ids.get(&"third"), None, "8 was freed only now");
    }

    #[test]
    fn blocks_skip_what_is_taken() {
        let mut blocks = Blocks::new(10, 2, [(4, 1)]);
        assert_eq!(blocks.take(2), Some(2));
        assert_eq!(blocks.take(3), Some(5));
        assert_eq!(blocks.take(3), None);
        assert_eq!(blocks.take(2), Some(8));
    }
}
