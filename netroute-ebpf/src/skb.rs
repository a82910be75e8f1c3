//! A socket buffer at TC ingress as a [`Packet`].

use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::{bpf_csum_update, bpf_l4_csum_replace, bpf_skb_change_tail};
use aya_ebpf::programs::TcContext;
use netroute_common::checksum::Delta;
use netroute_common::packet::{HEADERS, Header, Packet, TransportChange};

use crate::frame::bounded;

pub struct Skb {
    ctx: TcContext,
}

/// `skb->tc_index` (16 bits) of a packet that was judged.
const JUDGED: u32 = 0x6e72;
/// `skb->pkt_type` of a frame to this host (`linux/if_packet.h`).
const PACKET_HOST: u32 = 0;

impl Skb {
    /// Makes sure that the headers lie in the linear part, and pulls no more than those: a
    /// further pull of a GSO packet can tear its fragment list.
    #[inline(always)]
    pub fn new(ctx: TcContext) -> Self {
        let mut skb = Self { ctx };
        skb.pull(HEADERS);
        skb
    }

    /// One that was looked at before: its headers are where they should be.
    #[inline(always)]
    pub fn again(ctx: TcContext) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    pub fn as_ptr(&self) -> *mut __sk_buff {
        self.ctx.skb.skb
    }

    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid for the whole run of the program.
        unsafe { (*self.ctx.skb.skb).ifindex }
    }

    /// Marks the packet as judged, for the program at the egress of the NIC that it is redirected to. No pod can:
    /// each packet's mark is written here on its way in.
    #[inline(always)]
    pub fn mark(&mut self, judged: bool) {
        // SAFETY: as in `ifindex`; `tc_index` is the traffic control's own.
        unsafe { (*self.ctx.skb.skb).tc_index = if judged { JUDGED } else { 0 } };
    }

    /// Whether the packet has the mark, which it loses.
    #[inline(always)]
    pub fn take_mark(ctx: &TcContext) -> bool {
        // SAFETY: as in `mark`.
        let skb = unsafe { &mut *ctx.skb.skb };
        let judged = skb.tc_index == JUDGED;
        if judged {
            skb.tc_index = 0;
        }
        judged
    }

    #[inline(always)]
    fn at<T: Header>(&self, at: usize) -> Option<*mut T> {
        bounded(self.ctx.data(), self.ctx.data_end(), at)
    }
}

impl Packet for Skb {
    const AT_XDP: Option<bool> = Some(false);

    #[inline(always)]
    fn get<T: Header>(&self, at: usize) -> Option<&T> {
        // SAFETY: `at` checked that all of `T` lies inside the linear part; any bits are valid.
        self.at(at).map(|header| unsafe { &*header })
    }

    #[inline(always)]
    fn get_mut<T: Header>(&mut self, at: usize) -> Option<&mut T> {
        // SAFETY: as in `get`; `&mut self` makes it the only view.
        self.at(at).map(|header| unsafe { &mut *header })
    }

    #[inline(always)]
    fn resize(&mut self, length: usize) -> Option<()> {
        let skb = self.ctx.skb.skb;
        // SAFETY: the helpers check the length; no view of the packet is alive.
        let done = unsafe { bpf_skb_change_tail(skb, length as u32, 0) == 0 };
        (done && self.ctx.pull_data(length as u32).is_ok()).then_some(())
    }

    #[inline(always)]
    fn frame_length(&self) -> u32 {
        self.ctx.len()
    }

    #[inline(always)]
    fn addressed_here(&self) -> bool {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.ctx.skb.skb).pkt_type == PACKET_HOST }
    }

    #[inline(always)]
    fn vlan_tagged(&self) -> bool {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.ctx.skb.skb).vlan_present != 0 }
    }

    #[inline(always)]
    fn segment(&self) -> Option<u32> {
        // SAFETY: as in `ifindex`. `gso_size` is readable since Linux 5.7.
        let size = unsafe { (*self.ctx.skb.skb).gso_size };
        (size != 0).then_some(size)
    }

    #[inline(always)]
    fn pull(&mut self, length: usize) {
        let linear = self.ctx.data_end() - self.ctx.data();
        if linear < length && self.ctx.len() > linear as u32 {
            let wanted = if self.ctx.len() < length as u32 { self.ctx.len() } else { length as u32 };
            // A failed pull leaves too few bytes, which the checked views report as truncated.
            let _ = self.ctx.pull_data(wanted);
        }
    }

    #[inline(always)]
    fn words_changed(&mut self, change: Delta) {
        // SAFETY: as in `word_changed`.
        let _ = unsafe { bpf_csum_update(self.ctx.skb.skb, u32::from(change.fold().to_be())) };
    }

    #[inline(always)]
    fn word_changed(&mut self, old: u16, new: u16) {
        // One's complement difference of the word as it lies in memory.
        let delta = u32::from(!old.to_be()) + u32::from(new.to_be());
        // SAFETY: the helper takes any value, and changes nothing unless the checksum is complete.
        let _ = unsafe { bpf_csum_update(self.ctx.skb.skb, delta) };
    }

    #[inline(always)]
    fn transport_changed(&mut self, at: usize, change: TransportChange) -> Option<()> {
        let TransportChange { addresses, ports, udp, in_header } = change;
        // One's complement sums in the order in which they lie in memory.
        let addresses = u64::from(addresses.fold().to_be());
        let same = ports.changes_nothing();
        let ports = u64::from(ports.fold().to_be());
        let flags = if udp { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        let skb = self.ctx.skb.skb;
        // SAFETY: the helper checks the offset. Where the device completes the checksum, the field covers
        // the pseudo-header alone, and the helper leaves it alone for anything else.
        let changed = unsafe {
            bpf_l4_csum_replace(skb, at as u32, 0, addresses, flags | u64::from(BPF_F_PSEUDO_HDR)) == 0
                && (same || bpf_l4_csum_replace(skb, at as u32, 0, ports, flags) == 0)
        };
        if !in_header {
            // For want of a header checksum that makes up for it, the sum over the whole packet is what
            // it was; the helper took it for changed (Linux 6.16 has a flag for it).
            // SAFETY: as in `word_changed`.
            let _ = unsafe { bpf_csum_update(skb, addresses as u32) };
        }
        changed.then_some(())
    }
}
