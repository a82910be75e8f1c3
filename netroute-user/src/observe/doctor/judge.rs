//! From facts to findings. Pure.

use super::ports::complaint;
use super::{Check, Facts, Level, Nic, Sockets};
use crate::observe::nic::XdpMode;

/// First kernel the programs load on.
const OLDEST_KERNEL: (u32, u32) = (5, 10);
/// Largest frame that drivers with one page per packet take with XDP: a page without the room
/// for headers (256) and the buffer's own bookkeeping (320), and the Ethernet header.
const NATIVE_XDP_MTU: u32 = 4096 - 256 - 320 - 14;

/// Every check: one line per check that is in order, one per thing that is not.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    let machine: [(&str, Found, &str); 11] = [
        ("kernel", kernel(facts), "new enough"),
        ("btf", btf(facts), "the kernel describes its types"),
        ("bpffs", bpffs(facts), "mounted"),
        ("jit", jit(facts), "BPF programs are compiled"),
        ("forwarding", forwarding(facts), "on for IPv4 and IPv6"),
        ("rp-filter", rp_filter(facts), "not strict on any of the interfaces"),
        ("masquerade-ports", masquerade_ports(facts), "given to no process"),
        ("policy-rules", policy_rules(facts), "none beside the kernel's own"),
        ("foreign-route", foreign(facts), "no custom route is shadowed"),
        ("neighbours", neighbours(facts), "the kernel keeps next hops resolved"),
        ("sockets", sockets(facts), socket_state(facts)),
    ];
    let nics: [(&str, NicCheck, &str); 8] = [
        ("addressing", addressing, "static on all interfaces"),
        ("enslaved", enslaved, "no interface is a port of another"),
        ("lro", lro, "off on all interfaces"),
        ("rx-vlan", rx_vlan, "VLAN tags are left in received packets"),
        ("tc-link", tc_link, "TCX where attached"),
        ("xdp-mode", xdp_mode, "native where attached"),
        ("mtu", mtu, "within the limit of native XDP"),
        ("xdp-transmit", xdp_transmit, "all interfaces take redirected packets"),
    ];
    for (name, found, fine) in machine {
        report(&mut checks, name, found, fine);
    }
    for (name, check, fine) in nics {
        report(&mut checks, name, facts.nics.iter().filter_map(check).collect(), fine);
    }
    checks
}

struct Finding {
    level: Level,
    finding: String,
    fix: String,
}

type Found = Vec<Finding>;
type NicCheck = fn(&Nic) -> Option<Finding>;

fn report(checks: &mut Vec<Check>, name: &str, found: Found, fine: &str) {
    if found.is_empty() {
        let (finding, fix) = (fine.to_owned(), String::new());
        checks.push(Check { name: name.to_owned(), level: Level::Ok, finding, fix });
    }
    let named = |Finding { level, finding, fix }| Check { name: name.to_owned(), level, finding, fix };
    checks.extend(found.into_iter().map(named));
}

fn warn(finding: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { level: Level::Warn, finding: finding.into(), fix: fix.into() }
}

fn fail(finding: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { level: Level::Fail, finding: finding.into(), fix: fix.into() }
}

fn kernel(facts: &Facts) -> Found {
    let Some(version @ (major, minor)) = facts.kernel else { return Found::new() };
    if version < OLDEST_KERNEL {
        let (need, minor_need) = OLDEST_KERNEL;
        return vec![fail(
            format!("Linux {major}.{minor} is too old"),
            format!("boot Linux {need}.{minor_need} or later"),
        )];
    }
    Found::new()
}

fn neighbours(facts: &Facts) -> Found {
    let finding = || {
        warn(
            "this kernel does not keep next hops resolved by itself (Linux 5.16 does)",
            "nothing must be done: the agent asks again whenever one fails or goes",
        )
    };
    (facts.managed_neighbours == Some(false)).then(finding).into_iter().collect()
}

fn sockets(facts: &Facts) -> Found {
    let Sockets::Refused { reason, fix } = &facts.sockets else { return Found::new() };
    vec![warn(format!("processes of the node do not reach Services: {reason}"), fix)]
}

fn socket_state(facts: &Facts) -> &'static str {
    if facts.sockets == Sockets::Off { "off by configuration" } else { "processes reach Services" }
}

fn btf(facts: &Facts) -> Found {
    let missing = || {
        warn(
            "the kernel has no BTF: map dumps have no field names, events fewer details",
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        )
    };
    (!facts.btf).then(missing).into_iter().collect()
}

fn bpffs(facts: &Facts) -> Found {
    let path = &facts.bpffs_path;
    let missing = || {
        fail(
            format!("no BPF file system at {path}: nothing would outlive the agent"),
            "mount -t bpf bpf /sys/fs/bpf",
        )
    };
    (!facts.bpffs).then(missing).into_iter().collect()
}

fn jit(facts: &Facts) -> Found {
    let off =
        || warn("BPF programs are interpreted, several times slower", "sysctl -w net.core.bpf_jit_enable=1");
    (facts.jit == Some(0)).then(off).into_iter().collect()
}

fn forwarding(facts: &Facts) -> Found {
    let off = |family: &str, sysctl: &str| {
        fail(
            format!("{family} forwarding is off: what the fast path hands up is dropped"),
            format!("sysctl -w {sysctl}=1"),
        )
    };
    let mut found = Found::new();
    if facts.forward4 == Some(false) {
        found.push(off("IPv4", "net.ipv4.ip_forward"));
    }
    if facts.forward6 == Some(false) {
        found.push(off("IPv6", "net.ipv6.conf.all.forwarding"));
    }
    found
}

/// The kernel takes the larger of the interface's value and that of `all`; 1 is strict.
fn rp_filter(facts: &Facts) -> Found {
    let all = facts.rp_filter_all.unwrap_or(0);
    let strict = |nic: &&Nic| nic.rp_filter.unwrap_or(0).max(all) == 1;
    let finding = |nic: &Nic| {
        let name = &nic.name;
        // A 2 on the interface wins over a 1 on `all`.
        warn(
            format!("strict reverse path filter on {name}: good packets are dropped without a trace"),
            format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2"),
        )
    };
    facts.nics.iter().filter(strict).map(finding).collect()
}

fn masquerade_ports(facts: &Facts) -> Found {
    let ports = facts.local_ports.as_ref();
    let found = ports.and_then(|ports| complaint(ports, &facts.nat));
    found.into_iter().map(|[finding, fix]| warn(finding, fix)).collect()
}

fn policy_rules(facts: &Facts) -> Found {
    let finding = |(priority, family): &(u32, &str)| {
        warn(
            format!("{family} policy routing rule {priority}: the fast path follows the main table only"),
            format!(
                "check with `ip rule`; remove it with `ip rule del priority {priority}` if it is not needed"
            ),
        )
    };
    facts.policy_rules.iter().map(finding).collect()
}

fn foreign(facts: &Facts) -> Found {
    let finding = |(key, metric): &(crate::compile::mirror::FibKey, u32)| {
        let (destination, own) = (key.destination, key.metric);
        warn(
            format!(
                "a kernel route to {destination} of metric {metric} wins over the custom one of metric {own}"
            ),
            format!(
                "give the custom route a metric below {metric}, or remove the other: ip route show {destination}"
            ),
        )
    };
    facts.shadowed.iter().map(finding).collect()
}

fn addressing(nic: &Nic) -> Option<Finding> {
    let (name, address) = (&nic.name, nic.dynamic_only.as_ref()?);
    let finding = format!("{name} has only dynamic addresses ({address}): custom routes are refused there");
    Some(warn(finding, "give it a static address, or add routes with --force"))
}

fn enslaved(nic: &Nic) -> Option<Finding> {
    let (name, master) = (&nic.name, nic.master.as_ref()?);
    let finding = format!("{name} is a port of {master}: custom routes are refused there");
    Some(fail(finding, format!("configure {master} as the interface, or `ip link set {name} nomaster`")))
}

fn on(nic: &Nic, feature: &str) -> bool {
    nic.features.as_ref().is_some_and(|features| features.contains(feature))
}

fn lro(nic: &Nic) -> Option<Finding> {
    let name = &nic.name;
    let finding = || format!("large receive offload is on at {name}: merged packets cannot be forwarded");
    on(nic, "rx-lro").then(|| warn(finding(), format!("ethtool -K {name} lro off")))
}

fn rx_vlan(nic: &Nic) -> Option<Finding> {
    let name = &nic.name;
    let finding = || format!("{name} strips VLAN tags from received packets: XDP cannot tell them apart");
    // A veth hands tags on beside the packet whatever is set, and carries none that it strips.
    let real = nic.kind.is_none();
    (real && on(nic, "rx-vlan-hw-parse")).then(|| warn(finding(), format!("ethtool -K {name} rxvlan off")))
}

fn tc_link(nic: &Nic) -> Option<Finding> {
    let name = &nic.name;
    nic.filter.then(|| {
        warn(
            format!("TC of {name} is a clsact filter, not a TCX link (Linux 6.6)"),
            "nothing must be done; do not remove the clsact qdisc of the interface",
        )
    })
}

fn xdp_mode(nic: &Nic) -> Option<Finding> {
    let name = &nic.name;
    let finding = || format!("XDP runs in generic mode on {name}: correct, but slower than native");
    (nic.xdp == Some(XdpMode::Generic)).then(|| {
        warn(
            finding(),
            format!("check MTU and LRO of {name}, then restart the agent; or use a driver with XDP"),
        )
    })
}

fn mtu(nic: &Nic) -> Option<Finding> {
    let (name, mtu) = (&nic.name, nic.mtu);
    let too_large = mtu > NATIVE_XDP_MTU && nic.xdp != Some(XdpMode::Native);
    let finding =
        || format!("MTU {mtu} of {name} is more than most drivers take with native XDP ({NATIVE_XDP_MTU})");
    too_large.then(|| {
        warn(finding(), format!("ip link set {name} mtu {NATIVE_XDP_MTU}, or less as the driver says"))
    })
}

fn xdp_transmit(nic: &Nic) -> Option<Finding> {
    let name = &nic.name;
    let fix = match nic.kind.as_deref() {
        Some("veth") => {
            format!("load an XDP program on the far end of {name}, or `ethtool -K FAR_END gro on`")
        }
        _ => format!("use a driver with XDP redirect for {name}"),
    };
    match nic.xdp_transmit {
        Some(true) => None,
        Some(false) => {
            let finding = format!("{name} does not take packets redirected by XDP: the kernel forwards them");
            Some(warn(finding, fix))
        }
        // Hardware is believed to, see the compilation of next hops.
        None if nic.kind.is_none() => None,
        None => {
            let finding = format!(
                "this kernel does not tell whether {name} takes packets redirected by XDP (Linux 6.3 does): TC \
                 forwards them"
            );
            Some(warn(finding, "nothing must be done"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ports::LocalPorts;
    use super::*;

    fn healthy() -> Facts {
        Facts {
            kernel: Some((6, 18)),
            btf: true,
            bpffs: true,
            bpffs_path: "/sys/fs/bpf/netroute".to_owned(),
            jit: Some(1),
            forward4: Some(true),
            forward6: Some(true),
            rp_filter_all: Some(0),
            nics: vec![Nic {
                name: "eth1".to_owned(),
                mtu: 1500,
                xdp_transmit: Some(true),
                ..Nic::default()
            }],
            ..Facts::default()
        }
    }

    /// Names of the checks that are not in order.
    fn complaints(change: impl FnOnce(&mut Facts)) -> Vec<String> {
        let mut facts = healthy();
        change(&mut facts);
        judge(&facts).into_iter().filter(|check| check.level > Level::Ok).map(|check| check.name).collect()
    }

    #[test]
    fn a_healthy_machine_has_no_complaints() {
        assert_eq!(complaints(|_| {}), [""; 0]);
        assert!(judge(&healthy()).iter().all(|check| check.fix.is_empty()));
    }

    #[test]
    fn each_fact_has_its_complaint() {
        assert_eq!(complaints(|facts| facts.kernel = Some((4, 19))), ["kernel"]);
        assert_eq!(complaints(|facts| facts.managed_neighbours = Some(false)), ["neighbours"]);
        assert_eq!(complaints(|facts| facts.managed_neighbours = Some(true)), [""; 0]);
        assert_eq!(complaints(|facts| facts.sockets = Sockets::Off), [""; 0]);
        let refused = Sockets::Refused { reason: "no".to_owned(), fix: "this".to_owned() };
        assert_eq!(complaints(|facts| facts.sockets = refused), ["sockets"]);
        assert_eq!(complaints(|facts| facts.btf = false), ["btf"]);
        assert_eq!(complaints(|facts| facts.bpffs = false), ["bpffs"]);
        assert_eq!(complaints(|facts| facts.jit = Some(0)), ["jit"]);
        assert_eq!(complaints(|facts| facts.forward4 = Some(false)), ["forwarding"]);
        let all = LocalPorts { range: 1024..=65_535, reserved: vec![] };
        assert_eq!(complaints(|facts| facts.local_ports = Some(all)), ["masquerade-ports"]);
        assert_eq!(complaints(|facts| facts.forward6 = Some(false)), ["forwarding"]);
        assert_eq!(complaints(|facts| facts.policy_rules = vec![(100, "IPv4")]), ["policy-rules"]);
        let key = crate::compile::mirror::FibKey {
            destination: "10.0.0.0/8".parse().expect("prefix"),
            metric: 256,
        };
        assert_eq!(complaints(|facts| facts.shadowed = vec![(key, 100)]), ["foreign-route"]);
    }

    #[test]
    fn r4_r5_x4_each_fact_of_a_nic_has_its_complaint() {
        let nic = |change: fn(&mut Nic)| complaints(move |facts| facts.nics.iter_mut().for_each(change));
        assert_eq!(nic(|nic| nic.dynamic_only = Some("10.0.0.5/24".to_owned())), ["addressing"]);
        assert_eq!(nic(|nic| nic.master = Some("bond0".to_owned())), ["enslaved"]);
        assert_eq!(nic(|nic| nic.features = Some(["rx-lro".to_owned()].into())), ["lro"]);
        assert_eq!(nic(|nic| nic.features = Some(["rx-vlan-hw-parse".to_owned()].into())), ["rx-vlan"]);
        assert_eq!(nic(|nic| nic.xdp = Some(XdpMode::Generic)), ["xdp-mode"]);
        assert_eq!(nic(|nic| nic.mtu = 9000), ["mtu"]);
        assert_eq!(nic(|nic| nic.filter = true), ["tc-link"]);
        assert_eq!(nic(|nic| nic.xdp_transmit = Some(false)), ["xdp-transmit"]);
        assert_eq!(nic(|nic| nic.xdp_transmit = None), [""; 0], "hardware");
        let unknown = |nic: &mut Nic| (nic.xdp_transmit, nic.kind) = (None, Some("veth".to_owned()));
        assert_eq!(nic(unknown), ["xdp-transmit"]);
    }

    #[test]
    fn r16_the_larger_rp_filter_counts() {
        for (all, own, strict) in
            [(0, 1, true), (1, 0, true), (1, 1, true), (1, 2, false), (2, 1, false), (0, 0, false)]
        {
            let found = complaints(|facts| {
                facts.rp_filter_all = Some(all);
                facts.nics.iter_mut().for_each(|nic| nic.rp_filter = Some(own));
            });
            assert_eq!(found.iter().any(|name| name == "rp-filter"), strict, "all={all} own={own}");
        }
    }
}
