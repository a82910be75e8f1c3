//! The IPv4 route table in strides of 16, 8 and 8 bits: what `ROUTES4` says, in at most three array
//! reads. `ROUTES4` stays the table of record, and answers where these entries send to it.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::route::Route;

/// Value of `ROOT4` and `BLOCKS4`: one entry for each value of an octet.
///
/// `ROOT4` has 256, by the first octet of an address; an entry is chosen by its second. A block of
/// `BLOCKS4` is chosen by an entry above it, its entry by the third or fourth octet.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Block {
    /// An answer; or, told by `group`, one of [`ASK_TRIE`], [`NO_ROUTE`] and [`BELOW`] with an
    /// index into `BLOCKS4`.
    pub entries: [Route; ENTRIES],
}

pub const ENTRIES: usize = 256;

/// Entries of `ROOT4`.
pub const ROOT_BLOCKS: u32 = 256;

/// `group` of an entry that does not know: what a map holds that nobody wrote, and what is left
/// where `BLOCKS4` is full. No route has it: see [`super::route::fixed_id`].
pub const ASK_TRIE: u32 = 0;
/// `group` of an entry for addresses without a route.
pub const NO_ROUTE: u32 = 1;
/// Bit of `group` that makes its other bits the index of a block.
pub const BELOW: u32 = 1 << 31;

impl Block {
    #[must_use]
    pub const fn filled(entry: Route) -> Self {
        Self { entries: [entry; ENTRIES] }
    }
}

/// As runs of equal entries: most of 256 are alike.
impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for run in self.entries.chunk_by(|one, other| one == other) {
            if let [entry, ..] = run {
                list.entry(&format_args!("{}x group {:#x} stats {}", run.len(), entry.group, entry.stats));
            }
        }
        list.finish()
    }
}
