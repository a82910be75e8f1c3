//! The maps of Services and flows as [`Services`].

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{HashMap, LruHashMap};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use netroute_common::layout::flow::{
    Flow, FlowKey4, FlowKey6, Fragment, FragmentKey, Masquerade, PeerKey, Timers,
};
use netroute_common::layout::service::{Affinity, AffinityKey, Backend, FrontEnd, FrontEndKey, SourceRange};
use netroute_common::services::{Place, ServiceEvent, Services};
use netroute_common::stage::serve::Scratch;

use crate::maps::{
    AFFINITY, BACKENDS, FLOWS4, FLOWS6, FRAGMENTS, FRONTENDS, MASQUERADE, OPENING4, OPENING6, PEERS,
    SCRATCH4, SCRATCH6, SERVICE_STATS, SLOTS, SOURCE_RANGES, TIMERS,
};
use crate::tables::Maps;

/// Prefix length of a whole client under its Service.
const WHOLE_CLIENT: u32 = 32 + 128;

impl Services for Maps {
    #[inline(always)]
    fn front_end(&self, key: &FrontEndKey) -> Option<&FrontEnd> {
        // SAFETY: the agent replaces an entry as a whole, and what its fields name stays until nothing
        // refers to it; a reader may at worst see one field of the next version.
        unsafe { FRONTENDS.get(key) }
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<u32> {
        SLOTS.get(index).map(|slot| slot.backend)
    }

    #[inline(always)]
    fn backend(&self, id: u32) -> Option<&Backend> {
        BACKENDS.get(id)
    }

    #[inline(always)]
    fn source_allowed(&self, client: &SourceRange) -> bool {
        SOURCE_RANGES.get(&Key::new(WHOLE_CLIENT, *client)).is_some()
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        // SAFETY: copied at once; a torn copy names a backend of another generation, and is not used.
        unsafe { AFFINITY.get(key) }.copied()
    }

    #[inline(always)]
    fn set_affinity(&self, key: &AffinityKey, affinity: &Affinity) {
        // Without room the client is a new one next time.
        let _ = AFFINITY.insert(key, affinity, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn masquerade(&self, ifindex: u32) -> Option<&Masquerade> {
        // SAFETY: as in `front_end`.
        unsafe { MASQUERADE.get(ifindex) }
    }

    #[inline(always)]
    fn neighbour(&self, key: &PeerKey) -> Option<u32> {
        // SAFETY: one word.
        unsafe { PEERS.get(key) }.copied()
    }

    #[inline(always)]
    fn timers(&self) -> Option<&Timers> {
        TIMERS.get(0)
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: takes nothing and touches nothing.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn flow4<R>(&self, key: &FlowKey4, with: impl FnOnce(Place, &mut Flow) -> R) -> Option<R> {
        found(&FLOWS4, &OPENING4, key, with)
    }

    #[inline(always)]
    fn flow6<R>(&self, key: &FlowKey6, with: impl FnOnce(Place, &mut Flow) -> R) -> Option<R> {
        found(&FLOWS6, &OPENING6, key, with)
    }

    #[inline(always)]
    fn add_flow4(&self, place: Place, key: &FlowKey4, flow: &Flow, replace: bool) -> bool {
        let flags = u64::from(if replace { BPF_ANY } else { BPF_NOEXIST });
        match place {
            Place::Established => FLOWS4.insert(key, flow, flags).is_ok(),
            Place::Opening => OPENING4.insert(key, flow, flags).is_ok(),
        }
    }

    #[inline(always)]
    fn add_flow6(&self, place: Place, key: &FlowKey6, flow: &Flow, replace: bool) -> bool {
        let flags = u64::from(if replace { BPF_ANY } else { BPF_NOEXIST });
        match place {
            Place::Established => FLOWS6.insert(key, flow, flags).is_ok(),
            Place::Opening => OPENING6.insert(key, flow, flags).is_ok(),
        }
    }

    #[inline(always)]
    fn remove_flow4(&self, place: Place, key: &FlowKey4) {
        // Another processor may have removed it.
        let _ = match place {
            Place::Established => FLOWS4.remove(key),
            Place::Opening => OPENING4.remove(key),
        };
    }

    #[inline(always)]
    fn remove_flow6(&self, place: Place, key: &FlowKey6) {
        let _ = match place {
            Place::Established => FLOWS6.remove(key),
            Place::Opening => OPENING6.remove(key),
        };
    }

    #[inline(always)]
    fn fragment<R>(&self, key: &FragmentKey, with: impl FnOnce(&Fragment) -> R) -> Option<R> {
        // SAFETY: written once, as a whole.
        unsafe { FRAGMENTS.get(key) }.map(with)
    }

    #[inline(always)]
    fn keep_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        // Without room the other fragments are dropped, as if the first had been lost.
        let _ = FRAGMENTS.insert(key, fragment, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn scratch4<R>(&self, with: impl FnOnce(&mut Scratch<FlowKey4>) -> R) -> Option<R> {
        // SAFETY: a per-CPU slot that one program at a time runs over; zeroes are valid in all fields.
        SCRATCH4.get_ptr_mut(0).map(|scratch| with(unsafe { &mut *scratch }))
    }

    #[inline(always)]
    fn scratch6<R>(&self, with: impl FnOnce(&mut Scratch<FlowKey6>) -> R) -> Option<R> {
        // SAFETY: as in `scratch4`.
        SCRATCH6.get_ptr_mut(0).map(|scratch| with(unsafe { &mut *scratch }))
    }

    #[inline(always)]
    fn count_service(&self, service: u32, bytes: u32, event: ServiceEvent) {
        let Some(counter) = SERVICE_STATS.get_ptr_mut(service) else { return };
        // SAFETY: a per-CPU slot, valid for the whole run; nothing else on this CPU writes it meanwhile.
        let counter = unsafe { &mut *counter };
        match event {
            ServiceEvent::NoEndpoint => {
                counter.no_endpoint += 1;
                return;
            }
            ServiceEvent::LeftToTc => {
                counter.packets -= 1;
                counter.bytes -= u64::from(bytes);
                return;
            }
            ServiceEvent::Packet | ServiceEvent::NewFlow => {}
        }
        counter.packets += 1;
        counter.bytes += u64::from(bytes);
        if event == ServiceEvent::NewFlow {
            counter.new_flows += 1;
        }
    }
}

#[inline(always)]
fn found<K, R, const N: usize, const M: usize>(
    established: &HashMap<K, Flow, N>,
    opening: &LruHashMap<K, Flow, M>,
    key: &K,
    with: impl FnOnce(Place, &mut Flow) -> R,
) -> Option<R> {
    let (place, flow) = match established.get_ptr_mut(key) {
        Some(flow) => (Place::Established, flow),
        None => (Place::Opening, opening.get_ptr_mut(key)?),
    };
    // SAFETY: the entry stays where it is until this program has ended (RCU); removed meanwhile and used
    // again it holds another flow, whose counters are then off by one packet. Packets of one direction
    // come on one CPU as a rule; where not, a count may be lost, which nothing depends on.
    Some(with(place, unsafe { &mut *flow }))
}
