//! The Internet checksum, changed by increments (RFC 1624): never recomputed over a packet.

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

    /// The new field for an IPv4 header.
    #[inline(always)]
    pub fn ip(self) -> Be16 {
        // Three 16-bit addends carry at most into bit 17: two folds end it.
        let once = (self.sum & 0xffff).wrapping_add(self.sum >> 16);
        let twice = (once & 0xffff).wrapping_add(once >> 16);
        Be16::new(!(twice as u16))
    }
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
