//! The kernel's network state as plain data: read by `input::netlink`, consumed by `compile`.
//! Knows no netlink message and does no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

mod change;
pub use change::{Change, difference};

/// One network namespace's links, addresses, neighbours and routes at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelState {
    /// By interface index.
    pub links: BTreeMap<u32, Link>,
    pub addresses: BTreeSet<Address>,
    pub neighbours: BTreeMap<NeighbourKey, Neighbour>,
    /// Tables main (254) and local (255), without the agent's own (`RTPROT_NETROUTE`).
    pub routes: BTreeSet<KernelRoute>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub altnames: Vec<String>,
    /// Ethernet address; `None` on links without one (tun, ppp).
    pub mac: Option<[u8; 6]>,
    pub mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// `IFF_LOWER_UP` and operational state not down.
    pub carrier: bool,
    /// `IFLA_MASTER`: the bond, team or bridge it is a port of.
    pub master: Option<u32>,
    /// `IFLA_INFO_KIND` ("veth", "bridge", ...); `None` for hardware and virtio.
    pub kind: Option<String>,
    pub loopback: bool,
    /// Takes frames redirected by XDP (`NETDEV_XDP_ACT_NDO_XMIT`, Linux 6.3); `None` = not known.
    pub xdp_transmit: Option<bool>,
}

#[cfg(test)]
impl Link {
    /// Hardware that is up and has nothing special about it.
    pub(crate) fn named(index: u32, name: &str) -> Self {
        Self {
            index,
            name: name.to_owned(),
            altnames: Vec::new(),
            mac: None,
            mtu: 1500,
            up: true,
            carrier: true,
            master: None,
            kind: None,
            loopback: false,
            xdp_transmit: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub ifindex: u32,
    /// Address and prefix length, host bits kept.
    pub address: IpNet,
    /// `IFA_F_PERMANENT`: not from DHCP or router advertisements.
    pub permanent: bool,
    /// Usable: neither tentative nor failed duplicate detection.
    pub usable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeighbourKey {
    pub ifindex: u32,
    pub address: IpAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// `None` while incomplete or failed.
    pub mac: Option<[u8; 6]>,
    pub state: NeighbourState,
}

/// `NUD_*` of `linux/neighbour.h`, as far as the fast path cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    Incomplete,
    Reachable,
    /// Address known, not confirmed lately.
    Stale,
    Delay,
    Probe,
    Failed,
    /// Permanent or NOARP.
    Permanent,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelRoute {
    pub table: u32,
    pub destination: IpNet,
    pub kind: KernelRouteKind,
    /// `RTA_PRIORITY`; IPv4 routes without one have 0.
    pub metric: u32,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// Empty for types without (blackhole, ...).
    pub next_hops: Vec<KernelNextHop>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelRouteKind {
    Unicast,
    Local,
    Broadcast,
    Anycast,
    Multicast,
    Blackhole,
    Unreachable,
    Prohibit,
    /// A type, encapsulation or nexthop object the fast path does not follow.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelNextHop {
    pub ifindex: u32,
    /// `None`: on-link.
    pub gateway: Option<IpAddr>,
    /// 1..=256 (`rtnh_hops` + 1).
    pub weight: u16,
    /// `RTNH_F_DEAD` or `RTNH_F_LINKDOWN`.
    pub dead: bool,
}
