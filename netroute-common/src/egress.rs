//! The questions the logic asks of the maps about egress policy, beside those of [`crate::services`].

use crate::layout::egress::{
    EgressCounter, EgressPrefix, EgressRule, Identity, Policy, RuleSet, SnatAddress,
};
use crate::layout::service::Address;

/// What became of a packet by an egress policy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EgressEvent {
    /// Sent on, in an existing flow.
    Packet,
    /// Sent on, the first of its flow.
    NewFlow,
    /// Counted as sent, but left to the next hook, which counts it again.
    LeftToTc,
    Denied,
}

/// The installed egress policies.
pub trait Egress {
    /// `None` for an address that is neither a pod's of this node nor the node's.
    fn identity(&self, source: &Address) -> Option<Identity>;

    /// Longest-prefix match among the destinations of an identity.
    fn rules(&self, destination: &EgressPrefix) -> Option<RuleSet>;

    fn rule(&self, index: u32) -> Option<&EgressRule>;

    fn policy(&self, index: u32) -> Option<&Policy>;

    fn snat(&self, index: u32) -> Option<&SnatAddress>;

    /// One packet of `bytes` at this slot of `EGRESS_STATS`, at `now`.
    fn count_egress(&self, policy: u32, bytes: u32, now: u64, event: EgressEvent);
}

impl EgressCounter {
    /// Takes note of one packet.
    #[inline(always)]
    pub fn count(&mut self, bytes: u32, now: u64, event: EgressEvent) {
        self.last_hit = now;
        match event {
            EgressEvent::Denied => {
                self.denied = self.denied.wrapping_add(1);
                return;
            }
            EgressEvent::LeftToTc => {
                self.packets = self.packets.wrapping_sub(1);
                self.bytes = self.bytes.wrapping_sub(u64::from(bytes));
                return;
            }
            EgressEvent::Packet => {}
            EgressEvent::NewFlow => self.new_flows = self.new_flows.wrapping_add(1),
        }
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(u64::from(bytes));
    }
}
