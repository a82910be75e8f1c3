//! Makes a packet that was forwarded as good as new, and goes on into the program under test.
//!
//! A test run repeats a program over one buffer. A router leaves it with other MACs, a lower TTL
//! and another checksum, and would not take it a second time. These programs put back what is
//! read by a router, with the destination of the next flow in a table, and call the program under
//! test as a tail call. What they cost themselves is measured in front of [`floor_return`].
//!
//! Written in halfwords, as headers are read: a wider load after narrower stores waits for them.
//!
//! [`floor_return`]: crate::floor::floor_return

use aya_ebpf::bindings::{TC_ACT_SHOT, xdp_action};
use aya_ebpf::btf_maps::{Array, ProgramArray};
use aya_ebpf::macros::{btf_map, classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::frame::bounded;

/// The program under test, at index 0.
#[btf_map]
pub static NEXT: ProgramArray<1> = ProgramArray::new();

/// Destination (2 halfwords), header checksum that goes with it, and a halfword for alignment.
#[btf_map]
static DESTINATIONS4: Array<[u16; 4], 1> = Array::new();

/// Destinations.
#[btf_map]
static DESTINATIONS6: Array<[u16; 8], 1> = Array::new();

/// Flows in the table, a power of two, less one.
#[unsafe(no_mangle)]
static FLOW_MASK: u32 = 0;

/// Link-layer destination, in halfwords as they lie in memory.
#[unsafe(no_mangle)]
static FLOW_MAC: [u16; 3] = [0; 3];

/// The flow that the next packet belongs to.
#[unsafe(no_mangle)]
static mut FLOW_NEXT: u32 = 0;

#[xdp]
pub fn restore4_xdp(ctx: XdpContext) -> u32 {
    if restore4(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: the target is a program of the same type; the kernel checks that.
        unsafe { NEXT.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

#[xdp]
pub fn restore6_xdp(ctx: XdpContext) -> u32 {
    if restore6(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: as above.
        unsafe { NEXT.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

#[classifier]
pub fn restore4_tc(ctx: TcContext) -> i32 {
    if restore4(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: as above.
        unsafe { NEXT.tail_call(&ctx, 0) };
    }
    TC_ACT_SHOT
}

#[classifier]
pub fn restore6_tc(ctx: TcContext) -> i32 {
    if restore6(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: as above.
        unsafe { NEXT.tail_call(&ctx, 0) };
    }
    TC_ACT_SHOT
}

/// Ethernet and IPv4.
type Words4 = [u16; 17];
/// Ethernet and IPv6.
type Words6 = [u16; 27];
const TTL: u8 = 64;
const UDP: u8 = 17;

#[inline(always)]
fn restore4(data: usize, end: usize) -> Option<()> {
    let flow = DESTINATIONS4.get(turn())?;
    let words = bounded::<Words4>(data, end, 0)?;
    // SAFETY: `bounded` checked that all words lie inside the frame; nothing else looks at it now.
    let words = unsafe { &mut *words };
    address(words.first_chunk_mut()?);
    words[11] = u16::from_ne_bytes([TTL, UDP]);
    words[12] = flow[2];
    words[15] = flow[0];
    words[16] = flow[1];
    Some(())
}

#[inline(always)]
fn restore6(data: usize, end: usize) -> Option<()> {
    let flow = DESTINATIONS6.get(turn())?;
    let words = bounded::<Words6>(data, end, 0)?;
    // SAFETY: as above.
    let words = unsafe { &mut *words };
    address(words.first_chunk_mut()?);
    words[10] = u16::from_ne_bytes([UDP, TTL]);
    words[19] = flow[0];
    words[20] = flow[1];
    words[21] = flow[2];
    words[22] = flow[3];
    words[23] = flow[4];
    words[24] = flow[5];
    words[25] = flow[6];
    words[26] = flow[7];
    Some(())
}

#[inline(always)]
fn address(words: &mut [u16; 3]) {
    // SAFETY: a static of this program's read-only data; volatile, since the loader has set it.
    let mac = unsafe { core::ptr::read_volatile(&raw const FLOW_MAC) };
    words[0] = mac[0];
    words[1] = mac[1];
    words[2] = mac[2];
}

/// The number of the next packet's flow.
#[inline(always)]
pub fn turn() -> u32 {
    // SAFETY: a test run has one CPU, and no other program touches this static.
    unsafe {
        let turn = core::ptr::read_volatile(&raw const FLOW_NEXT);
        core::ptr::write_volatile(&raw mut FLOW_NEXT, turn.wrapping_add(1));
        turn & core::ptr::read_volatile(&raw const FLOW_MASK)
    }
}
