//! From a verdict to what the hook returns.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::{bpf_redirect, bpf_redirect_peer};
use netroute_common::pipeline::Arrival;
use netroute_common::verdict::{Exit, Hook, Verdict};

#[inline(always)]
pub fn xdp(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Pass(_) => xdp_action::XDP_PASS,
        Verdict::Drop(_) => xdp_action::XDP_DROP,
        Verdict::Answer(_) => xdp_action::XDP_TX,
        Verdict::Forward(Exit::SameNic) => xdp_action::XDP_TX,
        // The tables have named the slot to the kernel already.
        Verdict::Forward(Exit::Port(_)) => xdp_action::XDP_REDIRECT,
        Verdict::Forward(Exit::Interface(_) | Exit::Pod(_) | Exit::Onward) => xdp_action::XDP_ABORTED,
    }
}

/// Lets a packet go on to the next program, after the last one to where it was going.
pub const ONWARD: i32 = TC_ACT_UNSPEC;

#[inline(always)]
pub fn tc(verdict: Verdict, arrival: Arrival) -> i32 {
    match verdict {
        Verdict::Drop(_) => TC_ACT_SHOT,
        // Back to where it came from: the node itself, or the network.
        Verdict::Answer(_) => {
            let flags = if arrival.hook == Hook::TcOut { u64::from(BPF_F_INGRESS) } else { 0 };
            // SAFETY: the helper only records the target; the kernel checks it.
            unsafe { bpf_redirect(arrival.ifindex, flags) as i32 }
        }
        // The same number as TCX_NEXT: on to the next program, after the last one to the kernel.
        Verdict::Pass(_) | Verdict::Forward(Exit::Onward) => ONWARD,
        // SAFETY: both helpers only record the target; the kernel checks it.
        Verdict::Forward(Exit::Interface(ifindex)) => unsafe { bpf_redirect(ifindex, 0) as i32 },
        // SAFETY: as above.
        Verdict::Forward(Exit::Pod(ifindex)) => unsafe { bpf_redirect_peer(ifindex, 0) as i32 },
        Verdict::Forward(Exit::SameNic | Exit::Port(_)) => TC_ACT_SHOT,
    }
}
