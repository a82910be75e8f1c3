//! The maps. Capacities are the defaults; the loader overrides them from the configuration.

use aya_ebpf::btf_maps::{Array, DevMap, LpmTrie, PerCpuArray};
use aya_ebpf::macros::btf_map;
use netroute_common::abi;
use netroute_common::layout::config::Nic;
use netroute_common::layout::route::{Group, NextHop, Prefix4, Prefix6, Route};
use netroute_common::layout::stats::Counter;
use netroute_common::layout::strides::{Block, ROOT_BLOCKS};
use netroute_common::verdict::VERDICT_SLOTS;

#[btf_map]
pub static ROUTES4: LpmTrie<Prefix4, Route, { abi::DEFAULT_ROUTES4 as usize }> = LpmTrie::new();

#[btf_map]
pub static ROOT4: Array<Block, { ROOT_BLOCKS as usize }> = Array::new();

#[btf_map]
pub static BLOCKS4: Array<Block, { abi::DEFAULT_BLOCKS4 as usize }> = Array::new();

#[btf_map]
pub static ROUTES6: LpmTrie<Prefix6, Route, { abi::DEFAULT_ROUTES6 as usize }> = LpmTrie::new();

#[btf_map]
pub static GROUPS: Array<Group, { abi::DEFAULT_GROUPS as usize }> = Array::new();

#[btf_map]
pub static NEXTHOPS: Array<NextHop, { abi::DEFAULT_NEXTHOPS as usize }> = Array::new();

#[btf_map]
pub static PORTS: DevMap<{ abi::MAX_PORTS as usize }> = DevMap::new();

#[btf_map]
pub static VERDICTS: PerCpuArray<Counter, { VERDICT_SLOTS as usize }> = PerCpuArray::new();

#[btf_map]
pub static ROUTE_STATS: PerCpuArray<Counter, { abi::DEFAULT_ROUTE_STATS as usize }> = PerCpuArray::new();

#[btf_map]
pub static NEXTHOP_STATS: PerCpuArray<Counter, { abi::DEFAULT_NEXTHOPS as usize }> = PerCpuArray::new();

#[unsafe(no_mangle)]
static NIC: Nic = Nic { ifindex: 0, mac: [0; 6], zero: 0 };

/// The NIC this program instance was loaded for.
#[inline(always)]
pub fn nic() -> Nic {
    // SAFETY: a static of this program's read-only data, of the size and alignment of three words.
    // Volatile, since the loader replaces its content and the compiler would otherwise fold the
    // zeroes above into the code. In words: as a struct it would be read octet by octet.
    let [ifindex, low, high] = unsafe { core::ptr::read_volatile((&raw const NIC).cast::<[u32; 3]>()) };
    let ([a, b, c, d], [e, f, ..]) = (low.to_ne_bytes(), high.to_ne_bytes());
    Nic { ifindex, mac: [a, b, c, d, e, f], zero: 0 }
}
