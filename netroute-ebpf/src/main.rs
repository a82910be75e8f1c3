//! The BPF programs: thin. An entry point wraps its context as a packet, runs the shared pipeline
//! and turns the verdict into the hook's action. All decisions are in `netroute-common`.
#![no_std]
#![no_main]
// For counting in one step; the target has no atomic types.
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the target has the instruction, `core` no safe name for it")]

mod action;
mod egress;
mod frame;
mod maps;
mod services;
mod skb;
mod sockets;
mod stages;
mod tables;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use netroute_common::pipeline::{Arrival, run};
use netroute_common::verdict::{Exit, Hook, Reason, Verdict};

/// XDP on a NIC: transit between NICs. One instance per NIC, see [`maps::nic`].
#[xdp]
pub fn xdp_nic(ctx: XdpContext) -> u32 {
    let nic = maps::nic();
    let arrival = Arrival { hook: Hook::XdpNic, ifindex: nic.ifindex };
    let mut frame = frame::Frame::new(&ctx, nic.mac);
    action::xdp(run(&mut frame, &tables::Maps { hook: Hook::XdpNic }, arrival))
}

/// TC ingress on a NIC: what XDP passed up, to pods and to interfaces XDP cannot reach.
#[classifier]
pub fn tc_nic(ctx: TcContext) -> i32 {
    classify(ctx, Hook::TcNic)
}

/// TC ingress on the host end of a pod's veth: what the pod sends.
#[classifier]
pub fn tc_pod(ctx: TcContext) -> i32 {
    classify(ctx, Hook::TcPod)
}

/// TC egress on NICs and on the host ends of pods' veths: what processes of the node send, and what the kernel
/// forwards.
#[classifier]
pub fn tc_out(ctx: TcContext) -> i32 {
    // What the other programs redirected has been judged.
    if skb::Skb::take_mark(&ctx) { action::ONWARD } else { classify(ctx, Hook::TcOut) }
}

#[inline(always)]
fn classify(ctx: TcContext, hook: Hook) -> i32 {
    let mut skb = skb::Skb::new(ctx);
    let arrival = Arrival { hook, ifindex: skb.ifindex() };
    let verdict = run(&mut skb, &tables::Maps { hook }, arrival);
    skb.mark(matches!(
        verdict,
        Verdict::Forward(Exit::Interface(_)) | Verdict::Answer(_) | Verdict::Pass(Reason::Translated)
    ));
    action::tc(verdict, arrival)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No path leads here: `cargo xtask elf` refuses an object that refers to core's panics.
    loop {}
}

// Kernel helpers marked gpl_only need a compatible licence string.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
