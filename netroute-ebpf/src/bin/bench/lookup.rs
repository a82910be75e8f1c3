//! Nothing but the question which route a packet takes: to the product's tables and to the
//! kernel's FIB.

use core::hint::black_box;

use aya_ebpf::bindings::{BPF_FIB_LOOKUP_SKIP_NEIGH, xdp_action};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use netroute_common::packet::Packet as _;
use netroute_common::strides::route4;
use netroute_common::verdict::Hook;
use netroute_common::wire::eth::ETH_LEN;
use netroute_common::wire::ipv4::Ipv4;

use crate::fib;
use crate::frame::Frame;
use crate::tables::Maps;

/// Reads the destination.
#[xdp]
pub fn lookup_floor(ctx: XdpContext) -> u32 {
    found(ipv4(&ctx).map(|ip| black_box(ip.destination)).is_some())
}

/// Asks the product's tables.
#[xdp]
pub fn lookup_route4(ctx: XdpContext) -> u32 {
    let maps = Maps { hook: Hook::XdpNic };
    found(ipv4(&ctx).and_then(|ip| route4(&maps, ip.destination)).is_some())
}

/// Asks the kernel's FIB, without the neighbour (Linux 6.3): as little as it can be asked for.
#[xdp]
pub fn lookup_fib4(ctx: XdpContext) -> u32 {
    found(ipv4(&ctx).and_then(|ip| fib::ask(&ctx, &ip, BPF_FIB_LOOKUP_SKIP_NEIGH)).is_some())
}

#[inline(always)]
fn ipv4(ctx: &XdpContext) -> Option<Ipv4> {
    Frame::new(ctx, [0; 6]).get::<Ipv4>(ETH_LEN).copied()
}

#[inline(always)]
fn found(found: bool) -> u32 {
    if found { xdp_action::XDP_TX } else { xdp_action::XDP_PASS }
}
