//! Room in `EGRESS`. What is installed stays until what comes after it is there, so new entries find room
//! beside all of it, or not in this compilation: were something taken away first, packets would meet
//! what lies behind it.

use netroute_common::layout::egress::Identity;

use super::image::{Destination, EgressImage};

pub(super) struct Room<'a> {
    installed: &'a EgressImage,
    /// In the end.
    left: usize,
    /// Beside what is installed.
    fresh: usize,
    /// Something found no room only for what is installed.
    pub(super) crowded: bool,
}

impl<'a> Room<'a> {
    pub(super) fn new(installed: &'a EgressImage, limit: u32) -> Self {
        let left = limit as usize;
        Self { installed, left, fresh: left.saturating_sub(installed.entries()), crowded: false }
    }

    /// Takes room for so many that are there already.
    pub(super) const fn keep(&mut self, count: usize) -> bool {
        let fits = count <= self.left;
        if fits {
            self.left -= count;
        }
        fits
    }

    /// Takes room for all of these, or none.
    pub(super) fn take<'d>(
        &mut self,
        identity: Identity,
        destinations: impl ExactSizeIterator<Item = &'d Destination>,
    ) -> bool {
        let all = destinations.len();
        let held = self.installed.destinations.get(&identity);
        let is_new = |one: &&Destination| held.is_none_or(|held| !held.contains_key(one));
        let new = destinations.filter(is_new).count();
        if all > self.left {
            return false;
        }
        if new > self.fresh {
            self.crowded = true;
            return false;
        }
        self.left -= all;
        self.fresh -= new;
        true
    }
}
