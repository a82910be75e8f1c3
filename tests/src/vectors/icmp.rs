//! ICMP messages: described, with the packet that an error quotes, and what becomes of them on the way. From
//! the standards alone, nothing from the packet logic.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::PacketText;
use super::packet::arrow;
use super::rewrite::{made_up, read, sum};

/// An ICMP message as a vector writes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct MessageText {
    #[serde(rename = "type")]
    pub kind: u8,
    pub code: u8,
    /// The second word: an MTU, or identifier and sequence number.
    pub rest: u32,
    /// The packet that it quotes, instead of payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote: Option<Box<PacketText>>,
    /// So many bytes behind the quoted IP header are quoted; 8 if it is not said (RFC 792).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
}

const IP_AT: usize = 14;
/// Of the ICMP header (RFC 792, RFC 4443 section 2.1): two words.
const HEADER: usize = 8;
const CHECKSUM: Range<usize> = 2..4;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 64;

impl MessageText {
    pub(super) fn over4(&self, payload: Vec<u8>) -> Result<Vec<u8>> {
        let mut message = self.bytes(payload)?;
        let checksum = made_up(0, sum(&message));
        message[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        Ok(message)
    }

    /// With the pseudo-header of RFC 8200 section 8.1.
    pub(super) fn over6(&self, source: [u8; 16], destination: [u8; 16], payload: Vec<u8>) -> Result<Vec<u8>> {
        let mut message = self.bytes(payload)?;
        let length = u32::try_from(message.len())?.to_be_bytes();
        let pseudo = [&source[..], &destination, &length, &[0, 0, 0, ICMPV6]].concat();
        let checksum = made_up(0, (sum(&pseudo) + sum(&message)) % 0xffff);
        message[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        Ok(message)
    }

    /// The checksum is left out.
    fn bytes(&self, payload: Vec<u8>) -> Result<Vec<u8>> {
        let Self { kind, code, rest, quote, keep } = self;
        let mut message = vec![*kind, *code, 0, 0];
        message.extend(rest.to_be_bytes());
        let Some(quote) = quote else {
            message.extend(payload);
            return Ok(message);
        };
        let (_, quoted) = quote.content()?;
        let length = transport_at(&quoted)? + keep.unwrap_or(8);
        message.extend(quoted.get(..length).context("the quoted packet has less than `keep`")?);
        Ok(message)
    }
}

/// Where the transport header lies in an IP packet: behind the options, or behind a fragment header.
fn transport_at(ip: &[u8]) -> Result<usize> {
    match *ip {
        [first, ..] if first >> 4 == 4 => Ok(usize::from(first & 15) * 4),
        [_, _, _, _, _, _, 44, ..] => Ok(48),
        [_, ..] => Ok(40),
        [] => bail!("nothing is quoted"),
    }
}

/// Where the ICMP message lies in a frame, and where its IP header has the addresses.
fn message_at(frame: &[u8]) -> Result<(usize, Range<usize>)> {
    let ip = frame.get(IP_AT..).context("no IP header")?;
    let at = IP_AT + transport_at(ip)?;
    ensure!(frame.len() >= at + HEADER, "no ICMP message");
    Ok((at, if ip[0] >> 4 == 6 { IP_AT + 8..IP_AT + 40 } else { IP_AT + 12..IP_AT + 20 }))
}

/// Replaces addresses and ports of the quoted packet, as `source -> destination`: with the quoted IPv4 header's
/// checksum and the error's own. The quoted transport's stays: it is evidence (RFC 5508 section 4.2).
pub fn rewrite_quote(frame: &mut [u8], quoted: &str) -> Result<()> {
    let (at, _) = message_at(frame)?;
    let message = &mut frame[at..];
    let before = sum(message);
    let quote = &mut message[HEADER..];
    let ports = transport_at(quote)?;
    let addresses = if quote[0] >> 4 == 6 { 8 } else { 12 };
    let header = ..ports.min(quote.len());
    let valid = sum(&quote[header]);
    let (source, destination) = arrow(quoted)?;
    for (place, text) in [source, destination].into_iter().enumerate() {
        let (address, port) = read(text)?;
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let start = addresses + place * octets.len();
        quote[start..start + octets.len()].copy_from_slice(&octets);
        let Some(start) = port_at(quote, ports, place) else {
            ensure!(port.is_none(), "no port to rewrite to `{text}`");
            continue;
        };
        let port = port.context("what is quoted has ports")?;
        quote[start..start + 2].copy_from_slice(&port.to_be_bytes());
    }
    if addresses == 12 {
        quote[10..12].fill(0);
        let checksum = made_up(valid, sum(&quote[header]));
        quote[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    message[CHECKSUM].fill(0);
    let checksum = made_up(before, sum(message));
    message[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}

/// Where a quoted packet has a port, its transport at `ports`. An echo request has its identifier as the source's
/// (RFC 5508 section 4.2).
fn port_at(quote: &[u8], ports: usize, place: usize) -> Option<usize> {
    let protocol = *quote.get(if quote.first()? >> 4 == 4 { 9 } else { 6 })?;
    match (protocol, quote.get(ports), place) {
        (ICMP, Some(8), 0) | (ICMPV6, Some(128), 0) | (ICMP, Some(0), 1) | (ICMPV6, Some(129), 1) => {
            Some(ports + 4)
        }
        (ICMP | ICMPV6, ..) => None,
        _ => Some(ports + 2 * place),
    }
}

/// Addresses and ports of the packet that an error quotes, as `source -> destination`.
pub fn quoted(frame: &[u8]) -> Result<String> {
    let (at, _) = message_at(frame)?;
    let quote = &frame[at + HEADER..];
    let ports = transport_at(quote)?;
    let v6 = quote[0] >> 4 == 6;
    let side = |place: usize| -> Result<String> {
        let at = port_at(quote, ports, place);
        let port = at.map(|at| quote.get(at..at + 2).context("no ports")).transpose()?;
        let address = if v6 {
            let octets = quote.get(8 + 16 * place..24 + 16 * place).context("cut IPv6 header")?;
            IpAddr::from(<[u8; 16]>::try_from(octets)?)
        } else {
            let octets = quote.get(12 + 4 * place..16 + 4 * place).context("cut IPv4 header")?;
            IpAddr::from(<[u8; 4]>::try_from(octets)?)
        };
        let Some(port) = port else { return Ok(address.to_string()) };
        Ok(SocketAddr::new(address, u16::from_be_bytes(port.try_into()?)).to_string())
    };
    Ok(format!("{} -> {}", side(0)?, side(1)?))
}

/// The reply to an echo request: to its sender, from whom it was to.
pub fn echo_reply(frame: &[u8]) -> Result<Vec<u8>> {
    let (at, addresses) = message_at(frame)?;
    let mut made = frame.to_vec();
    let (length, half) = (made.len(), addresses.len() / 2);
    made[..12].rotate_left(6);
    made[addresses.clone()].rotate_left(half);
    let before = sum(&made[at..length]);
    if half == 16 {
        made[IP_AT + 7] = HOP_LIMIT;
        made[at] = 129;
    } else {
        let header = IP_AT..at;
        let valid = sum(&frame[header.clone()]);
        made[IP_AT + 8] = HOP_LIMIT;
        made[IP_AT + 10..IP_AT + 12].fill(0);
        let checksum = made_up(valid, sum(&made[header]));
        made[IP_AT + 10..IP_AT + 12].copy_from_slice(&checksum.to_be_bytes());
        made[at] = 0;
    }
    made[at + CHECKSUM.start..at + CHECKSUM.end].fill(0);
    let checksum = made_up(before, sum(&made[at..length]));
    made[at + CHECKSUM.start..at + CHECKSUM.end].copy_from_slice(&checksum.to_be_bytes());
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::super::rewrite::rewrite;
    use super::*;

    fn error(ip: &str, kind: u8, quoted: &str, ports: &str) -> Result<Vec<u8>> {
        let quote = PacketText { ip: Some(quoted.into()), udp: Some(ports.into()), ..PacketText::default() };
        let message = MessageText { kind, code: 1, quote: Some(Box::new(quote)), ..MessageText::default() };
        let text = PacketText { ip: Some(ip.into()), icmp_message: Some(message), ..PacketText::default() };
        Ok(text.build()?.frame)
    }

    /// Errors rewritten are those described, but for what the quoted transport says of its checksum.
    fn same(old: Vec<u8>, sides: [&str; 2], quoted: &str, new: &[u8]) -> Result<()> {
        let mut frame = old.clone();
        rewrite(&mut frame, Some(sides[0]), Some(sides[1]))?;
        rewrite_quote(&mut frame, quoted)?;
        let (at, _) = message_at(&frame)?;
        let transport = at + HEADER + transport_at(&frame[at + HEADER..])?;
        assert_eq!(frame[transport + 6..], old[transport + 6..]);
        assert_eq!(frame[..at + 2], new[..at + 2]);
        assert_eq!(frame[at + 4..transport + 6], new[at + 4..transport + 6]);
        // The described one differs in the quoted checksum, and so in its own: by as much.
        let both = |frame: &[u8]| (sum(&frame[at + 2..at + 4]) + sum(&frame[transport + 6..])) % 0xffff;
        assert_eq!(both(&frame), both(new));
        Ok(())
    }

    #[test]
    fn a_rewritten_error_is_the_one_described() -> Result<()> {
        let old = error("10.2.0.2 -> 10.0.0.1", 3, "10.0.0.1 -> 10.2.0.2", "50002 -> 5353")?;
        let new = error("10.96.0.10 -> 192.0.2.7", 3, "192.0.2.7 -> 10.96.0.10", "4000 -> 53")?;
        same(old, ["10.96.0.10", "192.0.2.7"], "192.0.2.7:4000 -> 10.96.0.10:53", &new)?;
        let old = error("fd44:1::2 -> fd00::1", 1, "fd00::1 -> fd44:1::2", "50002 -> 5353")?;
        let new = error("fd96::10 -> 2001:db8::7", 1, "2001:db8::7 -> fd96::10", "4000 -> 53")?;
        same(old, ["fd96::10", "2001:db8::7"], "[2001:db8::7]:4000 -> [fd96::10]:53", &new)
    }

    #[test]
    fn an_echo_reply_is_the_one_described() -> Result<()> {
        for (ip, back, [request, reply]) in [
            ("192.0.2.7 -> 198.51.100.10", "198.51.100.10 -> 192.0.2.7", [8, 0]),
            ("2001:db8::7 -> fd96::10", "fd96::10 -> 2001:db8::7", [128, 129]),
        ] {
            let text = |ip: &str, kind, ttl| PacketText {
                ip: Some(ip.into()),
                ttl: Some(ttl),
                payload: Some(33),
                icmp_message: Some(MessageText { kind, rest: 0x00ab_0007, ..MessageText::default() }),
                ..PacketText::default()
            };
            let frame = text(ip, request, 9).build()?.frame;
            let mut reply = text(back, reply, HOP_LIMIT).build()?.frame;
            reply[..12].rotate_left(6);
            assert_eq!(echo_reply(&frame)?, reply);
        }
        Ok(())
    }
}
