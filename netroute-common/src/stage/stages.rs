//! The large stages as the pipeline calls them. A verifier walks a function anew for each way that leads to
//! it, unless the function is global and takes numbers only (Linux 5.6): then once. The BPF programs call
//! these so; the host calls them in place.

use super::answer::Answering;
use super::serve::Decision;
use crate::egress::Egress;
use crate::packet::Packet;
use crate::pipeline::Arrival;
use crate::services::Services;
use crate::tables::Tables;
use crate::verdict::Reason;

/// A new flow, and the search for its source port step by step.
pub trait NewFlows: Tables + Services + Egress + Sized {
    /// [`super::leave::leave`].
    fn leave<F: Answering>(&self, decision: Decision) -> Decision;

    /// [`super::hold::hold`].
    fn hold<F: Answering>(&self, decision: Decision, obstacle: Decision, next_hop: u32) -> Decision;

    /// [`super::open::enter`].
    fn enter<F: Answering>(&self) -> Decision;

    /// [`super::port::await_answers`].
    fn await_answers<F: Answering>(&self) -> bool;

    /// [`super::port::reclaim`].
    fn reclaim<F: Answering>(&self) -> bool;
}

/// Tables, and the stages over them for one kind of packet.
pub trait Stages<P: Packet>: NewFlows {
    /// [`super::serve::decide`].
    fn decide<F: Answering>(&self, packet: &mut P, arrival: Arrival, destination: u8) -> Decision;

    /// [`super::serve::carry`].
    fn carry<F: Answering>(&self, packet: &mut P, decision: Decision, obstacle: Decision) -> Decision;

    /// [`super::relate::relate`].
    fn relate<F: Answering>(&self, packet: &mut P, arrival: Arrival, destination: u8) -> Decision;

    /// [`super::relate::carry_related`].
    fn carry_related<F: Answering>(&self, packet: &mut P, decision: Decision, obstacle: Decision)
    -> Decision;

    /// [`super::answer::answer`].
    fn answer<F: Answering>(&self, packet: &mut P, reason: Reason, mtu: u32) -> bool;
}
