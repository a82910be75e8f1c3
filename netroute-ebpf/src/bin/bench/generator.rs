//! Makes UDP packets and sends them out of a chosen interface. Run as a live-frames test run, whose
//! frames come back as the last one left them: so every header is written anew.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, DevMap};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;

use crate::traffic::{
    ALL_DESTINATIONS, CHECKSUM, DESTINATION_MASK, FIRST_DESTINATION, FIRST_PORT, FLOW_MASK, HEADER_WORDS,
    PORTS, SETTINGS_LEN, SLOT,
};

/// Where the packets go out: slot -> interface index.
#[btf_map]
pub static WIRES: DevMap<64> = DevMap::new();

/// Ethernet, IPv4 and UDP header of all packets, with source address, and zero where they differ.
#[btf_map]
pub static HEADERS: Array<[u64; HEADER_WORDS], 1> = Array::new();

/// See `traffic.rs`.
#[btf_map]
pub static SETTINGS: Array<[u32; SETTINGS_LEN], 1> = Array::new();

/// Addresses as they lie in the packet.
#[btf_map]
pub static DESTINATIONS: Array<u32, ALL_DESTINATIONS> = Array::new();

/// Packets made so far; one thread makes them.
#[btf_map]
pub static SEQUENCE: Array<u32, 1> = Array::new();

const CHECKSUM_AT: usize = 24;
const SOURCE_AT: usize = 26;
const DESTINATION_AT: usize = 30;
const SOURCE_PORT_AT: usize = 34;

/// The next packet.
#[xdp]
pub fn generate(ctx: XdpContext) -> u32 {
    make(&ctx).unwrap_or(xdp_action::XDP_ABORTED)
}

#[inline(always)]
fn make(ctx: &XdpContext) -> Option<u32> {
    let settings = SETTINGS.get(0)?;
    let headers = HEADERS.get(0)?;
    let sequence = SEQUENCE.get_ptr_mut(0)?;
    // SAFETY: an entry of an array map, valid for the whole run; this thread alone uses it.
    let flow = unsafe {
        *sequence = (*sequence).wrapping_add(1);
        (*sequence).wrapping_sub(1)
    } & settings[FLOW_MASK];
    let at = settings[FIRST_DESTINATION].wrapping_add(flow & settings[DESTINATION_MASK]);
    let destination = *DESTINATIONS.get(at)?;
    let data = ctx.data();
    if data + HEADER_WORDS * 8 > ctx.data_end() {
        return None;
    }
    // SAFETY: all of it ends before `data_end`; a test run's frame begins at a multiple of 8.
    unsafe {
        *(data as *mut [u64; HEADER_WORDS]) = *headers;
        let source = (data + SOURCE_AT) as *mut [u16; 2];
        // The third octet: a port number is used by one source only once.
        (*source)[1] = (*source)[1].wrapping_add((flow / PORTS) as u16 & 0xff);
        let words = [destination as u16, (destination >> 16) as u16];
        *((data + DESTINATION_AT) as *mut [u16; 2]) = words;
        let sum = [(*source)[0], (*source)[1], words[0], words[1]];
        let sum = sum.iter().fold(settings[CHECKSUM], |sum, &word| sum.wrapping_add(u32::from(word)));
        let sum = (sum & 0xffff).wrapping_add(sum >> 16);
        let sum = (sum & 0xffff).wrapping_add(sum >> 16);
        *((data + CHECKSUM_AT) as *mut u16) = !(sum as u16);
        *((data + SOURCE_PORT_AT) as *mut u16) = ((FIRST_PORT.wrapping_add(flow % PORTS)) as u16).to_be();
    }
    Some(WIRES.redirect(settings[SLOT], xdp_action::XDP_ABORTED.into()).unwrap_or_else(|action| action))
}
