//! Addresses and ports of a frame: read, and replaced with every checksum over them. From the standards
//! alone, nothing from the packet logic.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use anyhow::{Context, Result, ensure};

const IP_AT: usize = 14;
const UDP: u8 = 17;
const TCP: u8 = 6;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;

/// Who a packet is from, or to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    pub address: IpAddr,
    /// 0 where the protocol has none.
    pub port: u16,
}

/// Where things lie in a frame without IPv4 options and without extension headers other than that of a
/// fragment directly behind the IPv6 header.
struct Places {
    addresses: [Range<usize>; 2],
    /// Of the transport header; its end is the packet's.
    transport: Range<usize>,
    protocol: u8,
    /// Whether it is a fragment but not the first, which begins in the middle of the payload.
    later: bool,
}

impl Places {
    fn of(frame: &[u8]) -> Result<Self> {
        let ip = frame.get(IP_AT..).context("no IP header")?;
        let length =
            |at: usize| ip.get(at..at + 2).map(|word| usize::from(u16::from_be_bytes([word[0], word[1]])));
        let version = ip.first().context("no IP header")? >> 4;
        let (addresses, header, end, protocol_at) = if version == 6 {
            ([22..38, 38..54], 40, length(4).map(|length| length + 40), 6)
        } else {
            ([26..30, 30..34], 20, length(2), 9)
        };
        ensure!(ip.len() >= header, "cut IP header");
        let mut start = IP_AT + header;
        let mut protocol = ip[protocol_at];
        // RFC 791: in units of eight bytes, below three flags.
        let mut later = version != 6 && u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff != 0;
        if version == 6
            && protocol == FRAGMENT
            && let Some(extension) = ip.get(40..48)
        {
            // RFC 8200 section 4.5: in units of eight bytes, above three bits.
            later = u16::from_be_bytes([extension[2], extension[3]]) >> 3 != 0;
            (protocol, start) = (extension[0], start + 8);
        }
        // Where the length lies, all that is there: what changes counts alone.
        let end = end.map_or(0, |length| IP_AT + length);
        let end = if (start..=frame.len()).contains(&end) { end } else { frame.len() };
        Ok(Self { addresses, transport: start..end, protocol, later })
    }

    /// Where the port of the source or of the destination lies. An echo has one identifier: a request's is the
    /// source's port, a reply's the destination's (RFC 5508 section 3.1).
    fn port_at(&self, frame: &[u8], place: usize) -> Option<usize> {
        let Range { start, .. } = self.transport;
        if self.later || self.transport.len() < 4 {
            return None;
        }
        let echo = match (self.protocol, frame[start]) {
            (TCP | UDP | SCTP, _) => return Some(start + 2 * place),
            (ICMP, 8) | (ICMPV6, 128) if self.transport.len() >= 8 => 0,
            (ICMP, 0) | (ICMPV6, 129) if self.transport.len() >= 8 => 1,
            _ => return None,
        };
        (echo == place).then_some(start + 4)
    }

    /// Of the checksum that covers what changes.
    fn checksum(&self, frame: &[u8]) -> Option<Range<usize>> {
        let at = match self.protocol {
            _ if self.later => return None,
            TCP => 16,
            UDP => 6,
            ICMPV6 => 2,
            ICMP if [0, 1].iter().any(|&place| self.port_at(frame, place).is_some()) => 2,
            _ => return None,
        };
        Some(self.transport.start + at..self.transport.start + at + 2)
    }

    /// Over the pseudo-header's addresses and the transport header with all behind it. What else is in the
    /// pseudo-header stays as it is.
    fn covered(&self, frame: &[u8]) -> u32 {
        let [source, destination] = &self.addresses;
        let transport = sum(&frame[self.transport.clone()]);
        // RFC 792: over the message alone.
        if self.protocol == ICMP {
            return transport;
        }
        (sum(&frame[source.clone()]) + sum(&frame[destination.clone()]) + transport) % 0xffff
    }
}

/// Source and destination of a frame.
pub fn sides(frame: &[u8]) -> Result<(Side, Side)> {
    let places = Places::of(frame)?;
    let side = |place: usize| -> Result<Side> {
        let octets = &frame[places.addresses[place].clone()];
        let address = match <[u8; 4]>::try_from(octets) {
            Ok(octets) => IpAddr::from(octets),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(octets)?),
        };
        let port = places.port_at(frame, place).map(|at| u16::from_be_bytes([frame[at], frame[at + 1]]));
        Ok(Side { address, port: port.unwrap_or(0) })
    };
    Ok((side(0)?, side(1)?))
}

/// Replaces the source and the destination, each as `address` or `address:port`.
pub fn rewrite(frame: &mut [u8], source: Option<&str>, destination: Option<&str>) -> Result<()> {
    let places = Places::of(frame)?;
    let before = places.covered(frame);
    for (place, text) in [source, destination].into_iter().enumerate() {
        let Some(text) = text else { continue };
        let (address, port) = read(text)?;
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let range = places.addresses[place].clone();
        ensure!(range.len() == octets.len(), "`{text}` is of the other family");
        replace_addresses(frame, range, &octets);
        if let Some(port) = port {
            let at = places.port_at(frame, place);
            let at = at.with_context(|| format!("no port to rewrite to `{text}`"))?;
            frame[at..at + 2].copy_from_slice(&port.to_be_bytes());
        }
    }
    let Some(field) = places.checksum(frame).filter(|field| field.end <= frame.len()) else { return Ok(()) };
    let (udp, absent) = (places.protocol == UDP, frame[field.clone()] == [0, 0]);
    // RFC 768: no checksum was made, and none is made on the way.
    if udp && absent {
        return Ok(());
    }
    frame[field.clone()].fill(0);
    let checksum = made_up(before, places.covered(frame));
    let checksum = if udp && checksum == 0 { 0xffff } else { checksum };
    frame[field].copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}

/// An `address` or `address:port`.
pub fn read(text: &str) -> Result<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse() {
        return Ok((address, None));
    }
    let both: SocketAddr = text.parse().with_context(|| format!("`{text}` is no `address:port`"))?;
    Ok((both.ip(), Some(both.port())))
}

/// With the IPv4 header's own checksum.
fn replace_addresses(frame: &mut [u8], range: Range<usize>, octets: &[u8]) {
    let header = IP_AT..IP_AT + 20;
    let before = sum(&frame[header.clone()]);
    let v4 = range.len() == 4;
    frame[range].copy_from_slice(octets);
    if v4 {
        frame[IP_AT + 10..IP_AT + 12].fill(0);
        let checksum = made_up(before, sum(&frame[header]));
        frame[IP_AT + 10..IP_AT + 12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// The checksum with which the sum over all stays `before`: what was valid is valid, and what was not is
/// not, for the receiver to see it.
pub fn made_up(before: u32, without: u32) -> u16 {
    ((before + 0xffff - without) % 0xffff) as u16
}

/// One's complement sum of 16-bit words (RFC 1071), with 0 for 0xffff, which means the same.
pub fn sum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    bytes.chunks(2).fold(0, |sum, pair| (sum + word(pair)) % 0xffff)
}
