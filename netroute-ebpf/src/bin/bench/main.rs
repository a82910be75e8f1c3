//! What `cargo xtask bench` loads beside the product: the floors that every packet pays, and the
//! two ends of the whole path.
#![no_std]
#![no_main]

mod fib;
mod floor;
#[path = "../../frame.rs"]
mod frame;
mod generator;
mod lookup;
#[path = "../../maps.rs"]
#[expect(dead_code, reason = "the benchmark looks up routes and does not forward by them")]
mod maps;
mod restore;
mod restore_flow;
mod sink;
#[path = "../../tables.rs"]
mod tables;
mod traffic;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// Kernel helpers marked gpl_only need a compatible licence string.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
