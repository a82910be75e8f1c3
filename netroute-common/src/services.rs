//! The questions the logic asks of the maps about Services and flows, beside those of
//! [`crate::tables`] about routes.

use crate::layout::flow::{Flow, FlowKey4, FlowKey6, Fragment, FragmentKey, Masquerade, PeerKey, Timers};
use crate::layout::service::{Affinity, AffinityKey, Backend, FrontEnd, FrontEndKey, SourceRange};
use crate::stage::serve::Scratch;

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
    /// Counted as sent, but left to the next hook, which counts it again.
    LeftToTc,
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

    /// The next hop that hands packets over so.
    fn neighbour(&self, key: &PeerKey) -> Option<u32>;

    fn timers(&self) -> Option<&Timers>;

    /// Nanoseconds of `CLOCK_MONOTONIC`.
    fn now(&self) -> u64;

    /// Calls `with` on the entry of a flow, if there is one; of the two places the established ones come
    /// first. `with` may ask for anything but flows.
    fn flow4<R>(&self, key: &FlowKey4, with: impl FnOnce(Place, &mut Flow) -> R) -> Option<R>;

    fn flow6<R>(&self, key: &FlowKey6, with: impl FnOnce(Place, &mut Flow) -> R) -> Option<R>;

    /// Adds an entry; false if there is one already that is not to be replaced, or no room.
    fn add_flow4(&self, place: Place, key: &FlowKey4, flow: &Flow, replace: bool) -> bool;

    fn add_flow6(&self, place: Place, key: &FlowKey6, flow: &Flow, replace: bool) -> bool;

    fn remove_flow4(&self, place: Place, key: &FlowKey4);

    fn remove_flow6(&self, place: Place, key: &FlowKey6);

    /// Calls `with` on what the first fragment of a packet became.
    fn fragment<R>(&self, key: &FragmentKey, with: impl FnOnce(&Fragment) -> R) -> Option<R>;

    fn keep_fragment(&self, key: &FragmentKey, fragment: &Fragment);

    /// Calls `with` on the working memory of this processor and family. What is in it is what was left there.
    fn scratch4<R>(&self, with: impl FnOnce(&mut Scratch<FlowKey4>) -> R) -> Option<R>;

    fn scratch6<R>(&self, with: impl FnOnce(&mut Scratch<FlowKey6>) -> R) -> Option<R>;

    /// One packet of `bytes` at this slot of `SERVICE_STATS`.
    fn count_service(&self, service: u32, bytes: u32, event: ServiceEvent);
}
