//! Prefixes that no router forwards, whatever the route tables say.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// IPv4: this network, loopback, link-local, multicast, reserved (RFC 6890, RFC 5771).
pub const NOT_FORWARDED4: [Ipv4Net; 5] = [
    net4([0, 0, 0, 0], 8),
    net4([127, 0, 0, 0], 8),
    net4([169, 254, 0, 0], 16),
    net4([224, 0, 0, 0], 4),
    net4([240, 0, 0, 0], 4),
];

/// IPv6: unspecified, loopback, link-local, multicast (RFC 4291 section 2.4).
pub const NOT_FORWARDED6: [Ipv6Net; 4] = [
    net6([0; 8], 128),
    net6([0, 0, 0, 0, 0, 0, 0, 1], 128),
    net6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    net6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
];

const fn net4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn net6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length)
}

/// Whether the prefix lies inside one of the above.
#[must_use]
pub fn contains(prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(prefix) => NOT_FORWARDED4.iter().any(|special| special.contains(prefix)),
        IpNet::V6(prefix) => NOT_FORWARDED6.iter().any(|special| special.contains(prefix)),
    }
}
