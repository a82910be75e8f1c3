//! The maps as [`Tables`].

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::btf_maps::lpm_trie::Key;
use netroute_common::layout::route::{Group, NextHop, Prefix4, Prefix6, Route};
use netroute_common::layout::stats::Counter;
use netroute_common::tables::Tables;
use netroute_common::verdict::{Hook, Reason, verdict_slot};

use crate::maps::{GROUPS, NEXTHOP_STATS, NEXTHOPS, PORTS, ROUTE_STATS, ROUTES4, ROUTES6, VERDICTS};

/// The installed tables, as asked from one hook.
pub struct Maps {
    pub hook: Hook,
}

impl Tables for Maps {
    #[inline(always)]
    fn route4(&self, destination: [u8; 4]) -> Option<Route> {
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
    fn port_ready(&self, slot: u32) -> bool {
        PORTS.get(slot).is_some()
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
