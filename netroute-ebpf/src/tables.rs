//! The maps as [`Tables`].

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::btf_maps::lpm_trie::Key;
use netroute_common::layout::route::{Group, NextHop, Prefix4, Prefix6, Route};
use netroute_common::layout::stats::Counter;
use netroute_common::layout::strides::Block;
use netroute_common::tables::Tables;
use netroute_common::verdict::{Hook, Reason, verdict_slot};

use crate::maps::{
    BLOCKS4, GROUPS, NEXTHOP_STATS, NEXTHOPS, PORTS, ROOT4, ROUTE_STATS, ROUTES4, ROUTES6, VERDICTS,
};

/// The installed tables, as asked from one hook.
pub struct Maps {
    pub hook: Hook,
}

impl Tables for Maps {
    #[inline(always)]
    fn root4(&self, first: u8, second: u8) -> Option<Route> {
        ROOT4.get(first.into()).map(|block| entry(block, second))
    }

    #[inline(always)]
    fn block4(&self, index: u32, octet: u8) -> Option<Route> {
        BLOCKS4.get(index).map(|block| entry(block, octet))
    }

    #[inline(always)]
    fn trie4(&self, destination: [u8; 4]) -> Option<Route> {
        ROUTES4.get(&Key::new(32, Prefix4 { address: destination })).copied()
    }

    #[inline(always)]
    fn route6(&self, destination: [u8; 16]) -> Option<Route> {
        ROUTES6.get(&Key::new(128, Prefix6 { address: destination })).copied()
    }

    #[inline(always)]
    fn group(&self, id: u32) -> Option<&Group> {
        GROUPS.get(id)
    }

    #[inline(always)]
    fn next_hop(&self, id: u32) -> Option<&NextHop> {
        NEXTHOPS.get(id)
    }

    #[inline(always)]
    fn take_port(&self, slot: u32) -> bool {
        // The lower bits of the flags are what it returns for an empty slot.
        PORTS.redirect(slot, xdp_action::XDP_ABORTED.into()) == Ok(xdp_action::XDP_REDIRECT)
    }

    #[inline(always)]
    fn count_forwarded(&self, stats: u32, next_hop: u32, bytes: u32) {
        add(&ROUTE_STATS, stats, bytes);
        add(&NEXTHOP_STATS, next_hop, bytes);
    }

    #[inline(always)]
    fn count_verdict(&self, reason: Reason, bytes: u32) {
        add(&VERDICTS, verdict_slot(self.hook, reason), bytes);
    }
}

/// Both halves of an entry in one load: the agent may be writing it.
#[inline(always)]
fn entry(block: &Block, octet: u8) -> Route {
    let entry: *const Route = &raw const block.entries[octet as usize];
    // SAFETY: inside the block, whose alignment and whose entries' size are 8.
    let both = unsafe { core::ptr::read_volatile(entry.cast::<u64>()) };
    Route { group: both as u32, stats: (both >> 32) as u32 }
}

#[inline(always)]
fn add<const N: usize>(counters: &PerCpuArray<Counter, N>, slot: u32, bytes: u32) {
    if let Some(counter) = counters.get_ptr_mut(slot) {
        // SAFETY: a per-CPU slot, valid for the whole run; XDP and TC run with bottom halves off,
        // so nothing else on this CPU writes it meanwhile.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += u64::from(bytes);
        }
    }
}
