//! An XDP frame as a [`Packet`].

use aya_ebpf::helpers::bpf_xdp_adjust_tail;
use aya_ebpf::programs::XdpContext;
use netroute_common::checksum::Delta;
use netroute_common::packet::{Header, MAX_OFFSET, Packet};
use netroute_common::wire::eth::{Eth, Mac};

pub struct Frame<'c> {
    pub ctx: &'c XdpContext,
    mac: Mac,
}

impl<'c> Frame<'c> {
    /// `mac` is the address of the NIC the program is attached to.
    #[inline(always)]
    pub fn new(ctx: &'c XdpContext, mac: [u8; 6]) -> Self {
        Self { ctx, mac: Mac::new(mac) }
    }

    #[inline(always)]
    fn at<T: Header>(&self, at: usize) -> Option<*mut T> {
        bounded(self.ctx.data(), self.ctx.data_end(), at)
    }
}

/// The address of a `T` at `at` bytes behind `data`, if it ends before `end`.
#[inline(always)]
pub fn bounded<T: Header>(data: usize, end: usize, at: usize) -> Option<*mut T> {
    const { assert!(align_of::<T>() <= 2, "packet data is aligned to 2 bytes") };
    if at >= MAX_OFFSET {
        return None;
    }
    let start = data + at;
    (start + size_of::<T>() <= end).then_some(start as *mut T)
}

impl Packet for Frame<'_> {
    const AT_XDP: Option<bool> = Some(true);

    #[inline(always)]
    fn get<T: Header>(&self, at: usize) -> Option<&T> {
        // SAFETY: `at` checked that all of `T` lies inside the frame; any bits are a valid `T`.
        self.at(at).map(|header| unsafe { &*header })
    }

    #[inline(always)]
    fn get_mut<T: Header>(&mut self, at: usize) -> Option<&mut T> {
        // SAFETY: as in `get`; `&mut self` makes it the only view.
        self.at(at).map(|header| unsafe { &mut *header })
    }

    #[inline(always)]
    fn resize(&mut self, length: usize) -> Option<()> {
        let delta = length as i32 - self.frame_length() as i32;
        // SAFETY: the helper checks that the frame has room; no view of it is alive.
        (unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, delta) } == 0).then_some(())
    }

    #[inline(always)]
    fn frame_length(&self) -> u32 {
        (self.ctx.data_end() - self.ctx.data()) as u32
    }

    #[inline(always)]
    fn addressed_here(&self) -> bool {
        self.get::<Eth>(0).is_some_and(|eth| eth.destination == self.mac)
    }

    #[inline(always)]
    fn vlan_tagged(&self) -> bool {
        false
    }

    #[inline(always)]
    fn segment(&self) -> Option<u32> {
        None
    }

    #[inline(always)]
    fn words_changed(&mut self, _change: Delta) {}

    #[inline(always)]
    fn pull(&mut self, _length: usize) {}

    #[inline(always)]
    fn word_changed(&mut self, _old: u16, _new: u16) {}
}
