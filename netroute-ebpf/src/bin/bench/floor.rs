//! The least that a program of its kind costs.

use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::btf_maps::DevMap;
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{btf_map, classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use netroute_common::wire::eth::{ETH_LEN, ETHERTYPE_IPV4, Eth};
use netroute_common::wire::ipv4::Ipv4;

use crate::frame::bounded;

/// Where the floors and the FIB's programs redirect to.
#[btf_map]
pub static EXITS: DevMap<64> = DevMap::new();

/// Interface that `floor_tc_redirect` redirects to.
#[unsafe(no_mangle)]
static EXIT: u32 = 0;

/// Returns at once.
#[xdp]
pub fn floor_return(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Looks whether it is IPv4, and sends it back.
#[xdp]
pub fn floor_tx(ctx: XdpContext) -> u32 {
    if is_ipv4(ctx.data(), ctx.data_end()) { xdp_action::XDP_TX } else { xdp_action::XDP_PASS }
}

/// Looks whether it is IPv4, and sends it out of another interface.
#[xdp]
pub fn floor_redirect(ctx: XdpContext) -> u32 {
    if is_ipv4(ctx.data(), ctx.data_end()) {
        EXITS.redirect(0, xdp_action::XDP_ABORTED.into()).unwrap_or_else(|action| action)
    } else {
        xdp_action::XDP_PASS
    }
}

/// Passes at once.
#[classifier]
pub fn floor_tc_return(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// As [`floor_redirect`], at TC.
#[classifier]
pub fn floor_tc_redirect(ctx: TcContext) -> i32 {
    if is_ipv4(ctx.data(), ctx.data_end()) {
        // SAFETY: a static of this program's read-only data, which the loader has set.
        let exit = unsafe { core::ptr::read_volatile(&raw const EXIT) };
        // SAFETY: the helper only records the target; the kernel checks it.
        unsafe { bpf_redirect(exit, 0) as i32 }
    } else {
        TC_ACT_UNSPEC
    }
}

/// Reads what no router can do without: type, version, TTL.
#[inline(always)]
fn is_ipv4(data: usize, end: usize) -> bool {
    let Some(eth) = bounded::<Eth>(data, end, 0) else { return false };
    let Some(ip) = bounded::<Ipv4>(data, end, ETH_LEN) else { return false };
    // SAFETY: both lie inside the frame, and any bits are valid.
    let (eth, ip) = unsafe { (&*eth, &*ip) };
    eth.ethertype.get() == ETHERTYPE_IPV4 && ip.version_ihl == 0x45 && ip.ttl > 1
}
