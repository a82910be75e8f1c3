//! The questions the logic asks of the maps about Services and flows, beside those of
//! [`crate::tables`] about routes.

use crate::layout::flow::{Flow, FlowKey4, FlowKey6, Masquerade, Timers};
use crate::layout::service::{Affinity, AffinityKey, Backend, FrontEnd, FrontEndKey, SourceRange};

/// Which table a flow is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// `FLOWS*`: keeps what it has, refuses what is new when it is full.
    Established,
    /// `OPENING*`: gives up the flow longest unused when it is full.
    Opening,
}

/// What a packet of a Service was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ServiceEvent {
    /// Sent on, in an existing flow.
    Packet,
    /// Sent on, the first of its flow.
    NewFlow,
    /// Refused or dropped for want of an endpoint.
    NoEndpoint,
}

/// The installed Services, and the flows.
pub trait Services {
    fn front_end(&self, key: &FrontEndKey) -> Option<&FrontEnd>;

    /// The backend in an entry of `SLOTS`.
    fn slot(&self, index: u32) -> Option<u32>;

    fn backend(&self, id: u32) -> Option<&Backend>;

    /// Whether `SOURCE_RANGES` has a prefix that holds this client under its Service.
    fn source_allowed(&self, client: &SourceRange) -> bool;

    fn affinity(&self, key: &AffinityKey) -> Option<Affinity>;

    fn set_affinity(&self, key: &AffinityKey, affinity: &Affinity);

    /// What flows that leave by this interface are masqueraded to.
    fn masquerade(&self, ifindex: u32) -> Option<&Masquerade>;

    fn timers(&self) -> Option<&Timers>;

    /// Nanoseconds of `CLOCK_MONOTONIC`.
    fn now(&self) -> u64;

    /// Calls `with` on the entry of a flow, if there is one. `with` may ask for anything but flows.
    fn flow4<R>(&self, place: Place, key: &FlowKey4, with: impl FnOnce(&mut Flow) -> R) -> Option<R>;

    fn flow6<R>(&self, place: Place, key: &FlowKey6, with: impl FnOnce(&mut Flow) -> R) -> Option<R>;

    /// Adds an entry; false if there is one already, or no room.
    fn add_flow4(&self, place: Place, key: &FlowKey4, flow: &Flow) -> bool;

    fn add_flow6(&self, place: Place, key: &FlowKey6, flow: &Flow) -> bool;

    fn remove_flow4(&self, place: Place, key: &FlowKey4);

    fn remove_flow6(&self, place: Place, key: &FlowKey6);

    /// One packet of `bytes` at this slot of `SERVICE_STATS`.
    fn count_service(&self, service: u32, bytes: u32, event: ServiceEvent);
}
