//! The least that a program of its kind costs.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

/// Returns at once.
#[xdp]
pub fn floor_return(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}
