//! The mistakes that must be noticed, one line each.

/// One line of the sources, replaced.
#[derive(Debug)]
pub struct Mutant {
    pub name: &'static str,
    /// Relative to the workspace.
    pub file: &'static str,
    /// There once, or the mutant must be written anew.
    pub sound: &'static str,
    pub broken: &'static str,
    /// Tests of `vectors_kernel` that must fail, each of them.
    pub vectors: &'static [&'static str],
}

impl Mutant {
    /// `source` with the mistake; `None` if the line is not there exactly once.
    pub fn applied(&self, source: &str) -> Option<String> {
        (source.matches(self.sound).count() == 1).then(|| source.replacen(self.sound, self.broken, 1))
    }
}

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the checksum loses its carry",
        file: "netroute-common/src/checksum.rs",
        sound: "let once = (sum & 0xffff).wrapping_add(sum >> 16);",
        broken: "let once = sum & 0xffff;",
        vectors: &["checksum"],
    },
    Mutant {
        name: "the checksum is not updated",
        file: "netroute-common/src/wire/ipv4.rs",
        sound: "ip.checksum = Update::of(ip.checksum).replace(old, old.wrapping_sub(TTL_ONE)).ip();",
        broken: "let _ = old;",
        vectors: &["forward4", "checksum"],
    },
    Mutant {
        name: "the total length is read in the wrong byte order",
        file: "netroute-common/src/wire/ipv4.rs",
        sound: "self.total_length.get() as u32",
        broken: "self.total_length.get().swap_bytes() as u32",
        vectors: &["lengths4"],
    },
    Mutant {
        name: "the IPv4 TTL is not lowered",
        file: "netroute-common/src/wire/ipv4.rs",
        sound: "ip.ttl = ip.ttl.wrapping_sub(1);",
        broken: "",
        vectors: &["forward4", "ttl4"],
    },
    Mutant {
        name: "the IPv6 hop limit is not lowered",
        file: "netroute-common/src/wire/ipv6.rs",
        sound: "ip.hop_limit = ip.hop_limit.wrapping_sub(1);",
        broken: "",
        vectors: &["forward6", "ttl6"],
    },
    Mutant {
        name: "a TTL of 1 is forwarded",
        file: "netroute-common/src/stage/way.rs",
        sound: "if ip.ttl() <= 1 {",
        broken: "if ip.ttl() == 0 {",
        vectors: &["ttl4", "ttl6"],
    },
    Mutant {
        name: "the MACs are swapped",
        file: "netroute-common/src/stage/way.rs",
        sound: "eth.destination.set(&next_hop.destination_mac);\n    eth.source.set(&next_hop.source_mac);",
        broken: "eth.destination.set(&next_hop.source_mac);\n    eth.source.set(&next_hop.destination_mac);",
        vectors: &["forward4", "forward6"],
    },
    Mutant {
        name: "the MTU is off by one",
        file: "netroute-common/src/stage/way.rs",
        sound: "(length > self.next_hop.mtu)",
        broken: "(length >= self.next_hop.mtu)",
        vectors: &["mtu", "gso"],
    },
    Mutant {
        name: "martian sources are forwarded",
        file: "netroute-common/src/stage/forward.rs",
        sound: "if ip.source_is_martian() {",
        broken: "if false {",
        vectors: &["martians4", "martians6"],
    },
    Mutant {
        name: "the metric is ignored",
        file: "netroute-common/src/stage/choose.rs",
        sound: "dead | u64::from(member.tier) << TIER_SHIFT | share",
        broken: "dead | share",
        vectors: &["ecmp_tiers"],
    },
    Mutant {
        name: "a dead next hop is sent to",
        file: "netroute-common/src/stage/choose.rs",
        sound: "if next_hop.alive == 0 {",
        broken: "if false {",
        vectors: &["next_hop_down"],
    },
    Mutant {
        name: "ports are read from later fragments",
        file: "netroute-common/src/wire/ipv4.rs",
        sound: "whole.then_some(self.protocol)",
        broken: "(whole || self.ttl != 0).then_some(self.protocol)",
        vectors: &["ecmp_fragments4"],
    },
    Mutant {
        name: "the lookup leaves out the last bit of the address",
        file: "netroute-ebpf/src/tables.rs",
        sound: "Key::new(128, Prefix6",
        broken: "Key::new(127, Prefix6",
        vectors: &["longest_prefix"],
    },
    Mutant {
        name: "the last stride is chosen by the wrong octet",
        file: "netroute-common/src/strides.rs",
        sound: "let entry = below(tables, entry, fourth);",
        broken: "let entry = below(tables, entry, third);",
        vectors: &["longest_prefix"],
    },
    Mutant {
        name: "ports are not rewritten",
        file: "netroute-common/src/stage/translate.rs",
        sound: "written.destination = Be16::new(new.1);",
        broken: "",
        vectors: &["service_pod_endpoint", "service_masquerade"],
    },
    Mutant {
        name: "the checksum of a translated packet leaves out the addresses",
        file: "netroute-common/src/stage/translate.rs",
        sound: "let addresses = from.addresses_changed(to);",
        broken: "let addresses = Delta::default();",
        vectors: &["service_protocols", "service_udp_checksum"],
    },
    Mutant {
        name: "no flow is ever established",
        file: "netroute-common/src/stage/follow.rs",
        sound: "if !transition.promoted {",
        broken: "if transition.promoted || !transition.promoted {",
        vectors: &["service_table_full"],
    },
    Mutant {
        name: "packets are counted without their bytes",
        file: "netroute-ebpf/src/tables.rs",
        sound: "(*counter).bytes += u64::from(bytes);",
        broken: "let _ = bytes;",
        vectors: &["forward4", "arp"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Paths;

    #[test]
    fn every_mutant_fits_the_sources() {
        let workspace = Paths::find().unwrap().workspace;
        for mutant in MUTANTS {
            let source = std::fs::read_to_string(workspace.join(mutant.file)).unwrap();
            assert!(mutant.applied(&source).is_some_and(|broken| broken != source), "{}", mutant.name);
            assert!(!mutant.vectors.is_empty());
        }
    }

    #[test]
    fn a_line_that_is_not_there_or_there_twice_is_no_mutant() {
        let mutant = Mutant { name: "", file: "", sound: "a", broken: "b", vectors: &[] };
        assert_eq!(mutant.applied("xax").as_deref(), Some("xbx"));
        assert_eq!(mutant.applied("xx"), None);
        assert_eq!(mutant.applied("xaxa"), None);
    }
}
