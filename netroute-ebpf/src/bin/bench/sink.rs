//! The far end of the whole path.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;

/// Packets that arrived.
#[btf_map]
pub static ARRIVED: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Long enough for an IPv4 packet with UDP; what the kernel itself sends is not.
const LEAST: usize = 42;

/// Counts IPv4 packets, and drops everything.
#[xdp]
pub fn sink(ctx: XdpContext) -> u32 {
    let data = ctx.data();
    if data + LEAST <= ctx.data_end() {
        // SAFETY: it ends before `data_end`.
        let ethertype = unsafe { *((data + 12) as *const u16) };
        if let Some(arrived) = ARRIVED.get_ptr_mut(0).filter(|_| ethertype == 0x0800_u16.to_be()) {
            // SAFETY: a per-CPU slot, valid for the whole run; nothing else on this CPU writes it.
            unsafe { *arrived += 1 };
        }
    }
    xdp_action::XDP_DROP
}
