//! One sender, one server: a request by TCP, a row of UDP datagrams, and what the counters of all
//! interfaces on the way say of them.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use netroute_tests::capture::Counters;
use netroute_tests::lab::{Dual, Lab, Vm, plan};
use netroute_tests::netns::Netns;
use netroute_tests::traffic::{Target, reason};

/// UDP datagrams of a flow.
pub const DATAGRAMS: u64 = 50;
/// Echoes and refusals come back within milliseconds or never.
const SILENCE: Duration = Duration::from_millis(400);
const TIMEOUT: Duration = Duration::from_secs(2);

/// Those that flows go to.
const SERVERS: [Target; 2] = [Target::Camera, Target::Internet];

#[derive(Clone, Debug)]
pub struct Flow {
    pub vm: Vm,
    /// The VM itself, or a pod.
    pub from: String,
    pub is_pod: bool,
    ns: Netns,
    /// The sender's addresses: a pod's own, the VM's on Port3.
    own: Dual,
    pub server: Target,
    pub to: IpAddr,
}

/// What was seen while a flow ran.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The client address that the server saw, or why there was no answer.
    pub request: Result<SocketAddr, String>,
    pub sent: u64,
    pub echoed: u64,
    /// Port2 and Port3: packets that the VM's NIC sent, and that the switch received from it.
    pub nic: [u64; 2],
    pub switch: [u64; 2],
    /// Packets that reached the server.
    pub server: u64,
}

/// From both VMs and their pods to camera and internet server, by IPv4 and IPv6.
pub fn all(lab: &Lab) -> Vec<Flow> {
    let mut flows = Vec::new();
    for vm in lab.vms() {
        let mut senders = vec![(vm.name().to_owned(), false, vm.ns().clone(), vm.port("Port3").address)];
        for (number, pod) in vm.pods().into_iter().enumerate() {
            senders.push((format!("{}-pod{}", vm.name(), number + 1), true, pod.ns, pod.address));
        }
        for (from, is_pod, ns, own) in senders {
            for server in SERVERS {
                for to in server.addresses().both() {
                    let (vm, from, ns) = (vm.clone(), from.clone(), ns.clone());
                    flows.push(Flow { vm, from, is_pod, ns, own, server, to });
                }
            }
        }
    }
    flows
}

impl Flow {
    /// The address that the server must see: the camera the sender's own, the internet server the
    /// one that the internal switch translates to.
    pub fn expected_client(&self) -> IpAddr {
        let dual = match self.server {
            Target::Camera => self.own,
            Target::Internet | Target::Uplink => plan::UPLINK,
        };
        if self.to.is_ipv4() { dual.v4.into() } else { dual.v6.into() }
    }

    pub fn run(&self, lab: &Lab) -> Result<Seen> {
        let before = self.counters(lab)?;
        let request = self.server.ask(&self.ns, self.to, TIMEOUT).map_err(|error| reason(&error));
        let (sent, echoed) = self.ns.run(|| echo((self.to, plan::ECHO_PORT).into()))?;
        let after = self.counters(lab)?;
        let difference = |place: usize| after[place].saturating_sub(before[place]);
        Ok(Seen {
            request,
            sent,
            echoed,
            nic: [difference(0), difference(1)],
            switch: [difference(2), difference(3)],
            server: difference(4),
        })
    }

    /// The role that serves.
    fn host(&self) -> &'static str {
        match self.server {
            Target::Camera => "cam",
            Target::Internet => "inet",
            Target::Uplink => "intsw",
        }
    }

    /// NICs of the VM, their switch ports, the server.
    fn counters(&self, lab: &Lab) -> Result<[u64; 5]> {
        let [two, three] = plan::PORTS.map(|alias| self.vm.port(alias));
        let nic = |device| Counters::read(self.vm.ns(), device).map(|counters| counters.tx_packets);
        let switch = |ns, device| Counters::read(ns, device).map(|counters| counters.rx_packets);
        Ok([
            nic(two.device)?,
            nic(three.device)?,
            switch(&two.switch, two.switch_device)?,
            switch(&three.switch, three.switch_device)?,
            Counters::read(&lab.ns(self.host()), "eth0")?.rx_packets,
        ])
    }
}

impl Seen {
    pub fn answered(&self) -> bool {
        self.request.is_ok() && self.echoed == self.sent
    }

    /// Which port carried the datagrams: 0 is Port2, 1 is Port3; none if neither or both did.
    pub fn port(&self) -> Option<usize> {
        let [two, three] = self.nic.map(|packets| packets >= self.sent);
        match (two, three) {
            (true, false) => Some(0),
            (false, true) => Some(1),
            _ => None,
        }
    }
}

/// Sends all datagrams and counts the echoes. An error that an earlier datagram has caused is
/// reported in place of the next send or receive.
fn echo(server: SocketAddr) -> Result<(u64, u64)> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let (mut sent, mut refused, mut echoed) = (0, 0, 0);
    while sent < DATAGRAMS && refused <= 2 * DATAGRAMS {
        match socket.send(&[0; 64]) {
            Ok(_) => sent += 1,
            Err(_) => refused += 1,
        }
    }
    let mut buffer = [0; 128];
    while echoed + refused < sent {
        match socket.recv(&mut buffer) {
            Ok(_) => echoed += 1,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(_) => refused += 1,
        }
    }
    Ok((sent, echoed))
}
