//! Hold time after a failure: a next hop that came back is used by the fast path again only when
//! it has stayed up for a while, so that a flapping link does not move traffic back and forth.
//! Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Gateway;

#[derive(Clone, Debug)]
pub struct Holds {
    hold_time: Duration,
    gateways: BTreeMap<Gateway, Hold>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// Down now.
    Down,
    /// Came back; usable from then on.
    Until(Instant),
}

impl Holds {
    #[must_use]
    pub fn new(hold_time: Duration) -> Self {
        Self { hold_time, gateways: BTreeMap::new() }
    }

    /// Takes note of how the next hop is now.
    pub fn observe(&mut self, gateway: Gateway, down: bool, now: Instant) {
        let hold = self.gateways.get(&gateway).copied();
        match (down, hold) {
            (true, _) => {
                self.gateways.insert(gateway, Hold::Down);
            }
            (false, Some(Hold::Down)) => {
                self.gateways.insert(gateway, Hold::Until(now + self.hold_time));
            }
            (false, Some(Hold::Until(end))) if end <= now => {
                self.gateways.remove(&gateway);
            }
            (false, _) => {}
        }
    }

    /// Next hops that are up but not to be used yet.
    pub fn held(&self, now: Instant) -> impl Iterator<Item = Gateway> + '_ {
        let held = move |hold: &Hold| matches!(hold, Hold::Until(end) if *end > now);
        self.gateways.iter().filter(move |(_, hold)| held(hold)).map(|(gateway, _)| *gateway)
    }

    /// When the next hold ends, if one runs.
    #[must_use]
    pub fn next_end(&self) -> Option<Instant> {
        let ends = self.gateways.values().filter_map(|hold| match hold {
            Hold::Until(end) => Some(*end),
            Hold::Down => None,
        });
        ends.min()
    }

    /// Forgets next hops nobody uses any more.
    pub fn retain(&mut self, used: impl Fn(&Gateway) -> bool) {
        self.gateways.retain(|gateway, _| used(gateway));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Gateway =
        Gateway { ifindex: 3, address: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 20, 1)) };

    #[test]
    fn a_flap_starts_the_hold_again() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut holds = Holds::new(3 * second);
        holds.observe(GATEWAY, false, start);
        assert_eq!(holds.held(start).count(), 0, "never failed: no hold");
        holds.observe(GATEWAY, true, start);
        holds.observe(GATEWAY, false, start + second);
        assert_eq!(holds.next_end(), Some(start + 4 * second));
        holds.observe(GATEWAY, true, start + 2 * second);
        assert_eq!(holds.next_end(), None);
        holds.observe(GATEWAY, false, start + 3 * second);
        assert_eq!(holds.held(start + 5 * second).collect::<Vec<_>>(), [GATEWAY]);
        assert_eq!(holds.held(start + 6 * second).count(), 0);
        holds.observe(GATEWAY, false, start + 6 * second);
        assert_eq!(holds.next_end(), None);
    }
}
