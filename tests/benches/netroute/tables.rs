//! Route tables of any size, and the packets that use them: the same ones in each run.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use ipnet::{Ipv4Net, Ipv6Net};

/// Chosen once; the numbers of two runs are of the same tables.
const SEED: u64 = 0x6e65_7472_6f75_7465;

/// Prefix lengths and how many of a hundred routes have them: as in the tables of the Internet,
/// with some hosts and small networks as they are configured by hand.
const LENGTHS4: [(u8, u32); 9] =
    [(24, 56), (23, 10), (22, 12), (21, 4), (20, 4), (19, 3), (16, 4), (28, 4), (32, 3)];
const LENGTHS6: [(u8, u32); 6] = [(48, 50), (32, 12), (40, 12), (44, 10), (64, 12), (128, 4)];

/// That many different prefixes between 16.0.0.0 and 99.255.255.255.
pub fn prefixes4(count: usize) -> Vec<Ipv4Net> {
    let mut rng = Rng::with_seed(SEED);
    distinct(count, || {
        let [_, second, third, fourth] = rng.u32(..).to_be_bytes();
        let address = Ipv4Addr::new(rng.u8(16..100), second, third, fourth);
        Ipv4Net::new_assert(address, length(&LENGTHS4, &mut rng)).trunc()
    })
}

/// That many different prefixes of 2a00::/8.
pub fn prefixes6(count: usize) -> Vec<Ipv6Net> {
    let mut rng = Rng::with_seed(SEED);
    distinct(count, || {
        let bits = 0x2a << 120 | rng.u128(..) >> 8;
        Ipv6Net::new_assert(Ipv6Addr::from(bits), length(&LENGTHS6, &mut rng)).trunc()
    })
}

/// An address no table made here covers.
pub const NOWHERE4: Ipv4Addr = Ipv4Addr::new(200, 1, 1, 1);

/// Addresses in randomly chosen prefixes.
pub fn destinations4(prefixes: &[Ipv4Net], count: usize) -> Vec<Ipv4Addr> {
    let mut rng = Rng::with_seed(SEED ^ 4);
    let mut one = || {
        let prefix = prefixes[rng.usize(..prefixes.len())];
        Ipv4Addr::from(u32::from(prefix.network()) | rng.u32(..) & u32::from(prefix.hostmask()))
    };
    (0..count).map(|_| one()).collect()
}

pub fn destinations6(prefixes: &[Ipv6Net], count: usize) -> Vec<Ipv6Addr> {
    let mut rng = Rng::with_seed(SEED ^ 6);
    let mut one = || {
        let prefix = prefixes[rng.usize(..prefixes.len())];
        Ipv6Addr::from(u128::from(prefix.network()) | rng.u128(..) & u128::from(prefix.hostmask()))
    };
    (0..count).map(|_| one()).collect()
}

/// In the order in which they were drawn.
fn distinct<T: Ord + Copy>(count: usize, mut draw: impl FnMut() -> T) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let one = draw();
        if seen.insert(one) {
            all.push(one);
        }
    }
    all
}

fn length(lengths: &[(u8, u32)], rng: &mut Rng) -> u8 {
    let all: u32 = lengths.iter().map(|(_, share)| share).sum();
    let mut left = rng.u32(..all);
    for &(length, share) in lengths {
        if left < share {
            return length;
        }
        left -= share;
    }
    0
}
