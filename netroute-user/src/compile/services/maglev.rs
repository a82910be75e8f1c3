//! Maglev tables (Eisenbud et al., NSDI 2016, section 3.4): which endpoint each slot of a front end
//! sends to. Knows endpoints by address and port alone, so that all nodes make the same table.

use std::net::IpAddr;

use netroute_common::hash::Hash;

use super::selection::Endpoint;

/// Most endpoints of one front end.
pub const LARGEST: u32 = 65_537;

/// Primes, each about twice the one before.
const SIZES: [u32; 12] = [31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, LARGEST];

/// Slots per endpoint: shares then differ by one in so many.
const SLOTS_EACH: usize = 25;

/// The sizes that a table of so many endpoints may have, the best one first: each endpoint has a slot
/// in all of them. Empty if there are too many endpoints.
pub fn sizes(endpoints: usize) -> impl Iterator<Item = u32> {
    let holds = move |size: &u32| *size as usize >= endpoints;
    let ample = |size: &u32| *size as usize >= endpoints.saturating_mul(SLOTS_EACH);
    let best = SIZES.iter().position(ample).unwrap_or(SIZES.len() - 1);
    let several = SIZES[..=best].iter().rev().copied().filter(move |_| endpoints > 1);
    several.chain((endpoints == 1).then_some(1)).filter(holds)
}

/// Fills `size` slots, a prime or 1, with indices into `endpoints`; empty if either is.
#[must_use]
pub fn table(endpoints: &[Endpoint], size: u32) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    if endpoints.is_empty() {
        return Vec::new();
    }
    let mut walks: Vec<Walk> = endpoints.iter().map(|endpoint| Walk::new(endpoint, size)).collect();
    let mut slots = vec![FREE; size as usize];
    let mut left = slots.len();
    // In turns, each endpoint takes the first slot on its walk that is still free.
    for index in (0..walks.len()).cycle() {
        if left == 0 {
            break;
        }
        let walk = &mut walks[index];
        while slots[walk.at as usize] != FREE {
            walk.step(size);
        }
        slots[walk.at as usize] = index as u32;
        left -= 1;
    }
    slots
}

/// An endpoint's order of preference: all slots, from `at` on by `skip`.
struct Walk {
    at: u32,
    skip: u32,
}

impl Walk {
    fn new(endpoint: &Endpoint, size: u32) -> Self {
        let at = hash(endpoint.address, endpoint.port, 0) % size;
        let others = size.saturating_sub(1).max(1);
        Self { at, skip: hash(endpoint.address, endpoint.port, 1) % others + 1 }
    }

    const fn step(&mut self, size: u32) {
        self.at += self.skip;
        if self.at >= size {
            self.at -= size;
        }
    }
}

fn hash(address: IpAddr, port: u16, seed: u32) -> u32 {
    let mut bits = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    let mut hash = Hash::new().word(seed).word(u32::from(port));
    while bits > 0 {
        hash = hash.word(bits as u32);
        bits >>= 32;
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use super::*;

    fn endpoints(service: u32, count: u32) -> Vec<Endpoint> {
        let endpoint = |number: u32| Endpoint {
            address: IpAddr::from((0x0af4_0000 + service * 256 + number).to_be_bytes()),
            port: 8080,
            local: false,
        };
        (1..=count).map(endpoint).collect()
    }

    fn best(count: u32) -> u32 {
        sizes(count as usize).next().unwrap()
    }

    #[test]
    fn sizes_follow_the_number_of_endpoints() {
        let expected = [
            (1, 1),
            (2, 61),
            (3, 127),
            (10, 251),
            (100, 4093),
            (1000, 32_749),
            (3000, 65_537),
            (65_537, 65_537),
        ];
        for (count, size) in expected {
            assert_eq!(best(count), size, "{count} endpoints");
        }
        assert_eq!(sizes(10).collect::<Vec<_>>(), [251, 127, 61, 31], "smaller ones where room is short");
        assert_eq!(sizes(1).collect::<Vec<_>>(), [1]);
        assert_eq!(sizes(100).last(), Some(127));
        assert_eq!((sizes(0).next(), sizes(65_538).next()), (None, None));
    }

    #[test]
    fn shares_are_equal_but_for_one_slot() {
        for count in [1, 2, 3, 10, 100, 1000] {
            for size in sizes(count as usize) {
                let mut shares = vec![0u32; count as usize];
                table(&endpoints(1, count), size).iter().for_each(|index| shares[*index as usize] += 1);
                let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
                assert!(*least >= 1 && most - least <= 1, "{count} in {size}: {least} to {most}");
            }
            let size = best(count);
            assert!(count == 1 || size >= 25 * count);
        }
        assert!(table(&[], 31).is_empty());
    }

    #[test]
    fn s22_one_endpoint_less_moves_little_else() {
        let (mut moved, mut total) = (0, 0);
        for service in 0..100 {
            let before = endpoints(service, 10);
            for gone in 0..10 {
                let mut after = before.clone();
                after.remove(gone);
                let of = |table: Vec<u32>, endpoints: &[Endpoint]| -> Vec<Endpoint> {
                    table.iter().map(|index| endpoints[*index as usize]).collect()
                };
                let size = best(10);
                let (first, second) = (of(table(&before, size), &before), of(table(&after, size), &after));
                let kept = first.iter().zip(&second).filter(|(first, _)| **first != before[gone]);
                let (changed, stayed): (Vec<_>, Vec<_>) = kept.partition(|(first, second)| first != second);
                moved += changed.len();
                total += changed.len() + stayed.len();
            }
        }
        let percent = moved as f64 * 100.0 / total as f64;
        println!("MEASURED Maglev: one of 10 endpoints leaves, {percent:.1} % of the others' slots move");
        assert!(percent < 8.0, "{percent:.1} %");
    }

    #[test]
    fn it_depends_on_address_and_port_alone() {
        let near = endpoints(1, 10);
        let far: Vec<Endpoint> = near.iter().map(|endpoint| Endpoint { local: true, ..*endpoint }).collect();
        assert_eq!(table(&near, 251), table(&far, 251));
        let other: Vec<Endpoint> = near.iter().map(|endpoint| Endpoint { port: 8081, ..*endpoint }).collect();
        assert_ne!(table(&near, 251), table(&other, 251));
    }

    #[test]
    fn ten_thousand_tables_take_no_second() {
        let sets: Vec<_> = (0..10_000).map(|service| endpoints(service, 10)).collect();
        let begun = Instant::now();
        let mut sizes = BTreeMap::new();
        for set in &sets {
            *sizes.entry(table(set, best(10)).len()).or_insert(0) += 1;
        }
        let elapsed = begun.elapsed();
        println!("MEASURED Maglev: 10000 tables of 10 endpoints in {} ms", elapsed.as_millis());
        assert_eq!(sizes, BTreeMap::from([(251, 10_000)]));
        assert!(elapsed.as_secs_f64() < 1.0, "{elapsed:?}");
    }
}
