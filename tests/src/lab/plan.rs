//! The address plan of the lab: who has which address where. Data only.
//!
//! ```text
//!  inet 203.0.113.10 ── gw ── 198.51.100.0/24 ── intsw (NAT) int0 10.128.44.1/24
//!                                                 │ eth0 = Port2
//!                                        master .11      worker .12   (two pods each)
//!                                                 │ eth1 = Port3
//!  cam 192.168.20.50 ── 192.168.20.1 camgw 172.16.3.1 ── extsw ext0
//! ```
//! The camera gateway's 192.168.20.1 answers on the Port3 segment too, so that a route
//! `192.168.20.0/24 via 192.168.20.1` resolves on-link, inside its own destination.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One host address of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dual {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Dual {
    pub const fn new(v4: [u8; 4], v6: [u16; 8]) -> Self {
        let [a, b, c, d] = v4;
        let [e, f, g, h, i, j, k, l] = v6;
        Self { v4: Ipv4Addr::new(a, b, c, d), v6: Ipv6Addr::new(e, f, g, h, i, j, k, l) }
    }

    /// Both, for tests that say the same of IPv4 and IPv6.
    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// The internet server.
pub const INTERNET: Dual = Dual::new([203, 0, 113, 10], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10]);
/// What the internet server sees of everything behind the internal switch.
pub const UPLINK: Dual = Dual::new([198, 51, 100, 2], [0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 2]);
/// The internal switch: the VMs' default gateway.
pub const INTERNAL_GATEWAY: Dual = Dual::new([10, 128, 44, 1], [0xfd44, 0, 0, 0, 0, 0, 0, 1]);
/// The camera gateway's own address on the Port3 segment.
pub const PORT3_GATEWAY: Dual = Dual::new([172, 16, 3, 1], [0xfd16, 3, 0, 0, 0, 0, 0, 1]);
/// The camera gateway as next hop; inside the camera network, on-link on Port3.
pub const CAMERA_GATEWAY: Dual = Dual::new([192, 168, 20, 1], [0xfd20, 0, 0, 0, 0, 0, 0, 1]);
/// The camera.
pub const CAMERA: Dual = Dual::new([192, 168, 20, 50], [0xfd20, 0, 0, 0, 0, 0, 0, 0x50]);

pub const CAMERA_NETWORK: [&str; 2] = ["192.168.20.0/24", "fd20::/64"];
pub const POD_NETWORK: [&str; 2] = ["10.244.0.0/16", "fd00:244::/32"];

/// RTSP-like server of the camera.
pub const RTSP_PORT: u16 = 554;
/// UDP sender and echo of the camera.
pub const CAMERA_UDP_PORT: u16 = 5000;
/// HTTP server of the internet server.
pub const HTTP_PORT: u16 = 80;
/// Echo, TCP and UDP, of camera and internet server.
pub const ECHO_PORT: u16 = 7;

pub const VMS: [&str; 2] = ["master", "worker"];
pub const PORTS: [&str; 2] = ["Port2", "Port3"];
pub const PODS_PER_VM: u8 = 2;

/// The numbers of a VM: host part of its NICs' addresses and of its pod CIDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmPlan {
    pub name: &'static str,
    host: u8,
    pods: u8,
}

impl VmPlan {
    pub fn all() -> [Self; 2] {
        [Self { name: VMS[0], host: 11, pods: 1 }, Self { name: VMS[1], host: 12, pods: 2 }]
    }

    /// The address written with the same digits in both families: .11 and ::11.
    fn host6(self) -> u16 {
        u16::from(self.host / 10 * 16 + self.host % 10)
    }

    pub fn port2(self) -> Dual {
        Dual::new([10, 128, 44, self.host], [0xfd44, 0, 0, 0, 0, 0, 0, self.host6()])
    }

    pub fn port3(self) -> Dual {
        Dual::new([172, 16, 3, self.host], [0xfd16, 3, 0, 0, 0, 0, 0, self.host6()])
    }

    /// A second address on Port2, which nobody has until it is given: .21 and ::21 for the master.
    pub fn second(self) -> Dual {
        Dual::new([10, 128, 44, self.host + 10], [0xfd44, 0, 0, 0, 0, 0, 0, self.host6() + 0x10])
    }

    pub fn pod_cidrs(self) -> [String; 2] {
        [format!("10.244.{}.0/24", self.pods), format!("fd00:244:{}::/64", self.pods)]
    }

    /// Address of pod 1, 2, …: 10.244.1.10 and fd00:244:1::10 for the master's first.
    pub fn pod(self, number: u8) -> Dual {
        let v6 = [0xfd00, 0x244, u16::from(self.pods), 0, 0, 0, 0, 0xf + u16::from(number)];
        Dual::new([10, 244, self.pods, 9 + number], v6)
    }
}
