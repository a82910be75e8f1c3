//! Which numbers of Service ports flows may carry (S21): those that the last pass over the flow tables
//! found, and those that were served since it began.

use std::collections::BTreeSet;

use crate::apply::flows::Pass;
use crate::compile::image::Image;

#[derive(Clone, Debug, Default)]
pub struct Carried {
    found: BTreeSet<u32>,
    /// Served between the last two passes' ends: the last one began there.
    before: BTreeSet<u32>,
    since: BTreeSet<u32>,
}

impl Carried {
    /// `found`: what flows carried when the agent started.
    #[must_use]
    pub fn new(found: BTreeSet<u32>, installed: &Image) -> Self {
        let mut carried = Self { found, ..Self::default() };
        carried.serve(installed);
        carried
    }

    /// New flows carry what is in the maps now.
    pub fn serve(&mut self, installed: &Image) {
        self.since.extend(installed.services.front_ends.values().map(|front_end| front_end.service));
    }

    /// A pass has ended.
    pub fn take(&mut self, pass: &Pass, installed: &Image) {
        if pass.complete {
            self.found.clone_from(&pass.services);
            self.before = std::mem::take(&mut self.since);
        } else {
            self.found.extend(&pass.services);
        }
        self.serve(installed);
    }

    #[must_use]
    pub fn all(&self) -> BTreeSet<u32> {
        self.found.iter().chain(&self.before).chain(&self.since).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use netroute_common::layout::service::{FrontEnd, FrontEndKey};

    use super::*;

    fn serving(ids: &[u32]) -> Image {
        let mut image = Image::default();
        for &service in ids {
            let key = FrontEndKey { port: service as u16, ..FrontEndKey::default() };
            image.services.front_ends.insert(key, FrontEnd { service, ..FrontEnd::default() });
        }
        image
    }

    fn pass(ids: &[u32], complete: bool) -> Pass {
        Pass { services: ids.iter().copied().collect(), complete, ..Pass::default() }
    }

    #[test]
    fn s21_a_number_is_free_only_after_a_pass_that_began_without_it() {
        let mut carried = Carried::new([9].into(), &serving(&[1, 2]));
        assert_eq!(carried.all(), [1, 2, 9].into());
        carried.take(&pass(&[1], true), &serving(&[1]));
        assert_eq!(carried.all(), [1, 2].into(), "9 is over; a flow of 2 may have begun behind the pass");
        carried.take(&pass(&[1], true), &serving(&[1]));
        assert_eq!(carried.all(), [1].into());
        carried.take(&pass(&[], false), &serving(&[]));
        assert_eq!(carried.all(), [1].into(), "this pass saw only a part");
        carried.take(&pass(&[], true), &serving(&[]));
        carried.take(&pass(&[], true), &serving(&[]));
        assert_eq!(carried.all(), [].into());
    }
}
