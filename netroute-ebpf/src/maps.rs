//! The maps. Capacities are the defaults; the loader overrides them from the configuration.

use aya_ebpf::btf_maps::{Array, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use netroute_common::abi;
use netroute_common::layout::config::Nic;
use netroute_common::layout::egress::{
    EgressCounter, EgressPrefix, EgressRule, Identity, Policy, RuleSet, SnatAddress,
};
use netroute_common::layout::flow::{
    Flow, FlowKey4, FlowKey6, Fragment, FragmentKey, Masquerade, PeerKey, Timers,
};
use netroute_common::layout::route::{Group, NextHop, Prefix4, Prefix6, Route};
use netroute_common::layout::service::{
    Address, Affinity, AffinityKey, Backend, FrontEnd, FrontEndKey, ServiceCounter, Slot, SourceRange,
};
use netroute_common::layout::socket::{SocketKey, SocketPeer};
use netroute_common::layout::stats::Counter;
use netroute_common::layout::strides::{Block, ROOT_BLOCKS};
use netroute_common::stage::serve::Scratch;
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

#[btf_map]
pub static FRONTENDS: HashMap<FrontEndKey, FrontEnd, { abi::DEFAULT_FRONTENDS as usize }> = HashMap::new();

#[btf_map]
pub static SLOTS: Array<Slot, { abi::DEFAULT_SLOTS as usize }> = Array::new();

#[btf_map]
pub static BACKENDS: Array<Backend, { abi::DEFAULT_BACKENDS as usize }> = Array::new();

#[btf_map]
pub static SOURCE_RANGES: LpmTrie<SourceRange, u32, { abi::DEFAULT_SOURCE_RANGES as usize }> = LpmTrie::new();

#[btf_map]
pub static AFFINITY: LruHashMap<AffinityKey, Affinity, { abi::DEFAULT_AFFINITY as usize }> =
    LruHashMap::new();

#[btf_map]
pub static SERVICE_STATS: PerCpuArray<ServiceCounter, { abi::DEFAULT_SERVICE_STATS as usize }> =
    PerCpuArray::new();

#[btf_map]
pub static MASQUERADE: HashMap<u32, Masquerade, { abi::MAX_MASQUERADE as usize }> = HashMap::new();

#[btf_map]
pub static TIMERS: Array<Timers, 1> = Array::new();

#[btf_map]
pub static FLOWS4: HashMap<FlowKey4, Flow, { abi::DEFAULT_FLOWS4 as usize }> = HashMap::new();

#[btf_map]
pub static FLOWS6: HashMap<FlowKey6, Flow, { abi::DEFAULT_FLOWS6 as usize }> = HashMap::new();

#[btf_map]
pub static OPENING4: LruHashMap<FlowKey4, Flow, { abi::DEFAULT_OPENING4 as usize }> = LruHashMap::new();

#[btf_map]
pub static OPENING6: LruHashMap<FlowKey6, Flow, { abi::DEFAULT_OPENING6 as usize }> = LruHashMap::new();

#[btf_map]
pub static FRAGMENTS: LruHashMap<FragmentKey, Fragment, { abi::MAX_FRAGMENTS as usize }> = LruHashMap::new();

#[btf_map]
pub static PEERS: HashMap<PeerKey, u32, { abi::DEFAULT_NEXTHOPS as usize }> = HashMap::new();

#[btf_map]
pub static SOCKETS: LruHashMap<SocketKey, SocketPeer, { abi::DEFAULT_SOCKETS as usize }> = LruHashMap::new();

#[btf_map]
pub static SOURCES: HashMap<Address, Identity, { abi::DEFAULT_SOURCES as usize }> = HashMap::new();

#[btf_map]
pub static EGRESS: LpmTrie<EgressPrefix, RuleSet, { abi::DEFAULT_EGRESS as usize }> = LpmTrie::new();

#[btf_map]
pub static EGRESS_RULES: Array<EgressRule, { abi::DEFAULT_EGRESS_RULES as usize }> = Array::new();

#[btf_map]
pub static EGRESS_POLICIES: Array<Policy, { abi::DEFAULT_EGRESS_POLICIES as usize }> = Array::new();

#[btf_map]
pub static EGRESS_STATS: PerCpuArray<EgressCounter, { abi::DEFAULT_EGRESS_POLICIES as usize }> =
    PerCpuArray::new();

#[btf_map]
pub static SNAT: Array<SnatAddress, { abi::DEFAULT_SNAT as usize }> = Array::new();

/// Not shared with user space, and not pinned.
#[btf_map]
pub static SCRATCH4: PerCpuArray<Scratch<FlowKey4>, 1> = PerCpuArray::new();

#[btf_map]
pub static SCRATCH6: PerCpuArray<Scratch<FlowKey6>, 1> = PerCpuArray::new();

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
