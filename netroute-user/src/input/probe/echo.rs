//! ICMP echo as probe, sent and received on the next hop's interface only.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use nix::net::if_::if_indextoname;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use tokio::net::UdpSocket;
use tokio::time::{Interval, timeout};
use tracing::debug;

use super::Verdict;
use crate::kernel::NeighbourKey;

const ECHO_REPLY4: u8 = 0;
const ECHO_REQUEST4: u8 = 8;
const ECHO_REQUEST6: u8 = 128;
const ECHO_REPLY6: u8 = 129;
const PAYLOAD: &[u8; 8] = b"netroute";
/// Largest answer looked at: an IPv4 header with options, and our echo.
const ANSWER_BYTES: usize = 128;

pub async fn run(target: NeighbourKey, mut ticks: Interval, mut verdict: Verdict) {
    let mut pinger: Option<Pinger> = None;
    let mut sequence = 0_u16;
    loop {
        ticks.tick().await;
        sequence = sequence.wrapping_add(1);
        if pinger.is_none() {
            pinger = Pinger::open(target)
                .await
                .inspect_err(|error| debug!(%error, ?target, "cannot open an echo socket"))
                .ok();
        }
        let answered = match &pinger {
            Some(open) => open.ask(sequence, ticks.period()).await,
            None => Ok(false),
        };
        if let Err(error) = &answered {
            // The interface may have been made anew under its name.
            debug!(%error, ?target, "cannot send an echo request");
            pinger = None;
        }
        verdict.record(answered.unwrap_or(false)).await;
    }
}

struct Pinger {
    /// A raw ICMP socket: the standard library's type for datagrams fits it.
    socket: UdpSocket,
    ipv6: bool,
    identifier: u16,
}

impl Pinger {
    async fn open(target: NeighbourKey) -> io::Result<Self> {
        let NeighbourKey { ifindex, address } = target;
        let (family, protocol, remote) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, SocketAddr::new(address, 0)),
            IpAddr::V6(v6) => {
                let scope = if v6.is_unicast_link_local() { ifindex } else { 0 };
                (AddressFamily::Inet6, SockProtocol::IcmpV6, SocketAddrV6::new(v6, 0, 0, scope).into())
            }
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(family, SockType::Raw, flags, protocol)?;
        let name = if_indextoname(ifindex)?.into_string().map_err(|_| io::ErrorKind::InvalidData)?;
        setsockopt(&socket, sockopt::BindToDevice, &OsString::from(name))?;
        let socket = UdpSocket::from_std(socket.into())?;
        socket.connect(remote).await?;
        // Distinguishes our requests from those of a `ping` beside us.
        let identifier = (std::process::id() ^ ifindex.rotate_left(8)) as u16;
        Ok(Self { socket, ipv6: address.is_ipv6(), identifier })
    }

    /// Whether the answer came within `wait`.
    async fn ask(&self, sequence: u16, wait: std::time::Duration) -> io::Result<bool> {
        self.socket.send(&request(self.ipv6, self.identifier, sequence)).await?;
        let answer = async {
            let mut buffer = [0; ANSWER_BYTES];
            loop {
                // Errors told by others (unreachable) are no answer; the next tick asks again.
                let Ok(length) = self.socket.recv(&mut buffer).await else { continue };
                let bytes = buffer.get(..length).unwrap_or_default();
                if is_answer(bytes, self.ipv6, self.identifier, sequence) {
                    return;
                }
            }
        };
        Ok(timeout(wait, answer).await.is_ok())
    }
}

/// The kernel fills in the checksum of ICMPv6 only.
fn request(ipv6: bool, identifier: u16, sequence: u16) -> [u8; 16] {
    let mut packet = [0; 16];
    let kind = if ipv6 { ECHO_REQUEST6 } else { ECHO_REQUEST4 };
    let words = [u16::from_be_bytes([kind, 0]), 0, identifier, sequence];
    let header = words.into_iter().flat_map(u16::to_be_bytes);
    packet.iter_mut().zip(header.chain(*PAYLOAD)).for_each(|(byte, value)| *byte = value);
    if !ipv6 {
        let [high, low] = checksum(&packet).to_be_bytes();
        (packet[2], packet[3]) = (high, low);
    }
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// Raw IPv4 sockets hand out the IP header too.
fn is_answer(bytes: &[u8], ipv6: bool, identifier: u16, sequence: u16) -> bool {
    let (kind, start) = match (ipv6, bytes.first()) {
        (true, _) => (ECHO_REPLY6, 0),
        (false, Some(first)) => (ECHO_REPLY4, usize::from(first & 0x0f) * 4),
        (false, None) => return false,
    };
    let Some(&[found, 0, _, _, id0, id1, seq0, seq1]) = bytes.get(start..).and_then(<[u8]>::first_chunk)
    else {
        return false;
    };
    found == kind
        && u16::from_be_bytes([id0, id1]) == identifier
        && u16::from_be_bytes([seq0, seq1]) == sequence
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer4(options: usize, identifier: u16, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0; 20 + options];
        packet[0] = 0x45 + (options / 4) as u8;
        let mut echo = request(false, identifier, sequence);
        echo[0] = ECHO_REPLY4;
        packet.extend(echo);
        packet
    }

    #[test]
    fn the_checksum_of_a_request_adds_up() {
        assert_eq!(checksum(&request(false, 0xbeef, 7)), 0);
        assert_eq!(request(true, 0xbeef, 7)[2..4], [0, 0]);
    }

    #[test]
    fn only_our_answer_counts() {
        assert!(is_answer(&answer4(0, 5, 7), false, 5, 7));
        assert!(is_answer(&answer4(8, 5, 7), false, 5, 7));
        assert!(!is_answer(&answer4(0, 6, 7), false, 5, 7));
        assert!(!is_answer(&answer4(0, 5, 8), false, 5, 7));
        assert!(!is_answer(&answer4(0, 5, 7)[..26], false, 5, 7));
        assert!(!is_answer(&[], false, 5, 7));
        // Our own request, as loopback and bridges may show it to us.
        assert!(!is_answer(&request(true, 5, 7), true, 5, 7));
    }
}
