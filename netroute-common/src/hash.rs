//! The flow hash for choosing among next hops of equal metric.

/// Accumulates 32-bit words; a multiply-xorshift round each, which BPF does in five instructions.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Hash(u64);

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hash {
    #[inline(always)]
    pub fn new() -> Self {
        Self(MULTIPLIER)
    }

    #[inline(always)]
    pub fn word(self, word: u32) -> Self {
        let mixed = (self.0 ^ u64::from(word)).wrapping_mul(MULTIPLIER);
        Self(mixed ^ (mixed >> 32))
    }

    #[inline(always)]
    pub fn finish(self) -> u32 {
        (self.0.wrapping_mul(MULTIPLIER) >> 32) as u32
    }
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

/// `-log2(hash / 2^32)` in 1/65536, at least 1: the exponential variate of weighted rendezvous
/// hashing. The mantissa's logarithm is approximated by m + 0.344 m (1 - m), off by less than
/// 0.8 % of one octave.
#[inline(always)]
pub fn cost(hash: u32) -> u64 {
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    let mantissa = u64::from(hash.wrapping_shl(zeros) & 0x7fff_ffff) >> 15;
    let bow = (mantissa.wrapping_mul(0x1_0000u64.wrapping_sub(mantissa)) >> 16).wrapping_mul(22_544) >> 16;
    let log = mantissa.wrapping_add(bow);
    (u64::from(zeros).wrapping_add(1) << 16).wrapping_sub(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_follows_the_logarithm() {
        // Powers of two are exact: -log2(2^31 / 2^32) = 1.
        assert_eq!(cost(1 << 31) >> 4, 0x1_0000 >> 4);
        assert_eq!(cost(1 << 30) >> 4, 0x2_0000 >> 4);
        // -log2(3 * 2^30 / 2^32) = 0.41504
        let measured = cost(3 << 30) as i64;
        assert!((measured - 27_200).abs() < 600, "{measured}");
        assert!(cost(0) <= 33 << 16);
        for hash in (1 << 31..=u32::MAX).step_by(4099).chain([u32::MAX]) {
            assert!(cost(hash) >= 1, "{hash}");
        }
    }
}
