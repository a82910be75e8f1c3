//! Services and flows in memory as [`Services`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::vec::Vec;

use super::tables::HostTables;
use crate::layout::flow::{Flow, FlowKey4, FlowKey6, Fragment, FragmentKey, Masquerade, PeerKey, Timers};
use crate::layout::service::{
    Address, Affinity, AffinityKey, Backend, FrontEnd, FrontEndKey, ServiceCounter, SourceRange,
};
use crate::layout::socket::{SocketKey, SocketPeer};
use crate::services::{Place, ServiceEvent, Services};
use crate::stage::serve::Scratch;

/// The content of the Service and flow maps. An absent entry of an array is one that nobody wrote.
#[derive(Clone, Debug)]
pub struct HostServices {
    pub front_ends: BTreeMap<FrontEndKey, FrontEnd>,
    /// Backends by index into `SLOTS`.
    pub slots: BTreeMap<u32, u32>,
    pub backends: BTreeMap<u32, Backend>,
    /// With their prefix length, the Service's 32 bits included.
    pub source_ranges: Vec<(u32, SourceRange)>,
    pub masquerade: BTreeMap<u32, Masquerade>,
    pub peers: BTreeMap<PeerKey, u32>,
    pub timers: Timers,
    /// What the clock says.
    pub now: Cell<u64>,
    /// Entries that each of the two established tables has room for.
    pub room: usize,
    pub affinity: RefCell<BTreeMap<AffinityKey, Affinity>>,
    pub flows4: RefCell<BTreeMap<(Place, FlowKey4), Flow>>,
    pub flows6: RefCell<BTreeMap<(Place, FlowKey6), Flow>>,
    pub fragments: RefCell<BTreeMap<FragmentKey, Fragment>>,
    pub counted: RefCell<BTreeMap<u32, ServiceCounter>>,
    pub sockets: RefCell<BTreeMap<SocketKey, SocketPeer>>,
    scratch4: RefCell<Scratch<FlowKey4>>,
    scratch6: RefCell<Scratch<FlowKey6>>,
}

impl Default for HostServices {
    fn default() -> Self {
        Self {
            front_ends: BTreeMap::new(),
            slots: BTreeMap::new(),
            backends: BTreeMap::new(),
            source_ranges: Vec::new(),
            masquerade: BTreeMap::new(),
            peers: BTreeMap::new(),
            timers: Timers::DEFAULT,
            now: Cell::new(0),
            room: usize::MAX,
            affinity: RefCell::default(),
            flows4: RefCell::default(),
            flows6: RefCell::default(),
            fragments: RefCell::default(),
            counted: RefCell::default(),
            sockets: RefCell::default(),
            scratch4: RefCell::default(),
            scratch6: RefCell::default(),
        }
    }
}

static ZERO_BACKEND: Backend = Backend { address: Address::v6([0; 16]), port: 0, flags: 0, generation: 0 };

impl Services for HostTables {
    fn front_end(&self, key: &FrontEndKey) -> Option<&FrontEnd> {
        self.services.front_ends.get(key)
    }

    fn slot(&self, index: u32) -> Option<u32> {
        Some(self.services.slots.get(&index).copied().unwrap_or(0))
    }

    fn backend(&self, id: u32) -> Option<&Backend> {
        Some(self.services.backends.get(&id).unwrap_or(&ZERO_BACKEND))
    }

    fn source_allowed(&self, client: &SourceRange) -> bool {
        let bits = |range: &SourceRange| {
            let service = u128::from(u32::from_be_bytes(range.service));
            (service, u128::from_be_bytes(range.address.octets))
        };
        let (service, address) = bits(client);
        self.services.source_ranges.iter().any(|(length, range)| {
            let (of, prefix) = bits(range);
            let keep = length.saturating_sub(32);
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(keep)).unwrap_or(0);
            of == service && address & mask == prefix & mask
        })
    }

    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        self.services.affinity.borrow().get(key).copied()
    }

    fn set_affinity(&self, key: &AffinityKey, affinity: &Affinity) {
        self.services.affinity.borrow_mut().insert(*key, *affinity);
    }

    fn masquerade(&self, ifindex: u32) -> Option<&Masquerade> {
        self.services.masquerade.get(&ifindex)
    }

    fn neighbour(&self, key: &PeerKey) -> Option<u32> {
        self.services.peers.get(key).copied()
    }

    fn timers(&self) -> Option<&Timers> {
        Some(&self.services.timers)
    }

    fn now(&self) -> u64 {
        self.services.now.get()
    }

    fn flow4<R>(&self, key: &FlowKey4, with: impl FnOnce(Place, &mut Flow) -> R) -> Option<R> {
        found(&self.services.flows4, key, with)
    }

    fn flow6<R>(&self, key: &FlowKey6, with: impl FnOnce(Place, &mut Flow) -> R) -> Option<R> {
        found(&self.services.flows6, key, with)
    }

    fn add_flow4(&self, place: Place, key: &FlowKey4, flow: &Flow, replace: bool) -> bool {
        add(&self.services.flows4, self.services.room, (place, *key), flow, replace)
    }

    fn add_flow6(&self, place: Place, key: &FlowKey6, flow: &Flow, replace: bool) -> bool {
        add(&self.services.flows6, self.services.room, (place, *key), flow, replace)
    }

    fn remove_flow4(&self, place: Place, key: &FlowKey4) {
        self.services.flows4.borrow_mut().remove(&(place, *key));
    }

    fn remove_flow6(&self, place: Place, key: &FlowKey6) {
        self.services.flows6.borrow_mut().remove(&(place, *key));
    }

    fn fragment<R>(&self, key: &FragmentKey, with: impl FnOnce(&Fragment) -> R) -> Option<R> {
        self.services.fragments.borrow().get(key).map(with)
    }

    fn keep_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        self.services.fragments.borrow_mut().insert(*key, *fragment);
    }

    fn scratch4<R>(&self, with: impl FnOnce(&mut Scratch<FlowKey4>) -> R) -> Option<R> {
        self.services.scratch4.try_borrow_mut().ok().map(|mut scratch| with(&mut scratch))
    }

    fn scratch6<R>(&self, with: impl FnOnce(&mut Scratch<FlowKey6>) -> R) -> Option<R> {
        self.services.scratch6.try_borrow_mut().ok().map(|mut scratch| with(&mut scratch))
    }

    fn count_service(&self, service: u32, bytes: u32, event: ServiceEvent) {
        let mut counted = self.services.counted.borrow_mut();
        let counter = counted.entry(service).or_default();
        match event {
            ServiceEvent::NoEndpoint => {
                counter.no_endpoint = counter.no_endpoint.wrapping_add(1);
                return;
            }
            ServiceEvent::LeftToTc => {
                counter.packets = counter.packets.wrapping_sub(1);
                counter.bytes = counter.bytes.wrapping_sub(u64::from(bytes));
                return;
            }
            ServiceEvent::Packet | ServiceEvent::NewFlow => {}
        }
        counter.packets = counter.packets.wrapping_add(1);
        counter.bytes = counter.bytes.wrapping_add(u64::from(bytes));
        if event == ServiceEvent::NewFlow {
            counter.new_flows = counter.new_flows.wrapping_add(1);
        }
    }
}

fn found<K: Ord + Copy, R>(
    flows: &RefCell<BTreeMap<(Place, K), Flow>>,
    key: &K,
    with: impl FnOnce(Place, &mut Flow) -> R,
) -> Option<R> {
    let mut flows = flows.borrow_mut();
    let places = [Place::Established, Place::Opening];
    let place = places.into_iter().find(|place| flows.contains_key(&(*place, *key)))?;
    flows.get_mut(&(place, *key)).map(|flow| with(place, flow))
}

fn add<K: Ord>(
    flows: &RefCell<BTreeMap<(Place, K), Flow>>,
    room: usize,
    key: (Place, K),
    flow: &Flow,
    replace: bool,
) -> bool {
    let mut flows = flows.borrow_mut();
    if let Some(held) = flows.get_mut(&key) {
        if replace {
            *held = *flow;
        }
        return replace;
    }
    let established = flows.keys().filter(|(place, _)| *place == Place::Established).count();
    if key.0 == Place::Established && established >= room {
        return false;
    }
    flows.insert(key, *flow);
    true
}
