//! A flood of connections that are begun and never go on, each from another client.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, OwnedFd},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, socket,
    },
};

use crate::netns::Netns;

/// Where the clients are, of whom nobody knows: `11.0.0.0/8` and `2001:db8:11::/96`.
const CLIENTS4: [u8; 1] = [11];
const CLIENTS6: [u16; 3] = [0x2001, 0xdb8, 0x11];

/// A veth's ring holds 256 packets; what it has no room for is lost without anybody's knowledge.
const BURST: u32 = 32;
const BREATH: Duration = Duration::from_micros(20);

/// Makes a router take no notice of the flood: it neither tracks the connections nor sends answers on.
///
/// # Errors
/// When it cannot be told so.
pub fn prepare(router: &Netns) -> Result<()> {
    router.ip_script("route add blackhole 11.0.0.0/8\nroute add blackhole 2001:db8:11::/96\n")?;
    router.nft(
        "table inet flood {
            chain output { type filter hook output priority raw
                ip saddr 11.0.0.0/8 notrack
                ip6 saddr 2001:db8:11::/96 notrack
            }
            chain prerouting { type filter hook prerouting priority raw
                ip daddr 11.0.0.0/8 notrack
                ip6 daddr 2001:db8:11::/96 notrack
            }
         }\n",
    )
}

/// Sends so many SYNs from the namespace, none twice.
///
/// # Errors
/// When the kernel refuses one.
pub fn syns(ns: &Netns, to: SocketAddr, count: u32) -> Result<()> {
    ns.run(|| {
        let socket = raw(to)?;
        let mut packet = Vec::with_capacity(80);
        for number in 0..count {
            packet.clear();
            write(&mut packet, number, to)?;
            send(&socket, &packet, to.ip()).with_context(|| format!("SYN {number}"))?;
            if number % BURST == 0 {
                thread::sleep(BREATH);
            }
        }
        Ok(())
    })
}

fn raw(to: SocketAddr) -> Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    // Of this protocol the IP header is the sender's own.
    Ok(socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?)
}

fn write(packet: &mut Vec<u8>, number: u32, to: SocketAddr) -> Result<()> {
    let [high, a, b, c] = number.to_be_bytes();
    let port = 1024 + u16::from(high) + u16::from(c) * 7;
    let builder = match to.ip() {
        IpAddr::V4(to) => PacketBuilder::ipv4([CLIENTS4[0], a, b, c], to.octets(), 64),
        IpAddr::V6(to) => {
            let [first, second, third] = CLIENTS6;
            let low = number.to_be_bytes();
            let [x, y] = [[low[0], low[1]], [low[2], low[3]]].map(u16::from_be_bytes);
            let client = Ipv6Addr::new(first, second, third, 0, 0, 0, x, y);
            PacketBuilder::ipv6(client.octets(), to.octets(), 64)
        }
    };
    let builder = builder.tcp(port, to.port(), number.wrapping_mul(0x9e37_79b9), 64_240).syn();
    Ok(builder.write(packet, &[])?)
}

fn send(socket: &OwnedFd, packet: &[u8], to: IpAddr) -> Result<()> {
    loop {
        let sent = match to {
            IpAddr::V4(to) => {
                let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty())
            }
            IpAddr::V6(to) => {
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
                sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty())
            }
        };
        match sent {
            // A queue on the way is full: the flood waits for itself.
            Err(Errno::ENOBUFS) => thread::yield_now(),
            sent => {
                ensure!(sent? == packet.len(), "cut short");
                return Ok(());
            }
        }
    }
}
