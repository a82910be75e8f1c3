//! A frame in memory as a [`Packet`].

use std::vec::Vec;

use zerocopy::IntoBytes;

use crate::checksum::Delta;
use crate::packet::{Header, MAX_OFFSET, Packet};
use crate::wire::eth::{Eth, Mac};

/// A call of [`Packet::word_changed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WordChange {
    pub old: u16,
    pub new: u16,
}

/// A frame with what a hook knows beside its bytes.
#[derive(Clone, Debug)]
pub struct HostPacket {
    /// Words, so that headers of alignment 2 can be laid over them; one spare byte if `length` is
    /// odd.
    words: Vec<u16>,
    length: usize,
    /// So many bytes can be looked at without a [`Packet::pull`].
    linear: usize,
    nic: Mac,
    segment: Option<u32>,
    vlan_tagged: bool,
    changes: Vec<WordChange>,
    sums: Vec<Delta>,
}

impl HostPacket {
    /// `frame` as received by the interface whose address is `nic`.
    #[must_use]
    pub fn new(frame: &[u8], nic: [u8; 6]) -> Self {
        let mut words = std::vec![0u16; frame.len().div_ceil(2)];
        for (to, from) in words.as_mut_bytes().iter_mut().zip(frame) {
            *to = *from;
        }
        let nic = Mac::new(nic);
        let (changes, sums) = (Vec::new(), Vec::new());
        let (length, linear) = (frame.len(), usize::MAX);
        Self { words, length, linear, nic, segment: None, vlan_tagged: false, changes, sums }
    }

    /// The same as a GSO packet with `payload` bytes in each segment.
    #[must_use]
    pub fn with_segment(self, payload: u32) -> Self {
        Self { segment: Some(payload), ..self }
    }

    /// The same with no more than this many bytes in the linear part.
    #[must_use]
    pub fn with_linear(self, linear: usize) -> Self {
        Self { linear, ..self }
    }

    /// The same with a VLAN tag that the NIC took off.
    #[must_use]
    pub fn with_vlan_tag(self) -> Self {
        Self { vlan_tagged: true, ..self }
    }

    /// The frame as it is now.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        self.words.as_bytes().get(..self.length).unwrap_or_default()
    }

    /// What the stack was told of changes outside of header checksums, in order.
    #[must_use]
    pub fn word_changes(&self) -> &[WordChange] {
        &self.changes
    }

    /// The same of changes of several words together.
    pub fn words_changes(&self) -> &[Delta] {
        &self.sums
    }
}

impl Packet for HostPacket {
    fn get<T: Header>(&self, at: usize) -> Option<&T> {
        if at >= MAX_OFFSET {
            return None;
        }
        let rest = self.frame().get(at..self.length.min(self.linear))?;
        T::ref_from_prefix(rest).ok().map(|(header, _)| header)
    }

    fn get_mut<T: Header>(&mut self, at: usize) -> Option<&mut T> {
        if at >= MAX_OFFSET {
            return None;
        }
        let end = self.length.min(self.linear);
        let rest = self.words.as_mut_bytes().get_mut(at..end)?;
        T::mut_from_prefix(rest).ok().map(|(header, _)| header)
    }

    fn resize(&mut self, length: usize) -> Option<()> {
        self.words.resize(length.div_ceil(2), 0);
        self.length = length;
        self.pull(length);
        Some(())
    }

    fn frame_length(&self) -> u32 {
        u32::try_from(self.length).unwrap_or(u32::MAX)
    }

    fn addressed_here(&self) -> bool {
        self.get::<Eth>(0).is_some_and(|eth| eth.destination == self.nic)
    }

    fn vlan_tagged(&self) -> bool {
        self.vlan_tagged
    }

    fn segment(&self) -> Option<u32> {
        self.segment
    }

    fn words_changed(&mut self, change: Delta) {
        self.sums.push(change);
    }

    fn pull(&mut self, length: usize) {
        self.linear = self.linear.max(length);
    }

    fn word_changed(&mut self, old: u16, new: u16) {
        self.changes.push(WordChange { old, new });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::be::Be16;

    #[test]
    fn a_header_must_lie_wholly_inside() {
        let mut packet = HostPacket::new(&[1, 2, 3, 4, 5], [0; 6]);
        assert_eq!(packet.frame(), [1, 2, 3, 4, 5]);
        assert_eq!(packet.get::<Be16>(2).map(|word| word.get()), Some(0x0304));
        assert_eq!(packet.get::<Be16>(4), None, "the spare byte is not the frame's");
        assert_eq!(packet.get_mut::<Be16>(4), None);
        assert_eq!(packet.get::<[u8; 1]>(5), None);
        if let Some(word) = packet.get_mut::<Be16>(2) {
            *word = Be16::new(0xa0b0);
        }
        assert_eq!(packet.frame(), [1, 2, 0xa0, 0xb0, 5]);
    }

    #[test]
    fn what_lies_behind_the_linear_part_is_pulled_first() {
        let mut packet = HostPacket::new(&[1, 2, 3, 4, 5, 6], [0; 6]).with_linear(3);
        assert!(packet.get::<[u8; 3]>(0).is_some() && packet.get::<[u8; 2]>(2).is_none());
        packet.pull(2);
        assert!(packet.get_mut::<[u8; 2]>(2).is_none(), "pulling less takes nothing away");
        packet.pull(9);
        assert_eq!(packet.get::<[u8; 2]>(4), Some(&[5, 6]));
        assert_eq!(packet.get::<[u8; 2]>(5), None);
        assert_eq!(packet.frame().len(), 6);
    }

    #[test]
    fn offsets_end_where_the_kernel_programs_end() {
        let packet = HostPacket::new(&[0; 1000], [0; 6]);
        assert!(packet.get::<[u8; 1]>(MAX_OFFSET - 1).is_some());
        assert!(packet.get::<[u8; 1]>(MAX_OFFSET).is_none());
    }
}
