//! What the packet logic asked and was told on one packet's way.

use netroute_common::egress::EgressEvent;
use netroute_common::layout::egress::{EgressPrefix, Identity, RuleSet};
use netroute_common::layout::flow::Flow;
use netroute_common::layout::service::{Address, FrontEnd, FrontEndKey};
use netroute_common::services::Place;
use netroute_common::stage::serve::Decision;

/// Of one packet at one hook.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Which stage asks.
    pub(super) stage: Stage,
    /// What it is to Services and flows; `None`: nobody asked.
    pub decided: Option<Decision>,
    /// The entry of its flow, as it was.
    pub known: Option<(Place, Flow)>,
    /// The front end that it is to.
    pub front_end: Option<(FrontEndKey, FrontEnd)>,
    /// What policies made of it; `None`: none was asked.
    pub judged: Option<Decision>,
    pub identity: Option<(Address, Option<Identity>)>,
    pub rule_sets: Vec<(EgressPrefix, Option<RuleSet>)>,
    /// Those that were looked at, by index: the default, which says whether any is in force; then the one that
    /// decides.
    pub policies: Vec<u32>,
    /// The policy that counted the packet, and as what.
    pub counted: Option<(u32, EgressEvent)>,
    /// The groups whose members were asked for since: the last one is the packet's.
    pub groups: Vec<u32>,
    /// The next hop that a new flow was to leave by.
    pub held: Option<u32>,
    /// The new flow has its entries.
    pub entered: bool,
    /// Counter and next hop of a packet that leaves.
    pub forwarded: Option<(u32, u32)>,
}

/// What is looked at when a map is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// The source, and the route.
    #[default]
    Begin,
    /// Services and flows.
    Decide,
    /// Policies.
    Leave,
    /// What follows.
    Way,
}
