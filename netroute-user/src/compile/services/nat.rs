//! How flows are translated, whatever their Service.

use netroute_common::layout::flow::Timers;

/// Timers of flows, and the source ports of masqueraded ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat {
    pub timers: Timers,
    pub first_port: u16,
    pub ports: u16,
}

impl Nat {
    /// Above the kernel's own default range (`ip_local_port_range`, 32768 to 60999) and the node
    /// ports' (30000 to 32767).
    pub const DEFAULT: Self = Self { timers: Timers::DEFAULT, first_port: 61_000, ports: 4_536 };
}

impl Default for Nat {
    fn default() -> Self {
        Self::DEFAULT
    }
}
