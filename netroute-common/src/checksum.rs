//! The Internet checksum, changed by increments (RFC 1624): never recomputed over a packet.

use zerocopy::{Immutable, IntoBytes};

use crate::wire::be::Be16;

/// A checksum field on its way from one content of the packet to another.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Update {
    sum: u32,
}

impl Update {
    /// Starts from the field as it is in the packet.
    #[inline(always)]
    pub fn of(field: Be16) -> Self {
        Self { sum: !field.get() as u32 & 0xffff }
    }

    /// One 16-bit word covered by the checksum changed (RFC 1624 equation 3).
    #[inline(always)]
    pub fn replace(self, old: u16, new: u16) -> Self {
        let without = self.sum.wrapping_add(u32::from(!old));
        Self { sum: without.wrapping_add(u32::from(new)) }
    }

    /// What is covered changed by this much.
    #[inline(always)]
    pub fn change(self, delta: Delta) -> Self {
        Self { sum: self.sum.wrapping_add(u32::from(delta.fold())) }
    }

    /// The new field for an IPv4 header, or for TCP.
    #[inline(always)]
    pub fn ip(self) -> Be16 {
        Be16::new(!fold(self.sum))
    }

    /// The new field for UDP, where 0 says that there is no checksum (RFC 768).
    #[inline(always)]
    pub fn udp(self) -> Be16 {
        match !fold(self.sum) {
            0 => Be16::new(0xffff),
            sum => Be16::new(sum),
        }
    }
}

/// What a change of covered words adds to their sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Delta {
    sum: u32,
}

impl Delta {
    #[inline(always)]
    pub fn replace(self, old: u16, new: u16) -> Self {
        let sum = self.sum.wrapping_add(u32::from(!old)).wrapping_add(u32::from(new));
        Self { sum }
    }

    /// An address became another. In words of 32 bits as they lie in memory: the sum of the halves is the
    /// same, and its octets are in their order (RFC 1071 section 2, parallel summation and byte order).
    #[inline(always)]
    pub fn replace_octets<const N: usize>(self, old: &[u8; N], new: &[u8; N]) -> Self {
        let (old, _) = old.as_chunks::<4>();
        let (new, _) = new.as_chunks::<4>();
        let sum = old.iter().zip(new).fold(0_u64, |sum, (old, new)| {
            let (old, new) = (u32::from_ne_bytes(*old), u32::from_ne_bytes(*new));
            sum.wrapping_add(u64::from(!old)).wrapping_add(u64::from(new))
        });
        let halves = (sum & 0xffff).wrapping_add(sum >> 16 & 0xffff).wrapping_add(sum >> 32);
        let sum = u16::from_be(fold(halves as u32));
        Self { sum: self.sum.wrapping_add(u32::from(sum)) }
    }

    /// Both changes.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self { sum: u32::from(self.fold()).wrapping_add(u32::from(other.fold())) }
    }

    /// The sum stays: each of its two zeroes says so.
    #[inline(always)]
    pub fn changes_nothing(self) -> bool {
        matches!(self.fold(), 0 | 0xffff)
    }

    /// In one word.
    #[inline(always)]
    pub fn fold(self) -> u16 {
        fold(self.sum)
    }
}

/// The words of a header that is made anew, added up; few enough that their carries fit.
#[inline(always)]
pub fn sum_of<T: IntoBytes + Immutable>(header: &T) -> u32 {
    let (words, _) = header.as_bytes().as_chunks::<2>();
    words.iter().fold(0_u32, |sum, word| sum.wrapping_add(u32::from(u16::from_be_bytes(*word))))
}

/// The checksum over words that were added up (RFC 1071).
#[inline(always)]
pub fn checksum(sum: u32) -> Be16 {
    Be16::new(!fold(sum))
}

/// Up to 2^16 words added up, in one (RFC 1071).
#[inline(always)]
fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff).wrapping_add(sum >> 16);
    let twice = (once & 0xffff).wrapping_add(once >> 16);
    twice as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 over big-endian words, the definition to hold increments against.
    fn full(words: &[u16]) -> u16 {
        let mut sum: u64 = words.iter().map(|&word| u64::from(word)).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff).wrapping_add(sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn n1_rfc1624_example() {
        let updated = Update::of(Be16::new(0xdd2f)).replace(0x5555, 0x3285).ip();
        assert_eq!(updated.get(), 0x0000);
    }

    #[test]
    fn n1_a_change_of_nothing_changes_nothing() {
        for same in [0, 1, 0x1234, 0xffff] {
            assert!(Delta::default().replace(same, same).replace(!same, !same).changes_nothing());
        }
        assert!(Delta::default().changes_nothing());
        assert!(
            Delta::default().replace(80, 8080).replace(8080, 80).changes_nothing(),
            "the sum is the same"
        );
        assert!(!Delta::default().replace(80, 81).changes_nothing());
        assert!(!Delta::default().replace(0, 0xfffe).changes_nothing());
    }

    #[test]
    fn n1_r10_every_ttl_agrees_with_a_full_sum() {
        for ttl in 2..=255u16 {
            for protocol in [1u16, 6, 17, 255] {
                let (old, new) = (ttl << 8 | protocol, (ttl - 1) << 8 | protocol);
                let rest = [0x4500, 0x0054, 0x1c46, 0x4000, 0xc0a8, 0x0001, 0x0a00, 0x0001];
                let sum = |word: u16| {
                    let mut words = [0u16; 9];
                    words[..8].copy_from_slice(&rest);
                    words[8] = word;
                    full(&words)
                };
                let updated = Update::of(Be16::new(sum(old))).replace(old, new).ip();
                assert_eq!(updated.get(), sum(new), "ttl {ttl} protocol {protocol}");
            }
        }
    }
}
