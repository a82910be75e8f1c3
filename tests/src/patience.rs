//! How slow the machine is. Deadlines grow, and streams thin out, by one number from the environment, so that
//! an emulated machine runs the same tests; without it nothing changes.

use std::sync::LazyLock;
use std::time::Duration;

/// A whole number, 1 or more: an emulated machine is some twenty times slower.
const VARIABLE: &str = "NETROUTE_TEST_PATIENCE";

/// The number; 1 if the environment has none.
pub fn factor() -> u32 {
    static FACTOR: LazyLock<u32> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).ok();
        text.and_then(|text| text.parse().ok()).map_or(1, |factor: u32| factor.max(1))
    });
    *FACTOR
}

/// Deadlines are generous already: what hangs must be told before the whole suite is killed for it.
const LONGEST: u32 = 4;

/// A deadline on this machine.
pub fn patient(deadline: Duration) -> Duration {
    deadline * factor().min(LONGEST)
}

/// A wait that is always waited to its end.
pub fn silence(wait: Duration) -> Duration {
    wait * factor().min(LONGEST)
}

/// Packets per time that this machine carries without loss.
pub fn rate(packets: u32) -> u32 {
    (packets / factor()).max(1)
}
