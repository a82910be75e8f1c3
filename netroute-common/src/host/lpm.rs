//! Longest-prefix match by one map per prefix length.

use std::collections::BTreeMap;

/// Prefixes of one family as 128-bit numbers, the address in the upper bits.
#[derive(Clone, Debug, Default)]
pub(super) struct Lpm<V> {
    by_length: BTreeMap<u8, BTreeMap<u128, V>>,
}

impl<V: Copy> Lpm<V> {
    pub(super) fn new() -> Self {
        Self { by_length: BTreeMap::new() }
    }

    /// Bits of `address` behind `length` are ignored, as the kernel's trie ignores them.
    pub(super) fn insert(&mut self, address: u128, length: u8, value: V) {
        self.by_length.entry(length).or_default().insert(address & mask(length), value);
    }

    pub(super) fn longest(&self, address: u128) -> Option<V> {
        let mut lengths = self.by_length.iter().rev();
        lengths.find_map(|(&length, prefixes)| prefixes.get(&(address & mask(length)))).copied()
    }
}

/// The upper `length` bits; all of them from 128 on.
fn mask(length: u8) -> u128 {
    u128::MAX.checked_shr(u32::from(length)).map_or(u128::MAX, |rest| !rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1_the_longest_prefix_wins_whatever_the_order() {
        let ten = 10u128 << 120;
        let mut table = Lpm::new();
        table.insert(ten, 8, "eight");
        table.insert(0, 0, "default");
        table.insert(ten | 1 << 112, 16, "sixteen");
        table.insert(u128::MAX, 128, "host");
        assert_eq!(table.longest(ten | 1 << 112 | 7), Some("sixteen"));
        assert_eq!(table.longest(ten | 2 << 112), Some("eight"));
        assert_eq!(table.longest(u128::MAX), Some("host"));
        assert_eq!(table.longest(u128::MAX - 1), Some("default"));
    }

    #[test]
    fn host_bits_are_ignored() {
        let mut table = Lpm::new();
        table.insert(u128::MAX, 1, ());
        assert_eq!(table.longest(1 << 127), Some(()));
        assert_eq!(table.longest(1 << 126), None);
    }
}
