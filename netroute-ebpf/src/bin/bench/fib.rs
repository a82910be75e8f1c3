//! Forwarding by the kernel's own FIB (`bpf_fib_lookup`), as routers without tables of their own
//! do it. Only the question where to differs from the product: headers are read and rewritten by
//! the same code.

use core::mem::{size_of, zeroed};
use core::ptr::from_mut;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as Question, xdp_action};
use aya_ebpf::helpers::bpf_fib_lookup;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use netroute_common::packet::Packet as _;
use netroute_common::wire::eth::{ETH_LEN, ETHERTYPE_IPV4, Eth};
use netroute_common::wire::ip::Ip as _;
use netroute_common::wire::ipv4::Ipv4;

use crate::floor::EXITS;
use crate::frame::Frame;

const AF_INET: u8 = 2;

/// Forwards IPv4 by the kernel's FIB and neighbour table; slots of `EXITS` are interface indices.
#[xdp]
pub fn fib_forward(ctx: XdpContext) -> u32 {
    forward(&ctx).unwrap_or(xdp_action::XDP_PASS)
}

#[inline(always)]
fn forward(ctx: &XdpContext) -> Option<u32> {
    let mut frame = Frame::new(ctx, [0; 6]);
    let eth: &Eth = frame.get(0)?;
    if eth.ethertype.get() != ETHERTYPE_IPV4 {
        return None;
    }
    let available = frame.frame_length().wrapping_sub(ETH_LEN as u32);
    let ip: &Ipv4 = frame.get(ETH_LEN)?;
    if ip.check(available, false).is_err() || ip.ttl() <= 1 {
        return None;
    }
    let answer = ask(ctx, ip, 0)?;
    let eth: &mut Eth = frame.get_mut(0)?;
    eth.destination.set(&answer.dmac);
    eth.source.set(&answer.smac);
    Ipv4::decrement_ttl(&mut frame)?;
    let redirected = EXITS.redirect(answer.ifindex, xdp_action::XDP_ABORTED.into());
    Some(redirected.unwrap_or_else(|action| action))
}

/// What the kernel's FIB says of a packet. `flags` are `BPF_FIB_LOOKUP_*`.
#[inline(always)]
pub fn ask(ctx: &XdpContext, ip: &Ipv4, flags: u32) -> Option<Question> {
    // SAFETY: plain integers, for which zero is valid.
    let mut question: Question = unsafe { zeroed() };
    question.family = AF_INET;
    question.l4_protocol = ip.protocol;
    // SAFETY: the context is valid for the whole run of the program.
    question.ifindex = unsafe { (*ctx.ctx).ingress_ifindex };
    question.__bindgen_anon_1.tot_len = ip.total_length() as u16;
    question.__bindgen_anon_2.tos = ip.dscp_ecn;
    question.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(ip.source);
    question.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(ip.destination);
    let length = size_of::<Question>() as i32;
    // SAFETY: context and question are valid, and the length is the question's.
    let result = unsafe { bpf_fib_lookup(ctx.as_ptr(), from_mut(&mut question).cast(), length, flags) };
    (result == BPF_FIB_LKUP_RET_SUCCESS.into()).then_some(question)
}
