//! As [`crate::restore`], for packets whose transport header is rewritten as well: those of a Service's flows.
//!
//! All flows have the same headers but for the client's port and the checksum over it, so that the table
//! of flows leaves the cache to the program under test.

use aya_ebpf::bindings::{TC_ACT_SHOT, xdp_action};
use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::{btf_map, classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::frame::bounded;
use crate::restore::{NEXT, turn};

/// Halfwords of Ethernet, IP and TCP.
const WORDS4: usize = 27;
const WORDS6: usize = 37;
const TCP_WORDS: usize = 10;
/// Halfwords in front of TTL and hop limit; all behind them up to the ports may have been rewritten.
const TTL4: usize = 11;
const TTL6: usize = 10;
/// Halfwords in front of the transport header's destination port and checksums.
const DESTINATION_PORT: usize = 1;
const UDP_CHECKSUM: usize = 3;
const TCP_CHECKSUM: usize = 8;

/// What all flows begin with, as it lies in memory.
#[btf_map]
static FLOW_HEADER: Array<[u16; WORDS6], 1> = Array::new();

/// Source port, what lies where UDP has its checksum, what lies where TCP has it, and a halfword for
/// alignment.
#[btf_map]
static FLOW_CLIENTS: Array<[u16; 4], 1> = Array::new();

#[xdp]
pub fn restore_flow4_xdp(ctx: XdpContext) -> u32 {
    if restore::<WORDS4, TTL4>(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: the target is a program of the same type; the kernel checks that.
        unsafe { NEXT.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

#[xdp]
pub fn restore_flow6_xdp(ctx: XdpContext) -> u32 {
    if restore::<WORDS6, TTL6>(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: as above.
        unsafe { NEXT.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

#[classifier]
pub fn restore_flow4_tc(ctx: TcContext) -> i32 {
    if restore::<WORDS4, TTL4>(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: as above.
        unsafe { NEXT.tail_call(&ctx, 0) };
    }
    TC_ACT_SHOT
}

#[inline(always)]
fn restore<const WORDS: usize, const TTL: usize>(data: usize, end: usize) -> Option<()> {
    let header = FLOW_HEADER.get(0)?;
    let client = FLOW_CLIENTS.get(turn())?;
    let words = bounded::<[u16; WORDS]>(data, end, 0)?;
    // SAFETY: `bounded` checked that all words lie inside the frame; nothing else looks at it now.
    let words = unsafe { &mut *words };
    // One by one: no load is wider than the stores before it.
    for word in [0, 1, 2, 3, 4, 5] {
        words[word] = header[word];
    }
    #[expect(clippy::manual_memcpy, reason = "word by word: a copy of the slice would be a call")]
    for word in TTL..const { WORDS - TCP_WORDS } {
        words[word] = header[word];
    }
    let transport: &mut [u16; TCP_WORDS] = words.last_chunk_mut()?;
    transport[0] = client[0];
    transport[DESTINATION_PORT] = header[WORDS - TCP_WORDS + DESTINATION_PORT];
    transport[UDP_CHECKSUM] = client[1];
    transport[TCP_CHECKSUM] = client[2];
    Some(())
}
