//! Builds the strides of an IPv4 table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use crate::layout::route::Route;
use crate::layout::strides::{ASK_TRIE, BELOW, Block, ENTRIES, NO_ROUTE, ROOT_BLOCKS};

/// An IPv4 prefix as a number, host bits zero; its length; its route.
pub type Prefix = (u32, u8, Route);

/// Content of `ROOT4` and `BLOCKS4`, by index; an absent index is all zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strides {
    pub root: BTreeMap<u32, Arc<Block>>,
    pub blocks: BTreeMap<u32, Arc<Block>>,
}

const NOTHING: Route = Route { group: NO_ROUTE, stats: 0 };
const UNKNOWN: Route = Route { group: ASK_TRIE, stats: 0 };

/// Bits that an index into the root consumes, and those that each block consumes more.
const ROOT_BITS: u8 = 16;
const SECOND_BITS: u8 = 24;

impl Strides {
    /// What answers as a trie of `routes` does, with at most `capacity` blocks. A block of `before`
    /// keeps its index, and an index that becomes free is not given out again: whoever reads the old
    /// entries meanwhile finds nothing else there.
    #[must_use]
    pub fn build(routes: impl IntoIterator<Item = Prefix>, capacity: u32, before: &Self) -> Self {
        let (mut short, mut long): (Vec<Prefix>, Vec<Prefix>) =
            routes.into_iter().partition(|(_, length, _)| *length <= ROOT_BITS);
        let mut root = vec![NOTHING; ENTRIES.saturating_mul(ENTRIES)];
        short.sort_by_key(|(_, length, _)| *length);
        for prefix in &short {
            paint(&mut root, prefix, ROOT_BITS);
        }
        long.sort_by_key(|&(address, length, _)| (address, length));
        let mut indices = Indices::new(capacity, before);
        let mut blocks = BTreeMap::new();
        for prefixes in long.chunk_by(|one, other| one.0 >> 16 == other.0 >> 16) {
            let Some((address, _, _)) = prefixes.first() else { continue };
            let place = (address >> 16) as usize;
            let Some(entry) = root.get_mut(place) else { continue };
            *entry = second(prefixes, *entry, before.at_root(place), before, &mut indices, &mut blocks);
        }
        let mut roots = BTreeMap::new();
        for (index, entries) in (0..ROOT_BLOCKS).zip(root.chunks_exact(ENTRIES)) {
            let mut block = Block::filled(NOTHING);
            block.entries.copy_from_slice(entries);
            keep(&mut roots, index, block, &before.root);
        }
        Self { root: roots, blocks }
    }

    fn at_root(&self, place: usize) -> Route {
        let block = u32::try_from(place >> 8).ok().and_then(|index| self.root.get(&index));
        entry(block, place & 0xff)
    }
}

/// The entry for a block of prefixes longer than 16 bits that agree in those.
fn second(
    prefixes: &[Prefix],
    cover: Route,
    old: Route,
    before: &Strides,
    indices: &mut Indices,
    blocks: &mut BTreeMap<u32, Arc<Block>>,
) -> Route {
    let Some(index) = indices.keep_or_take(old) else { return UNKNOWN };
    let old = before.blocks.get(&index);
    let mut block = Block::filled(cover);
    let (mut middle, deep): (Vec<Prefix>, Vec<Prefix>) =
        prefixes.iter().partition(|(_, length, _)| *length <= SECOND_BITS);
    middle.sort_by_key(|(_, length, _)| *length);
    for prefix in &middle {
        paint(&mut block.entries, prefix, SECOND_BITS);
    }
    for prefixes in deep.chunk_by(|one, other| one.0 >> 8 == other.0 >> 8) {
        let Some((address, _, _)) = prefixes.first() else { continue };
        let place = (address >> 8 & 0xff) as usize;
        let Some(above) = block.entries.get_mut(place) else { continue };
        let Some(index) = indices.keep_or_take(entry(old, place)) else {
            *above = UNKNOWN;
            continue;
        };
        let mut third = Block::filled(*above);
        let mut prefixes = prefixes.to_vec();
        prefixes.sort_by_key(|(_, length, _)| *length);
        for prefix in &prefixes {
            paint(&mut third.entries, prefix, 32);
        }
        *above = keep(blocks, index, third, &before.blocks);
    }
    keep(blocks, index, block, &before.blocks)
}

/// Writes a route over all entries of its prefix; `bits` of an address are consumed here.
fn paint(entries: &mut [Route], &(address, length, route): &Prefix, bits: u8) {
    let room = entries.len().wrapping_sub(1);
    let start = (address.checked_shr(u32::from(32u8.saturating_sub(bits))).unwrap_or(0)) as usize & room;
    let count = 1usize.checked_shl(u32::from(bits.saturating_sub(length))).unwrap_or(0);
    // Numbers that no agent gives out mean something else here.
    let plain = route.group > NO_ROUTE && route.group & BELOW == 0;
    let value = if plain { route } else { UNKNOWN };
    entries.iter_mut().skip(start).take(count).for_each(|entry| *entry = value);
}

fn entry(block: Option<&Arc<Block>>, place: usize) -> Route {
    block.and_then(|block| block.entries.get(place)).copied().unwrap_or(UNKNOWN)
}

/// Puts a block in its place, in the memory it had before if nothing changed, and gives the entry
/// that sends to it. A block that knows nothing is left out: in the map it is what nobody wrote.
fn keep(
    blocks: &mut BTreeMap<u32, Arc<Block>>,
    index: u32,
    block: Block,
    before: &BTreeMap<u32, Arc<Block>>,
) -> Route {
    if block == Block::filled(UNKNOWN) {
        return UNKNOWN;
    }
    let same = before.get(&index).filter(|before| ***before == block);
    blocks.insert(index, same.cloned().unwrap_or_else(|| Arc::new(block)));
    Route { group: BELOW | index, stats: 0 }
}

/// Which indices of `BLOCKS4` can be given out.
struct Indices {
    taken: Vec<bool>,
    given: Vec<bool>,
    next: usize,
}

impl Indices {
    fn new(capacity: u32, before: &Strides) -> Self {
        let mut taken = vec![false; capacity as usize];
        for index in before.blocks.keys() {
            if let Some(taken) = taken.get_mut(*index as usize) {
                *taken = true;
            }
        }
        Self { given: vec![false; taken.len()], taken, next: 0 }
    }

    /// The index that the old entry sends to, or a free one.
    fn keep_or_take(&mut self, old: Route) -> Option<u32> {
        let kept = (old.group & BELOW != 0).then_some((old.group & !BELOW) as usize);
        if let Some(index) = kept
            && let Some(given) = self.given.get_mut(index).filter(|given| !**given)
        {
            *given = true;
            if let Some(taken) = self.taken.get_mut(index) {
                *taken = true;
            }
            return u32::try_from(index).ok();
        }
        let free = self.taken.iter().skip(self.next).position(|taken| !taken)?;
        let index = self.next.saturating_add(free);
        self.next = index.saturating_add(1);
        *self.taken.get_mut(index)? = true;
        *self.given.get_mut(index)? = true;
        u32::try_from(index).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::host::lpm::Lpm;
    use crate::layout::route::{Group, NextHop};
    use crate::strides::route4;
    use crate::tables::Tables;
    use crate::verdict::Reason;

    /// Strides before a trie, which notes how often it was asked.
    struct Both {
        strides: Strides,
        trie: Lpm<Route>,
        asked: RefCell<u32>,
    }

    impl Tables for Both {
        fn root4(&self, first: u8, second: u8) -> Option<Route> {
            let block = self.strides.root.get(&u32::from(first))?;
            block.entries.get(usize::from(second)).copied()
        }

        fn block4(&self, index: u32, octet: u8) -> Option<Route> {
            self.strides.blocks.get(&index)?.entries.get(usize::from(octet)).copied()
        }

        fn trie4(&self, destination: [u8; 4]) -> Option<Route> {
            self.asked.replace_with(|asked| asked.saturating_add(1));
            self.trie.longest(key(u32::from_be_bytes(destination)))
        }

        fn route6(&self, _: [u8; 16]) -> Option<Route> {
            None
        }

        fn group(&self, _: u32) -> Option<&Group> {
            None
        }

        fn next_hop(&self, _: u32) -> Option<&NextHop> {
            None
        }

        fn take_port(&self, _: u32) -> bool {
            false
        }

        fn count_forwarded(&self, _: u32, _: u32, _: u32) {}

        fn count_verdict(&self, _: Reason, _: u32) {}
    }

    fn key(address: u32) -> u128 {
        u128::from(address) << 96
    }

    fn both(routes: &[Prefix], capacity: u32, before: &Strides) -> Both {
        let mut trie = Lpm::new();
        for &(address, length, route) in routes {
            trie.insert(key(address), length, route);
        }
        let strides = Strides::build(routes.iter().copied(), capacity, before);
        Both { strides, trie, asked: RefCell::new(0) }
    }

    /// A sequence that covers its range evenly; quality does not matter here.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self, below: u32) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(self.0 >> 33).unwrap_or(0).checked_rem(below).unwrap_or(0)
        }

        /// Prefixes close together, of all lengths.
        fn routes(&mut self, count: u32) -> Vec<Prefix> {
            let mut routes = BTreeMap::new();
            for number in 0..count {
                let length = u8::try_from(self.next(33)).unwrap_or(0);
                let address = 10 << 24 | self.next(3) << 16 | self.next(4) << 8 | self.next(256);
                let mask = u32::MAX.checked_shl(32u32.wrapping_sub(length.into())).unwrap_or(0);
                let group = number.saturating_add(8);
                routes.insert((address & mask, length), Route { group, stats: number });
            }
            routes.into_iter().map(|((address, length), route)| (address, length, route)).collect()
        }
    }

    #[test]
    fn strides_answer_as_the_trie_does() {
        let mut numbers = Numbers(1);
        let mut before = Strides::default();
        for round in 0..60u32 {
            let count = numbers.next(80);
            let routes = numbers.routes(count);
            let capacity = if round.is_multiple_of(3) { numbers.next(6) } else { 64 };
            let tables = both(&routes, capacity, &before);
            for _ in 0..2000 {
                let address = 10 << 24 | numbers.next(4) << 16 | numbers.next(5) << 8 | numbers.next(256);
                let destination = address.to_be_bytes();
                assert_eq!(
                    route4(&tables, destination),
                    tables.trie.longest(key(address)),
                    "{destination:?} in round {round}"
                );
            }
            if capacity == 64 {
                assert_eq!(*tables.asked.borrow(), 0, "round {round}: there was room for every block");
            }
            assert!(tables.strides.blocks.keys().all(|index| *index < capacity));
            before = if capacity == 64 { tables.strides } else { Strides::default() };
        }
    }

    #[test]
    fn what_nobody_wrote_asks_the_trie() {
        let mut tables = both(&[(10 << 24, 8, Route { group: 9, stats: 1 })], 4, &Strides::default());
        tables.strides = Strides::default();
        assert_eq!(route4(&tables, [10, 0, 0, 1]), Some(Route { group: 9, stats: 1 }));
        assert_eq!(*tables.asked.borrow(), 1);
    }

    #[test]
    fn a_block_keeps_its_index_and_a_freed_one_rests() {
        let route = |group| Route { group, stats: 0 };
        let (one, two, three) = (10 << 24 | 1 << 16, 10 << 24 | 2 << 16, 10 << 24 | 3 << 16);
        let first = Strides::build([(one, 24, route(8)), (two, 24, route(8))], 3, &Strides::default());
        assert_eq!(first.blocks.len(), 2);
        let index_of_two = first.at_root((two >> 16) as usize).group & !BELOW;
        // One goes, another comes: the freed index is not its.
        let second = Strides::build([(two, 24, route(8)), (three, 24, route(8))], 3, &first);
        assert_eq!(second.at_root((two >> 16) as usize).group & !BELOW, index_of_two);
        let index_of_three = second.at_root((three >> 16) as usize).group & !BELOW;
        assert!(!first.blocks.contains_key(&index_of_three));
        let unchanged = |index: u32| match (first.blocks.get(&index), second.blocks.get(&index)) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        assert!(unchanged(index_of_two), "the same memory serves both");
        // No room: the trie answers for the one that came last, and all is as before for the others.
        let full =
            Strides::build([(one, 24, route(8)), (two, 24, route(8)), (three, 25, route(8))], 3, &second);
        assert_eq!(full.at_root((two >> 16) as usize).group & !BELOW, index_of_two);
        let asks = [one, three].iter().any(|address| {
            let above = full.at_root((address >> 16) as usize);
            let deep = above.group & BELOW != 0
                && entry(full.blocks.get(&(above.group & !BELOW)), 0).group == ASK_TRIE;
            above.group == ASK_TRIE || deep
        });
        assert!(asks, "four blocks do not fit into three");
    }

    #[test]
    fn a_group_that_looks_like_a_mark_is_left_to_the_trie() {
        for group in [ASK_TRIE, NO_ROUTE, BELOW, BELOW | 7, u32::MAX] {
            let route = Route { group, stats: 3 };
            let tables = both(&[(10 << 24, 20, route)], 8, &Strides::default());
            assert_eq!(route4(&tables, [10, 0, 1, 1]), Some(route));
        }
    }
}
