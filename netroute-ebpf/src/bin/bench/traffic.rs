//! What the generator and its user-space half must agree on; compiled into both.

/// Headers of a packet in words of 8 bytes: Ethernet, IPv4, UDP, and 6 bytes of the payload.
pub const HEADER_WORDS: usize = 6;

/// Number of words of the settings, which are, by index:
pub const SETTINGS_LEN: usize = 5;
/// Slot of the device map that packets leave by.
pub const SLOT: usize = 0;
/// The number of flows, a power of two, minus one; all ones: each packet is a new flow.
pub const FLOW_MASK: usize = 1;
/// Index of the first destination.
pub const FIRST_DESTINATION: usize = 2;
/// The number of destinations, a power of two, minus one.
pub const DESTINATION_MASK: usize = 3;
/// Sum of the words of the IPv4 header, without addresses and checksum, as they lie in memory.
pub const CHECKSUM: usize = 4;

/// Room for destinations.
pub const ALL_DESTINATIONS: usize = 1 << 21;

/// Source ports in use: this many from the first on.
pub const FIRST_PORT: u32 = 1024;
pub const PORTS: u32 = 64_512;
