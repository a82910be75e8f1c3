//! What stands between generator and sink.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use aya::maps::xdp::DevMap;
use aya::programs::{Xdp, XdpMode};
use ipnet::Ipv4Net;
use netroute_common::host::strides::Strides;
use netroute_common::layout::route::{
    FIRST_FREE_ID, FIRST_OWN_STATS, Group, KIND_NEIGHBOUR, MAX_MEMBERS, Member, NextHop, Route,
};
use netroute_tests::namespace::{ifindex, mac, sh};
use netroute_tests::netns::{feed, ip_batch};
use netroute_user::apply::{MapStore as _, apply};
use netroute_user::compile::image::{Image, Limits};
use netroute_user::load::object::bpf_object;
use netroute_user::load::{Loader, NicDevice, PodDevice, Switched};
use netroute_user::plan::diff;

use super::{BPFFS, services};
use crate::baseline::Tool;
use crate::egress;
use crate::generator::SOURCE;
use crate::sink::loader;

/// The router's own on the far wire.
const ADDRESS: [u8; 4] = [10, 2, 0, 1];
const NEXT_HOP: [u8; 4] = [10, 2, 0, 2];
const MTU: u32 = 1500;
/// Room for the last two strides of IPv4 prefixes.
const BLOCKS: u32 = 1 << 17;

/// How packets get from one wire to the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// There is one wire only.
    Direct,
    /// The product on a NIC.
    Xdp,
    /// The product on a NIC, to an interface that XDP does not reach.
    Tc,
    /// The product on a pod's veth.
    Pod,
    /// The product on a pod's veth, with an egress policy that masquerades.
    Egress,
    /// The kernel's own forwarding.
    Kernel,
    /// The kernel, and nftables that masquerades.
    Masquerade,
    /// An XDP program that asks the kernel's FIB.
    Fib,
    /// The kernel with the rules of this many Services.
    Services(Tool, u32),
    /// The product on a NIC, with this many Services.
    Netroute(u32),
}

/// The router's interfaces.
pub struct Ports {
    near: u32,
    near_mac: [u8; 6],
    far: u32,
    far_mac: [u8; 6],
    next_mac: [u8; 6],
}

impl Kind {
    /// All that route, with row id and title.
    pub const ROUTERS: [(Self, &'static str, &'static str); 8] = [
        (Self::Direct, "path.direct", "generator to sink, no router"),
        (Self::Xdp, "path.xdp", "route by netroute, XDP"),
        (Self::Tc, "path.tc", "route by netroute, XDP leaves it to TC"),
        (Self::Pod, "path.pod", "route by netroute, TC on a pod's veth"),
        (Self::Kernel, "path.kernel", "route by the kernel"),
        (Self::Egress, "path.egress", "from a pod, masqueraded by netroute"),
        (Self::Masquerade, "path.masquerade", "masqueraded by the kernel with nftables"),
        (Self::Fib, "path.fib", "route by XDP with bpf_fib_lookup"),
    ];

    /// In the calling thread's namespace.
    pub fn install(self, ports: &Ports, prefixes: &[Ipv4Net], object: &Path) -> Result<()> {
        match self {
            Self::Direct => Ok(()),
            Self::Xdp | Self::Tc | Self::Pod | Self::Egress | Self::Netroute(_) => {
                self.netroute(ports, prefixes)
            }
            Self::Kernel => routes(prefixes),
            Self::Masquerade => {
                routes(prefixes)?;
                masquerade()
            }
            Self::Fib => {
                routes(prefixes)?;
                fib(ports, object)
            }
            Self::Services(tool, services) => {
                routes(prefixes)?;
                tool.install(services)
            }
        }
    }

    fn netroute(self, ports: &Ports, prefixes: &[Ipv4Net]) -> Result<()> {
        sh("sysctl -qw net.ipv4.ip_forward=0")?;
        let near = NicDevice { ifindex: ports.near, name: "eth0".into(), mac: ports.near_mac };
        let pod = PodDevice { ifindex: ports.near, name: "eth0".into() };
        let capacity = u32::try_from(prefixes.len())?.max(1024);
        let limits = Limits {
            routes4: capacity,
            blocks4: BLOCKS,
            routes6: 64,
            groups: 64,
            next_hops: 64,
            route_stats: 1024,
            ..Limits::DEFAULT
        };
        let folder = Path::new(BPFFS).join(format!("thread{}", nix::unistd::gettid()));
        let loaded = Loader::new(bpf_object(), &folder, limits).open()?;
        let mut store = loaded.store()?;
        apply(&diff(&store.read()?, &self.image(ports, prefixes)?), &mut store)?;
        // What leaves is judged once more at the other NIC, as on a node.
        let far = NicDevice { ifindex: ports.far, name: "eth1".into(), mac: ports.far_mac };
        let (nics, pods) = match self {
            Self::Egress => (vec![far], vec![pod]),
            Self::Pod => (vec![], vec![pod]),
            _ => (vec![near], vec![]),
        };
        let Switched { attachments: _, refused, sockets_refused: _ } =
            loaded.switch_programs(&nics, &pods)?;
        ensure!(refused.is_empty(), "{refused:?}");
        Ok(())
    }

    fn image(self, ports: &Ports, prefixes: &[Ipv4Net]) -> Result<Image> {
        let [a, b, c, d] = NEXT_HOP;
        let next_hop = NextHop {
            ifindex: ports.far,
            mtu: MTU,
            port: 0,
            kind: KIND_NEIGHBOUR,
            alive: 1,
            xdp: u8::from(matches!(self, Self::Xdp | Self::Netroute(_))),
            family: 4,
            source_mac: ports.far_mac,
            destination_mac: ports.next_mac,
            gateway: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        let mut group = Group { len: 1, members: [Member::default(); MAX_MEMBERS] };
        group.members[0] =
            Member { next_hop: FIRST_FREE_ID, tier: 0, weight: 1, inverse: Member::inverse_of(1) };
        let route = Route { group: FIRST_FREE_ID, stats: FIRST_OWN_STATS };
        let mut image = Image {
            routes4: prefixes.iter().map(|prefix| (*prefix, route)).collect(),
            routes6: BTreeMap::new(),
            groups: BTreeMap::from([(FIRST_FREE_ID, group)]),
            next_hops: BTreeMap::from([(FIRST_FREE_ID, next_hop)]),
            ports: BTreeMap::from([(0, ports.far)]),
            ..Image::default()
        };
        match self {
            Self::Netroute(services) => services::add(&mut image, services, ports.far, ADDRESS)?,
            Self::Egress => {
                services::add(&mut image, 0, ports.far, ADDRESS)?;
                image.egress = egress::masquerade(sources());
            }
            _ => {}
        }
        let numbers = image.routes4.iter();
        let numbers =
            numbers.map(|(prefix, route)| (prefix.network().to_bits(), prefix.prefix_len(), *route));
        image.strides = Strides::build(numbers, BLOCKS, &Strides::default());
        Ok(image)
    }
}

impl Ports {
    /// Addresses, the neighbour behind `eth1`, and forwarding, in the calling thread's namespace.
    pub fn build(next_mac: [u8; 6]) -> Result<Self> {
        let next = next_mac.map(|byte| format!("{byte:02x}")).join(":");
        // GRO is what makes a veth without a program take redirected frames.
        sh(&format!(
            "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
             ip link set eth0 up; ip link set eth1 up
             sysctl -qw net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0 net.ipv4.ip_forward=1
             ethtool -K eth0 gro on >/dev/null
             ip addr add 10.1.0.1/16 dev eth0; ip addr add 10.2.0.1/16 dev eth1
             ip neigh add 10.2.0.2 lladdr {next} dev eth1 nud permanent"
        ))?;
        Ok(Self {
            near: ifindex("eth0")?,
            near_mac: mac("eth0")?,
            far: ifindex("eth1")?,
            far_mac: mac("eth1")?,
            next_mac,
        })
    }
}

/// Of all of the generator's packets.
fn sources() -> impl Iterator<Item = IpAddr> {
    let [a, b, _, d] = SOURCE.octets();
    (0..=u8::MAX).map(move |c| Ipv4Addr::new(a, b, c, d).into())
}

fn masquerade() -> Result<()> {
    let rules = "table ip nat {
         chain postrouting { type nat hook postrouting priority srcnat; oifname \"eth1\" masquerade; }
       }\n";
    feed(Command::new("nft").args(["-f", "-"]), rules).context("cannot load the rule that masquerades")
}

fn routes(prefixes: &[Ipv4Net]) -> Result<()> {
    let mut script = String::new();
    for prefix in prefixes {
        writeln!(script, "route add {prefix} via 10.2.0.2")?;
    }
    ip_batch(&script)
}

fn fib(ports: &Ports, path: &Path) -> Result<()> {
    let mut object = loader().load_file(path)?;
    let mut exits: DevMap<_> = object.take_map("EXITS").context("no map EXITS")?.try_into()?;
    exits.set(ports.far, ports.far, None, 0)?;
    let program: &mut Xdp = object.program_mut("fib_forward").context("no FIB forwarder")?.try_into()?;
    program.load()?;
    program.attach_to_if_index(ports.near, XdpMode::Driver)?;
    // Runs as long as the namespace is there.
    std::mem::forget((object, exits));
    Ok(())
}
