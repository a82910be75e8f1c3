//! What `cargo xtask bench` loads beside the product: the floors that every packet pays, and the
//! two ends of the whole path.
#![no_std]
#![no_main]

mod fib;
mod floor;
#[path = "../../frame.rs"]
mod frame;
mod generator;
mod restore;
mod sink;
mod traffic;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// Kernel helpers marked gpl_only need a compatible licence string.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
