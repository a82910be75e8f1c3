//! A packet, its hook and the tables it meets, from bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use netroute_common::verdict::Hook;
use netroute_tests::differential::{Rng, random_tables};
use netroute_tests::vectors::{Input, NIC, TableSet};

/// One input of `packet` and `differential`.
#[derive(Clone, Debug)]
pub struct Story {
    pub tables: Rc<TableSet>,
    /// Says which of the tables they are.
    pub seed: u8,
    pub hook: Hook,
    pub input: Input,
}

/// In the first byte, beside the hook.
const VLAN_TAG: u8 = 0x80;
const HEAD: usize = 4;
/// Frames beyond the largest MTU of the tables show nothing new.
const LONGEST: usize = 9100;

impl Story {
    /// Hook and VLAN tag in the first byte, the tables' number in the second, the size of a GSO
    /// segment in the next two (0: none, and always at XDP); then the frame.
    pub fn read(data: &[u8]) -> Option<Self> {
        let (&[first, seed, high, low], frame) = data.split_first_chunk::<HEAD>()?;
        let hook = *Hook::ALL.get(usize::from(first & !VLAN_TAG) % Hook::ALL.len())?;
        let at_tc = hook != Hook::XdpNic;
        let segment = u32::from(u16::from_be_bytes([high, low]));
        let input = Input {
            frame: frame.get(..frame.len().min(LONGEST))?.to_vec(),
            interface: NIC,
            segment: (at_tc && segment != 0).then_some(segment),
            nic_vlan_tag: at_tc && first & VLAN_TAG != 0,
        };
        Some(Self { tables: tables(seed), seed, hook, input })
    }
}

/// The same number is always the same tables.
fn tables(seed: u8) -> Rc<TableSet> {
    thread_local!(static KNOWN: RefCell<BTreeMap<u8, Rc<TableSet>>> = RefCell::default());
    KNOWN.with_borrow_mut(|known| {
        let made = || Rc::new(random_tables(&mut Rng::with_seed(seed.into())));
        known.entry(seed).or_insert_with(made).clone()
    })
}
