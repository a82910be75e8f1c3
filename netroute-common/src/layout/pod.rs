//! Declares the map types plain old data for aya's typed maps (user space only).
#![expect(unsafe_code, reason = "aya::Pod is an unsafe marker trait")]

use super::config::Nic;
use super::egress::{EgressCounter, EgressPrefix, EgressRule, Policy, RuleSet, SnatAddress};
use super::flow::{Flow, FlowKey4, FlowKey6, Fragment, FragmentKey, Masquerade, PeerKey, Timers};
use super::route::{Group, NextHop, Prefix4, Prefix6, Route};
use super::service::{
    Address, Affinity, AffinityKey, Backend, FrontEnd, FrontEndKey, ServiceCounter, Slot, SourceRange,
};
use super::socket::{SocketKey, SocketPeer};
use super::stats::Counter;
use super::strides::Block;

macro_rules! plain_old_data {
    ($($name:ty),+ $(,)?) => { $(
        // SAFETY: repr(C), Copy, and `IntoBytes` + `FromBytes` are derived, so there is no
        // padding and every bit pattern is valid.
        unsafe impl aya::Pod for $name {}
    )+ };
}

plain_old_data!(Block, Counter, Group, NextHop, Nic, Prefix4, Prefix6, Route);
plain_old_data!(EgressCounter, EgressPrefix, EgressRule, Policy, RuleSet, SnatAddress);
plain_old_data!(
    Address,
    Affinity,
    AffinityKey,
    Backend,
    FrontEnd,
    FrontEndKey,
    ServiceCounter,
    Slot,
    SourceRange
);
plain_old_data!(Flow, FlowKey4, FlowKey6, Fragment, FragmentKey, Masquerade, PeerKey, Timers);
plain_old_data!(SocketKey, SocketPeer);
