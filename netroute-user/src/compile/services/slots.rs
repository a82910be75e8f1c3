//! Room in `SLOTS`.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The slots that no installed block covers, and none made since.
pub(super) struct Slots {
    /// First slot -> how many.
    free: BTreeMap<u32, u32>,
}

impl Slots {
    pub(super) fn new(limit: u32, blocks: &BTreeMap<u32, Arc<[u32]>>) -> Self {
        let mut free = BTreeMap::new();
        let mut next = 0u32;
        for (&first, backends) in blocks {
            if first > next {
                free.insert(next, first.min(limit).saturating_sub(next));
            }
            let length = u32::try_from(backends.len()).unwrap_or(u32::MAX);
            next = next.max(first.saturating_add(length));
        }
        free.insert(next, limit.saturating_sub(next));
        free.retain(|_, count| *count > 0);
        Self { free }
    }

    /// The first of so many free slots in a row, as far ahead as there are any.
    pub(super) fn take(&mut self, size: u32) -> Option<u32> {
        let (&first, &count) = self.free.iter().find(|(_, count)| **count >= size)?;
        self.free.remove(&first);
        if count > size {
            self.free.insert(first + size, count - size);
        }
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(limit: u32, blocks: &[(u32, usize)]) -> Slots {
        let blocks = blocks.iter().map(|(first, size)| (*first, Arc::from(vec![0; *size])));
        Slots::new(limit, &blocks.collect())
    }

    #[test]
    fn s22_the_first_gap_that_is_wide_enough_is_taken() {
        let mut slots = slots(100, &[(10, 5), (18, 60)]);
        assert_eq!(slots.take(4), Some(0));
        assert_eq!(slots.take(7), Some(78));
        assert_eq!(slots.take(6), Some(4));
        assert_eq!(slots.take(3), Some(15));
        assert_eq!(slots.take(16), None, "15 are left");
        assert_eq!(slots.take(15), Some(85));
        assert_eq!(slots.take(1), None);
    }

    #[test]
    fn blocks_beyond_the_limit_or_over_each_other_leave_no_room() {
        assert_eq!(slots(10, &[(20, 5)]).take(10), Some(0));
        assert_eq!(slots(10, &[(20, 5)]).take(11), None);
        assert_eq!(slots(10, &[(0, 8), (2, 3)]).take(2), Some(8));
        assert_eq!(slots(10, &[(0, 30)]).take(1), None);
    }
}
