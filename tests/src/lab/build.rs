//! The scripts that turn the address plan into links, addresses, routes and NAT rules.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::plan::{self, PODS_PER_VM, VMS, VmPlan};
use crate::netns::{Netns, create_all, feed, ip_batch};

/// Link-local address of every pod's host end, as Calico has it: from its MAC ee:ee:ee:ee:ee:ee.
const POD_GATEWAY_MAC: &str = "ee:ee:ee:ee:ee:ee";
const POD_GATEWAY_V6: &str = "fe80::ecee:eeff:feee:eeee";
const POD_GATEWAY_V4: &str = "169.254.1.1";

/// Addresses are there at once (no duplicate detection), nothing is configured by advertisements,
/// and no reverse-path filter hides a routing error of the code under test.
const EVERYWHERE: [(&str, &str); 7] = [
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];

const FORWARDING: [(&str, &str); 5] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
    // Many sources look like one behind the NAT: each gets its ICMP error, none waits in vain.
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
];

/// Makes the namespaces and the sysctls that links take over when they are made.
pub(crate) fn namespaces(all: &[Netns], routers: &[Netns]) -> Result<()> {
    create_all(&all.iter().map(Netns::name).collect::<Vec<_>>())?;
    all.iter().try_for_each(|ns| ns.sysctl(&EVERYWHERE))?;
    routers.iter().try_for_each(|ns| ns.sysctl(&FORWARDING))
}

/// The NICs of hosts outside the VMs: they send whole checksums and no super-packets, as a wire
/// would carry them, and take frames that XDP redirects to them (a veth does so with GRO on its
/// peer, and only if that was switched on while the link is up).
pub fn as_a_wire(ns: &Netns, devices: &[&str]) -> Result<()> {
    ns.run(|| {
        devices.iter().try_for_each(|device| {
            let args = ["-K", device, "tx", "off", "gro", "on"];
            feed(std::process::Command::new("ethtool").args(args), "")
        })
    })
    .with_context(|| format!("in namespace {ns}"))
}

/// An end of a wire: the namespace and the name of the NIC there.
pub(crate) type End = (Netns, String);

/// The script that makes veth pairs, each between two namespaces.
///
/// The two ends get different indices on purpose: the kernel (6.18, `linkwatch_urgent_event`)
/// reports carrier changes of a device whose peer has its own index up to a second late.
pub(crate) fn wires(pairs: &[(End, End)]) -> String {
    let mut script = String::new();
    for (number, ((left_ns, left), (right_ns, right))) in pairs.iter().enumerate() {
        let (one, other) = (10 + number, 110 + number);
        script += &format!(
            "link add dev {left} index {one} netns {left_ns} type veth \
             peer name {right} index {other} netns {right_ns}\n"
        );
    }
    script
}

/// Builds everything inside existing, empty namespaces. `ns` finds one by its role.
pub(super) fn all(ns: &dyn Fn(&str) -> Netns) -> Result<()> {
    ip_batch(&links(ns))?;
    internet(&ns("inet"), &ns("gw"))?;
    internal_switch(&ns("intsw"))?;
    external_switch(&ns("extsw"))?;
    cameras(&ns("camgw"), &ns("cam"))?;
    let [master, worker] = VmPlan::all();
    vm(ns, master, worker)?;
    vm(ns, worker, master)
}

fn links(ns: &dyn Fn(&str) -> Netns) -> String {
    let end = |role: &str, device: &str| (ns(role), device.to_owned());
    let mut pairs = vec![
        (end("inet", "eth0"), end("gw", "inet")),
        (end("intsw", "uplink"), end("gw", "port2")),
        (end("camgw", "port3"), end("extsw", "camgw")),
        (end("cam", "eth0"), end("camgw", "lan")),
    ];
    for vm in VMS {
        pairs.push((end(vm, "eth0"), end("intsw", vm)));
        pairs.push((end(vm, "eth1"), end("extsw", vm)));
        for number in 1..=PODS_PER_VM {
            let pod = end(&format!("{vm}-pod{number}"), "eth0");
            pairs.push((pod, end(vm, &format!("vethpod{number}"))));
        }
    }
    wires(&pairs)
}

/// The gateway knows the internet and the device's uplink and refuses private destinations, as a
/// provider does. By rules: of unreachable routes the kernel tells a sender only once a second,
/// and behind the NAT all are one sender.
fn internet(inet: &Netns, gw: &Netns) -> Result<()> {
    inet.ip_script(
        "link set lo up
         addr add 203.0.113.10/24 dev eth0
         addr add 2001:db8:113::10/64 dev eth0
         link set eth0 up
         route add default via 203.0.113.1
         route add default via 2001:db8:113::1\n",
    )?;
    gw.ip_script(
        "link set lo up
         addr add 203.0.113.1/24 dev inet
         addr add 2001:db8:113::1/64 dev inet
         addr add 198.51.100.1/24 dev port2
         addr add 2001:db8:51::1/64 dev port2
         link set inet up
         link set port2 up\n",
    )?;
    gw.nft(
        "table inet filter { chain prerouting {
            type filter hook prerouting priority filter
            ip daddr { 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 } reject with icmpx type no-route
            ip6 daddr fc00::/7 reject with icmpx type no-route
         }\n}\n",
    )?;
    as_a_wire(inet, &["eth0"])?;
    as_a_wire(gw, &["inet", "port2"])
}

fn internal_switch(intsw: &Netns) -> Result<()> {
    let mut script = String::from(
        "link set lo up
         link add int0 type bridge mcast_snooping 0
         link set dev master master int0 addrgenmode none
         link set dev worker master int0 addrgenmode none
         addr add 10.128.44.1/24 dev int0
         addr add fd44::1/64 dev int0
         addr add 198.51.100.2/24 dev uplink
         addr add 2001:db8:51::2/64 dev uplink
         link set int0 up
         link set dev master up
         link set dev worker up
         link set uplink up
         route add default via 198.51.100.1
         route add default via 2001:db8:51::1\n",
    );
    for vm in VmPlan::all() {
        let (via, [cidr4, cidr6]) = (vm.port2(), vm.pod_cidrs());
        write!(script, "route add {cidr4} via {}\nroute add {cidr6} via {}\n", via.v4, via.v6)?;
    }
    intsw.ip_script(&script)?;
    as_a_wire(intsw, &["master", "worker", "uplink"])?;
    intsw.nft(
        "table inet nat { chain postrouting {
            type nat hook postrouting priority srcnat
            oifname \"uplink\" masquerade
         }\n}\n",
    )
}

fn external_switch(extsw: &Netns) -> Result<()> {
    extsw.ip_script(
        "link add ext0 type bridge mcast_snooping 0
         link set ext0 addrgenmode none up
         link set dev master master ext0 addrgenmode none
         link set dev worker master ext0 addrgenmode none
         link set dev camgw master ext0 addrgenmode none
         link set dev master up
         link set dev worker up
         link set dev camgw up\n",
    )?;
    as_a_wire(extsw, &["master", "worker", "camgw"])
}

/// ARP for 192.168.20.1 is answered on every NIC of the gateway; neighbour discovery is not so
/// generous, hence fd20::1 on both of them.
fn cameras(camgw: &Netns, cam: &Netns) -> Result<()> {
    let mut script = String::from(
        "link set lo up
         addr add 192.168.20.1/24 dev lan
         addr add fd20::1/64 dev lan
         addr add 172.16.3.1/24 dev port3
         addr add fd16:3::1/64 dev port3
         addr add fd20::1/128 dev port3 noprefixroute
         link set lan up
         link set port3 up\n",
    );
    for vm in VmPlan::all() {
        let (via, own, [cidr4, cidr6]) = (vm.port3(), vm.port2(), vm.pod_cidrs());
        write!(script, "route add {cidr4} via {}\nroute add {cidr6} via {}\n", via.v4, via.v6)?;
        // A VM that is told to may speak to cameras with its Port2 address.
        writeln!(script, "route add {} via {}", own.v4, via.v4)?;
        writeln!(script, "route add {} via {}", own.v6, via.v6)?;
    }
    camgw.ip_script(&script)?;
    cam.ip_script(
        "link set lo up
         addr add 192.168.20.50/24 dev eth0
         addr add fd20::50/64 dev eth0
         link set eth0 up
         route add default via 192.168.20.1
         route add default via fd20::1\n",
    )?;
    as_a_wire(camgw, &["lan", "port3"])?;
    as_a_wire(cam, &["eth0"])
}

fn vm(ns: &dyn Fn(&str) -> Netns, vm: VmPlan, other: VmPlan) -> Result<()> {
    let (port2, port3, gateway) = (vm.port2(), vm.port3(), plan::INTERNAL_GATEWAY);
    let mut script = format!(
        "link set lo up
         addr add {}/24 dev eth0
         addr add {}/64 dev eth0
         addr add {}/24 dev eth1
         addr add {}/64 dev eth1
         link set eth0 up
         link set eth1 up
         route add default via {} dev eth0
         route add default via {} dev eth0\n",
        port2.v4, port2.v6, port3.v4, port3.v6, gateway.v4, gateway.v6
    );
    let (via, [cidr4, cidr6]) = (other.port2(), other.pod_cidrs());
    writeln!(script, "route add {cidr4} via {} dev eth0", via.v4)?;
    writeln!(script, "route add {cidr6} via {} dev eth0", via.v6)?;
    for number in 1..=PODS_PER_VM {
        let pod = vm.pod(number);
        writeln!(script, "link set vethpod{number} address {POD_GATEWAY_MAC} up")?;
        writeln!(script, "route add {} dev vethpod{number} scope link", pod.v4)?;
        writeln!(script, "route add {} dev vethpod{number}", pod.v6)?;
    }
    let own = ns(vm.name);
    own.ip_script(&script)?;
    for number in 1..=PODS_PER_VM {
        own.sysctl(&[
            (&format!("ipv4/conf/vethpod{number}/proxy_arp"), "1"),
            // Answer for the pod's gateway at once instead of after a random delay.
            (&format!("ipv4/neigh/vethpod{number}/proxy_delay"), "0"),
        ])?;
        let pod = vm.pod(number);
        ns(&format!("{}-pod{number}", vm.name)).ip_script(&format!(
            "link set lo up
             addr add {}/32 dev eth0
             addr add {}/128 dev eth0
             link set eth0 up
             route add {POD_GATEWAY_V4} dev eth0 scope link
             route add default via {POD_GATEWAY_V4} dev eth0
             route add default via {POD_GATEWAY_V6} dev eth0\n",
            pod.v4, pod.v6
        ))?;
    }
    Ok(())
}
