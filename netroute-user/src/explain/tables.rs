//! The live maps as the tables of the packet logic, for packets that nobody sent.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};

use aya::maps::MapError;
use aya::maps::lpm_trie::Key;
use netroute_common::abi;
use netroute_common::host::HostPacket;
use netroute_common::layout::egress::{EgressRule, Policy, SnatAddress};
use netroute_common::layout::flow::{FlowKey4, FlowKey6, Masquerade, Timers};
use netroute_common::layout::route::{Group, NextHop, Prefix4, Prefix6, Route};
use netroute_common::layout::service::{Backend, FrontEnd, FrontEndKey};
use netroute_common::pipeline::{Arrival, run};
use netroute_common::stage::leave::Question;
use netroute_common::stage::open::Chosen;
use netroute_common::stage::serve::{Scratch, Standing};
use netroute_common::stage::tuple::Tuple;
use netroute_common::strides::route4;
use netroute_common::tables::Tables;
use netroute_common::verdict::{Reason, Verdict};

use super::maps::LiveMaps;
use super::memo::Memo;
use super::overlay::{Flows, Overlay};
use super::trace::Trace;
use crate::apply::StoreError;
use crate::compile::services::image::unmapped;

/// The maps as they were when each entry was first asked for. Packets that follow each other over the same
/// tables find what those before them would have left.
pub struct LiveTables<'m> {
    pub(super) maps: &'m LiveMaps,
    groups: Memo<u32, Group>,
    next_hops: Memo<u32, NextHop>,
    pub(super) front_ends: Memo<FrontEndKey, FrontEnd>,
    pub(super) backends: Memo<u32, Backend>,
    pub(super) masquerade: Memo<u32, Masquerade>,
    pub(super) timers: Memo<(), Timers>,
    pub(super) rules: Memo<u32, EgressRule>,
    pub(super) policies: Memo<u32, Policy>,
    pub(super) snat: Memo<u32, SnatAddress>,
    pub(super) flows4: Flows<FlowKey4>,
    pub(super) flows6: Flows<FlowKey6>,
    pub(super) overlay: Overlay,
    pub(super) scratch4: RefCell<Scratch<FlowKey4>>,
    pub(super) scratch6: RefCell<Scratch<FlowKey6>>,
    pub(super) trace: RefCell<Trace>,
    failed: RefCell<Option<StoreError>>,
}

/// What became of one packet at one hook.
#[derive(Clone, Debug)]
pub struct Judged {
    pub verdict: Verdict,
    pub frame: Vec<u8>,
    pub trace: Trace,
    /// `None` if Services and flows were not asked.
    pub worked: Option<Worked>,
}

/// What the logic had worked out when it was done; which of it counts, the [`Trace`] says.
#[derive(Clone, Debug)]
pub struct Worked {
    /// The packet's two ends, as it came and as it would be.
    pub asked: [SocketAddr; 2],
    pub to: [SocketAddr; 2],
    pub chosen: Chosen,
    pub standing: Standing,
    /// What policies were asked.
    pub question: Question,
    /// The group that a policy names; 0 for the route's.
    pub via: u32,
}

impl<A: Tuple> From<&Scratch<A>> for Worked {
    fn from(scratch: &Scratch<A>) -> Self {
        let Scratch { asked, to, chosen, standing, question, via, .. } = scratch;
        Self {
            asked: ends(&asked.tuple),
            to: ends(to),
            chosen: *chosen,
            standing: *standing,
            question: *question,
            via: *via,
        }
    }
}

fn ends<A: Tuple>(tuple: &A) -> [SocketAddr; 2] {
    let (source, destination) = tuple.ports();
    [
        SocketAddr::new(unmapped(tuple.source()), source),
        SocketAddr::new(unmapped(tuple.destination()), destination),
    ]
}

impl<'m> LiveTables<'m> {
    #[must_use]
    pub fn new(maps: &'m LiveMaps) -> Self {
        Self {
            maps,
            groups: Memo::default(),
            next_hops: Memo::default(),
            front_ends: Memo::default(),
            backends: Memo::default(),
            masquerade: Memo::default(),
            timers: Memo::default(),
            rules: Memo::default(),
            policies: Memo::default(),
            snat: Memo::default(),
            flows4: Flows::default(),
            flows6: Flows::default(),
            overlay: Overlay::default(),
            scratch4: RefCell::default(),
            scratch6: RefCell::default(),
            trace: RefCell::default(),
            failed: RefCell::default(),
        }
    }

    /// Runs one packet through the pipeline.
    ///
    /// # Errors
    /// A map that could not be read: what was found out does not count then.
    pub fn judge(&self, packet: &mut HostPacket, arrival: Arrival) -> Result<Judged, StoreError> {
        self.trace.replace(Trace::default());
        let verdict = run(packet, self, arrival);
        self.complete()?;
        let trace = self.trace.borrow().clone();
        let v6 = packet.frame().get(12..14) == Some(&[0x86, 0xdd]);
        let worked = trace.decided.map(|_| match v6 {
            false => Worked::from(&*self.scratch4.borrow()),
            true => Worked::from(&*self.scratch6.borrow()),
        });
        Ok(Judged { verdict, frame: packet.frame().to_vec(), trace, worked })
    }

    /// Whether everything could be read so far.
    ///
    /// # Errors
    /// The first map that could not.
    pub fn complete(&self) -> Result<(), StoreError> {
        self.failed.borrow_mut().take().map_or(Ok(()), Err)
    }

    /// The route of an address, as the data plane finds it.
    #[must_use]
    pub fn route_to(&self, address: IpAddr) -> Option<Route> {
        match address {
            IpAddr::V4(address) => route4(self, address.octets()),
            IpAddr::V6(address) => self.route6(address.octets()),
        }
    }

    /// The interface in a slot of `PORTS`.
    #[must_use]
    pub fn port(&self, slot: u32) -> Option<u32> {
        self.read(abi::MAP_PORTS, self.maps.ports.get(slot, 0)).map(|value| value.if_index)
    }

    /// What was read, if there is such an entry.
    pub(super) fn read<V>(&self, map: &'static str, read: Result<V, MapError>) -> Option<V> {
        match read {
            Ok(value) => Some(value),
            Err(MapError::KeyNotFound | MapError::OutOfBounds { .. }) => None,
            Err(source) => {
                let error = StoreError::Map { map, operation: "read", source: source.into() };
                self.failed.borrow_mut().get_or_insert(error);
                None
            }
        }
    }

    pub(super) fn note(&self, note: impl FnOnce(&mut Trace)) {
        note(&mut self.trace.borrow_mut());
    }
}

impl Tables for LiveTables<'_> {
    fn root4(&self, first: u8, second: u8) -> Option<Route> {
        let block = self.read(abi::MAP_ROOT4, self.maps.root4.get(&first.into(), 0))?;
        block.entries.get(usize::from(second)).copied()
    }

    fn block4(&self, index: u32, octet: u8) -> Option<Route> {
        let block = self.read(abi::MAP_BLOCKS4, self.maps.blocks4.get(&index, 0))?;
        block.entries.get(usize::from(octet)).copied()
    }

    fn trie4(&self, destination: [u8; 4]) -> Option<Route> {
        let key = Key::new(32, Prefix4 { address: destination });
        self.read(abi::MAP_ROUTES4, self.maps.routes4.get(&key, 0))
    }

    fn route6(&self, destination: [u8; 16]) -> Option<Route> {
        let key = Key::new(128, Prefix6 { address: destination });
        self.read(abi::MAP_ROUTES6, self.maps.routes6.get(&key, 0))
    }

    fn group(&self, id: u32) -> Option<&Group> {
        self.note(|trace| trace.groups.push(id));
        self.groups.get_or(id, |id| self.read(abi::MAP_GROUPS, self.maps.groups.get(id, 0)))
    }

    fn next_hop(&self, id: u32) -> Option<&NextHop> {
        self.next_hops.get_or(id, |id| self.read(abi::MAP_NEXTHOPS, self.maps.next_hops.get(id, 0)))
    }

    fn take_port(&self, slot: u32) -> bool {
        self.port(slot).is_some()
    }

    fn count_forwarded(&self, stats: u32, next_hop: u32, _bytes: u32) {
        self.note(|trace| trace.forwarded = Some((stats, next_hop)));
    }

    fn count_verdict(&self, _reason: Reason, _bytes: u32) {}
}
