//! Smallest program that exercises the build: one XDP entry point and one trie.

#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{LpmTrie, lpm_trie::Key},
    macros::{btf_map, xdp},
    programs::XdpContext,
};

#[btf_map]
static ROUTES4: LpmTrie<[u8; 4], u32, 1024> = LpmTrie::new();

#[xdp]
pub fn netroute_xdp(_ctx: XdpContext) -> u32 {
    match ROUTES4.get(&Key::new(32, [10, 0, 0, 1])) {
        Some(_) => xdp_action::XDP_PASS,
        None => xdp_action::XDP_PASS,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
