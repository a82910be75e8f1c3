//! Whether the source ports of masqueraded flows are nobody else's (N7).

use std::fs;
use std::ops::RangeInclusive;

use crate::compile::services::nat::Nat;

/// Ports that the kernel gives to processes that ask for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPorts {
    /// `net.ipv4.ip_local_port_range`, of both families.
    pub range: RangeInclusive<u16>,
    /// `net.ipv4.ip_local_reserved_ports`: given to nobody.
    pub reserved: Vec<RangeInclusive<u16>>,
}

impl LocalPorts {
    /// Of this network namespace; `None` if that cannot be read.
    #[must_use]
    pub fn read() -> Option<Self> {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
        let reserved = fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").ok()?;
        Self::parse(&range, &reserved)
    }

    fn parse(range: &str, reserved: &str) -> Option<Self> {
        let (first, last) = range.trim().split_once(char::is_whitespace)?;
        let range = first.parse().ok()?..=last.trim().parse().ok()?;
        let reserved = reserved.trim().split(',').filter(|part| !part.is_empty()).map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        });
        Some(Self { range, reserved: reserved.collect::<Option<_>>()? })
    }

    /// Those of the masqueraded flows that a process may get as well, from the first to the last.
    #[must_use]
    pub fn shared(&self, nat: &Nat) -> Option<RangeInclusive<u16>> {
        let given =
            |port: &u16| self.range.contains(port) && !self.reserved.iter().any(|range| range.contains(port));
        let mut shared = masqueraded(nat).filter(given);
        let first = shared.next()?;
        Some(first..=shared.next_back().unwrap_or(first))
    }
}

fn masqueraded(nat: &Nat) -> RangeInclusive<u16> {
    nat.first_port..=nat.first_port.saturating_add(nat.ports.saturating_sub(1))
}

/// What is wrong and how it is mended.
#[must_use]
pub fn complaint(ports: &LocalPorts, nat: &Nat) -> Option<[String; 2]> {
    let shared = ports.shared(nat)?;
    let (first, last) = (shared.start(), shared.end());
    // A write replaces the whole list; ranges in it may overlap.
    let wanted = ports.reserved.iter().cloned().chain([masqueraded(nat)]).map(|range| match range.start() {
        first if first == range.end() => first.to_string(),
        first => format!("{first}-{}", range.end()),
    });
    let wanted: Vec<String> = wanted.collect();
    Some([
        format!(
            "processes may be given the ports {first} to {last}, which masqueraded flows have: answers to the one \
             may reach the other"
        ),
        format!("sysctl -w net.ipv4.ip_local_reserved_ports={}", wanted.join(",")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(range: &str, reserved: &str) -> Option<RangeInclusive<u16>> {
        LocalPorts::parse(range, reserved).expect("ports").shared(&Nat::DEFAULT)
    }

    #[test]
    fn n7_ports_of_masqueraded_flows_are_nobody_elses() {
        assert_eq!(shared("32768\t60999\n", "\n"), None, "the kernel's own default");
        assert_eq!(shared("1024 65535", ""), Some(61_000..=65_535));
        assert_eq!(shared("1024 61000", ""), Some(61_000..=61_000));
        assert_eq!(shared("1024 65535", "8080,61000-65535"), None);
        assert_eq!(shared("1024 65535", "61000-64999,65535"), Some(65_000..=65_534));
        assert_eq!(LocalPorts::parse("none", ""), None);
        assert_eq!(LocalPorts::parse("1 2", "x"), None);
    }

    #[test]
    fn n7_the_fix_keeps_what_is_reserved_already() {
        for reserved in ["", "8080", "8080,30000-32767,61000-61999"] {
            let before = LocalPorts::parse("1024 65535", reserved).expect("ports");
            let [_, fix] = complaint(&before, &Nat::DEFAULT).expect("a complaint");
            let list = fix.strip_prefix("sysctl -w net.ipv4.ip_local_reserved_ports=").expect(&fix);
            let after = LocalPorts::parse("1024 65535", list).expect(list);
            assert_eq!(after.shared(&Nat::DEFAULT), None, "{fix}");
            assert!(before.reserved.iter().all(|range| after.reserved.contains(range)), "{fix}");
        }
    }
}
