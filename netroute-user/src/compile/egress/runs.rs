//! Room for runs of entries in an array. One that the maps have is never written over: what is other
//! gets a place of its own, so that whoever reads the old one reads all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Hands out places, each to one content.
pub(super) struct Runs<T> {
    installed: BTreeMap<Arc<[T]>, u32>,
    fresh: BTreeMap<Arc<[T]>, u32>,
    used: BTreeMap<u32, Arc<[T]>>,
    /// First index -> how many.
    free: BTreeMap<u32, u32>,
}

impl<T: Ord> Runs<T> {
    pub(super) fn new(installed: &BTreeMap<u32, Arc<[T]>>, limit: u32) -> Self {
        let mut free = BTreeMap::new();
        let mut next = 0u32;
        for (&first, run) in installed {
            if first > next {
                free.insert(next, first.min(limit).saturating_sub(next));
            }
            next = next.max(first.saturating_add(length(run)));
        }
        free.insert(next, limit.saturating_sub(next));
        free.retain(|_, count| *count > 0);
        let fits = |(first, run): &(&u32, &Arc<[T]>)| first.saturating_add(length(run)) <= limit;
        let installed = installed.iter().filter(fits).map(|(first, run)| (run.clone(), *first)).collect();
        Self { installed, fresh: BTreeMap::new(), used: BTreeMap::new(), free }
    }

    /// The first index of each of the runs; `None`, and nothing is taken, if there is no room for all.
    pub(super) fn place_all<'r>(&mut self, runs: impl IntoIterator<Item = &'r Arc<[T]>>) -> Option<Vec<u32>>
    where
        T: 'r,
    {
        let mut taken = Vec::new();
        let mut firsts = Vec::new();
        for run in runs {
            let Some(first) = self.place(run, &mut taken) else {
                self.give_back(taken);
                return None;
            };
            firsts.push(first);
        }
        Some(firsts)
    }

    /// Goes on using the installed runs at these places.
    pub(super) fn keep(&mut self, firsts: &[u32], installed: &BTreeMap<u32, Arc<[T]>>) -> bool {
        firsts.iter().all(|first| {
            self.used.contains_key(first)
                || installed.get(first).map(|run| self.used.insert(*first, run.clone())).is_some()
        })
    }

    /// `taken`: the indices that were not used before.
    fn place(&mut self, run: &Arc<[T]>, taken: &mut Vec<u32>) -> Option<u32> {
        if run.is_empty() {
            return Some(0);
        }
        let known = self.installed.get(run).or_else(|| self.fresh.get(run)).copied();
        let first = match known {
            Some(first) => first,
            None => {
                let first = self.take(length(run))?;
                self.fresh.insert(run.clone(), first);
                first
            }
        };
        if self.used.insert(first, run.clone()).is_none() {
            taken.push(first);
        }
        Some(first)
    }

    fn take(&mut self, size: u32) -> Option<u32> {
        let (&first, &count) = self.free.iter().find(|(_, count)| **count >= size)?;
        self.free.remove(&first);
        if count > size {
            self.free.insert(first + size, count - size);
        }
        Some(first)
    }

    fn give_back(&mut self, taken: Vec<u32>) {
        for first in taken {
            if let Some(run) = self.used.remove(&first)
                && self.fresh.remove(&run).is_some()
            {
                self.free.insert(first, length(&run));
            }
        }
    }

    /// Whether what is installed, and no longer used, takes room that the next compilation has.
    pub(super) fn has_more_later(&self) -> bool {
        self.installed.values().any(|first| !self.used.contains_key(first))
    }

    pub(super) fn finish(self) -> BTreeMap<u32, Arc<[T]>> {
        self.used
    }
}

fn length<T>(run: &Arc<[T]>) -> u32 {
    u32::try_from(run.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(content: &[u8]) -> Arc<[u8]> {
        content.into()
    }

    #[test]
    fn e4_a_run_in_the_maps_is_never_written_over() {
        let installed = BTreeMap::from([(2, run(&[1, 2])), (6, run(&[3]))]);
        let mut runs = Runs::new(&installed, 10);
        let firsts = runs.place_all(&[run(&[3]), run(&[4, 5]), run(&[4, 5]), run(&[]), run(&[6, 7, 8])]);
        assert_eq!(firsts, Some(vec![6, 0, 0, 0, 7]));
        assert!(runs.has_more_later(), "the two slots of the one that is gone");
        assert_eq!(runs.place_all(&[run(&[9]), run(&[9, 9])]), None, "one fits, both do not");
        assert_eq!(runs.place_all(&[run(&[9])]), Some(vec![4]), "and nothing was taken");
        let held: Vec<u32> = runs.finish().into_keys().collect();
        assert_eq!(held, [0, 4, 6, 7]);
    }
}
