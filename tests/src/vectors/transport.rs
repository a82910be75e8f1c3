//! What follows the IP header.

use anyhow::{Result, bail};
use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber, TcpHeader, UdpHeader,
};

use super::hexadecimal;
use super::icmp::MessageText;
use super::packet::arrow;

pub(super) struct Transport<'a> {
    pub udp: Option<&'a str>,
    pub tcp: Option<&'a str>,
    pub tcp_flags: &'a str,
    pub sctp: Option<&'a str>,
    pub tcp_options: Option<&'a str>,
    pub icmp: bool,
    pub echo: Option<&'a str>,
    pub icmp_message: Option<&'a MessageText>,
    pub protocol: Option<u8>,
    pub payload: usize,
    /// What checksum and lengths are made of, if that is more.
    pub whole: Option<usize>,
    /// Whether the header itself is in this packet: not in a later fragment.
    pub header: bool,
}

const ECHO: IcmpEchoHeader = IcmpEchoHeader { id: 0x1234, seq: 1 };

/// Payload that is neither zero nor the same everywhere.
pub(super) fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(7) ^ 0x5a).collect()
}

impl Transport<'_> {
    pub fn over4(&self, source: [u8; 4], destination: [u8; 4]) -> Result<(IpNumber, Vec<u8>)> {
        let payload = bytes(self.whole.unwrap_or(self.payload));
        let (number, header) = if let Some(text) = self.udp {
            let (from, to) = ports(text)?;
            let header = UdpHeader::with_ipv4_checksum(from, to, &bare4(source, destination), &payload)?;
            (IpNumber::UDP, header.to_bytes().to_vec())
        } else if let Some(text) = self.tcp {
            let mut header = self.tcp(text)?;
            header.checksum = header.calc_checksum_ipv4_raw(source, destination, &payload)?;
            (IpNumber::TCP, header.to_bytes().to_vec())
        } else if let Some(text) = self.sctp {
            (IpNumber::SCTP, sctp(text, &payload)?)
        } else if let Some(message) = self.icmp_message {
            return Ok((IpNumber::ICMP, message.over4(payload)?));
        } else if let Some(text) = self.echo {
            return Ok((IpNumber::ICMP, echo(text, [8, 0])?.over4(payload)?));
        } else if self.icmp {
            let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(ECHO), &payload);
            (IpNumber::ICMP, header.to_bytes().to_vec())
        } else {
            // RFC 3692: for experiments.
            (IpNumber(253), Vec::new())
        };
        Ok(self.joined(number, header, &payload))
    }

    pub fn over6(&self, source: [u8; 16], destination: [u8; 16]) -> Result<(IpNumber, Vec<u8>)> {
        let payload = bytes(self.whole.unwrap_or(self.payload));
        let (number, header) = if let Some(text) = self.udp {
            let (from, to) = ports(text)?;
            let mut header = UdpHeader::without_ipv4_checksum(from, to, payload.len())?;
            header.checksum = header.calc_checksum_ipv6_raw(source, destination, &payload)?;
            (IpNumber::UDP, header.to_bytes().to_vec())
        } else if let Some(text) = self.tcp {
            let mut header = self.tcp(text)?;
            header.checksum = header.calc_checksum_ipv6_raw(source, destination, &payload)?;
            (IpNumber::TCP, header.to_bytes().to_vec())
        } else if let Some(text) = self.sctp {
            (IpNumber::SCTP, sctp(text, &payload)?)
        } else if let Some(message) = self.icmp_message {
            return Ok((IpNumber::IPV6_ICMP, message.over6(source, destination, payload)?));
        } else if let Some(text) = self.echo {
            let message = echo(text, [128, 129])?;
            return Ok((IpNumber::IPV6_ICMP, message.over6(source, destination, payload)?));
        } else if self.icmp {
            let kind = Icmpv6Type::EchoRequest(ECHO);
            let header = Icmpv6Header::with_checksum(kind, source, destination, &payload)?;
            (IpNumber::IPV6_ICMP, header.to_bytes().to_vec())
        } else {
            (IpNumber(253), Vec::new())
        };
        Ok(self.joined(number, header, &payload))
    }

    fn tcp(&self, text: &str) -> Result<TcpHeader> {
        let (from, to) = ports(text)?;
        let mut header = TcpHeader::new(from, to, 0x0102_0304, 0x2000);
        for flag in self.tcp_flags.split_whitespace() {
            match flag {
                "syn" => header.syn = true,
                "ack" => header.ack = true,
                "fin" => header.fin = true,
                "rst" => header.rst = true,
                "psh" => header.psh = true,
                _ => bail!("no TCP flag `{flag}`"),
            }
        }
        header.set_options_raw(&hexadecimal::read(self.tcp_options.unwrap_or_default())?)?;
        Ok(header)
    }

    fn joined(&self, number: IpNumber, mut header: Vec<u8>, payload: &[u8]) -> (IpNumber, Vec<u8>) {
        if !self.header {
            header.clear();
        }
        header.extend(payload.iter().take(self.payload));
        (self.protocol.map_or(number, IpNumber), header)
    }
}

/// Common header (RFC 9260 section 3.1) before `chunks`, with its CRC32c over both (appendix A).
fn sctp(text: &str, chunks: &[u8]) -> Result<Vec<u8>> {
    let (from, to) = ports(text)?;
    let mut header = [from.to_be_bytes(), to.to_be_bytes()].concat();
    header.extend([0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0, 0]);
    let crc = header.iter().chain(chunks).fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    });
    header[8..].copy_from_slice(&(!crc).to_le_bytes());
    Ok(header)
}

/// `request identifier` or `reply identifier`, with the types of both (RFC 792, RFC 4443 section 4).
fn echo(text: &str, [request, reply]: [u8; 2]) -> Result<MessageText> {
    let (kind, identifier) = match text.split_once(' ') {
        Some(("request", identifier)) => (request, identifier),
        Some(("reply", identifier)) => (reply, identifier),
        _ => bail!("`{text}` is neither `request identifier` nor `reply identifier`"),
    };
    let rest = u32::from(identifier.parse::<u16>()?) << 16 | 1;
    Ok(MessageText { kind, rest, ..MessageText::default() })
}

fn bare4(source: [u8; 4], destination: [u8; 4]) -> etherparse::Ipv4Header {
    etherparse::Ipv4Header { source, destination, protocol: IpNumber::UDP, ..Default::default() }
}

fn ports(text: &str) -> Result<(u16, u16)> {
    let (from, to) = arrow(text)?;
    Ok((from.parse()?, to.parse()?))
}
