//! Answers that refuse: a TCP reset, or ICMP port unreachable for everything else (S3, S6). The packet
//! becomes the answer and goes back to where it came from.

use super::family::Family;
use crate::checksum::{checksum, sum_of};
use crate::packet::Packet;
use crate::wire::be::{Be16, Be32};
use crate::wire::eth::{ETH_LEN, Eth};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::l4::{
    PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, Tcp,
};

const HOP_LIMIT: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;
/// Five words of 32 bits.
const TCP_NO_OPTIONS: u8 = 5 << 4;
/// ICMP header, RFC 792 and RFC 4443 section 3.1.
const ICMP_LEN: usize = 8;
/// Of the transport header, what an error quotes at least.
const QUOTED: usize = 8;

/// An IP version as far as answers are made in it.
pub trait Answering: Family + Copy {
    const ICMP: u8;
    /// Type and code.
    const PORT_UNREACHABLE: u16;

    /// Turns the header around for an answer of this protocol with `length` bytes behind it.
    fn turn(&mut self, protocol: u8, length: u16);

    /// What an ICMP checksum covers of the header: the pseudo-header, or nothing.
    fn icmp_sum(&self, length: u16) -> u32;

    /// The pseudo-header of TCP.
    fn tcp_sum(&self, length: u16) -> u32;
}

/// Turns the packet into its refusal. `None` if there is none: nobody resets a reset, and an error never
/// answers an error or a part of a packet.
#[inline(never)]
pub fn refuse<F: Answering, P: Packet>(packet: &mut P) -> Option<()> {
    let ip: &F = packet.get(ETH_LEN)?;
    match ip.transport()? {
        PROTOCOL_TCP => reset::<F, P>(packet),
        PROTOCOL_ICMP | PROTOCOL_ICMPV6 => None,
        _ => unreachable::<F, P>(packet),
    }
}

/// RFC 9293 section 3.10.7.1.
#[inline(always)]
fn reset<F: Answering, P: Packet>(packet: &mut P) -> Option<()> {
    let ip: &F = packet.get(ETH_LEN)?;
    let total = ip.total_length();
    let tcp: &Tcp = packet.get(F::TRANSPORT_AT)?;
    let Tcp { source, destination, sequence, acknowledgment, offset, flags, .. } = *tcp;
    if flags & TCP_RST != 0 {
        return None;
    }
    let headers = (size_of::<F>() as u32).wrapping_add(u32::from(offset >> 4).wrapping_mul(4));
    let counted = u32::from(flags & TCP_SYN != 0).wrapping_add(u32::from(flags & TCP_FIN != 0));
    let length = total.saturating_sub(headers).wrapping_add(counted);
    let acknowledges = flags & TCP_ACK != 0;
    let answer = Tcp {
        source: destination,
        destination: source,
        sequence: if acknowledges { acknowledgment } else { Be32::new(0) },
        acknowledgment: if acknowledges {
            Be32::new(0)
        } else {
            Be32::new(sequence.get().wrapping_add(length))
        },
        offset: TCP_NO_OPTIONS,
        flags: if acknowledges { TCP_RST } else { TCP_RST | TCP_ACK },
        window: Be16::new(0),
        checksum: Be16::new(0),
        urgent: Be16::new(0),
    };
    let bytes = size_of::<Tcp>();
    packet.resize(F::TRANSPORT_AT.wrapping_add(bytes))?;
    turn::<F, P>(packet, PROTOCOL_TCP, bytes)?;
    let covered = packet.get::<F>(ETH_LEN)?.tcp_sum(bytes as u16);
    let sum = covered.wrapping_add(sum_of(&answer));
    let tcp: &mut Tcp = packet.get_mut(F::TRANSPORT_AT)?;
    *tcp = Tcp { checksum: checksum(sum), ..answer };
    Some(())
}

#[inline(always)]
fn unreachable<F: Answering, P: Packet>(packet: &mut P) -> Option<()> {
    let header: F = *packet.get(ETH_LEN)?;
    let transport: [Be16; QUOTED / 2] = *packet.get(F::TRANSPORT_AT)?;
    let quoted_at = F::TRANSPORT_AT.wrapping_add(ICMP_LEN);
    let transport_at = quoted_at.wrapping_add(size_of::<F>());
    let bytes = ICMP_LEN.wrapping_add(size_of::<F>()).wrapping_add(QUOTED);
    packet.resize(F::TRANSPORT_AT.wrapping_add(bytes))?;
    *packet.get_mut(quoted_at)? = header;
    *packet.get_mut(transport_at)? = transport;
    turn::<F, P>(packet, F::ICMP, bytes)?;
    let covered = packet.get::<F>(ETH_LEN)?.icmp_sum(bytes as u16);
    let quoted = sum_of(&header).wrapping_add(sum_of(&transport));
    let sum = covered.wrapping_add(u32::from(F::PORT_UNREACHABLE)).wrapping_add(quoted);
    let icmp: &mut [Be16; ICMP_LEN / 2] = packet.get_mut(F::TRANSPORT_AT)?;
    *icmp = [Be16::new(F::PORT_UNREACHABLE), checksum(sum), Be16::new(0), Be16::new(0)];
    Some(())
}

/// Link layer and IP header of an answer with `bytes` behind the IP header.
#[inline(always)]
fn turn<F: Answering, P: Packet>(packet: &mut P, protocol: u8, bytes: usize) -> Option<()> {
    let eth: &mut Eth = packet.get_mut(0)?;
    core::mem::swap(&mut eth.source, &mut eth.destination);
    let ip: &mut F = packet.get_mut(ETH_LEN)?;
    ip.turn(protocol, bytes as u16);
    Some(())
}

impl Answering for Ipv4 {
    const ICMP: u8 = PROTOCOL_ICMP;
    const PORT_UNREACHABLE: u16 = 0x0303;

    #[inline(always)]
    fn turn(&mut self, protocol: u8, length: u16) {
        *self = Self {
            version_ihl: 0x45,
            dscp_ecn: 0,
            total_length: Be16::new(length.wrapping_add(size_of::<Self>() as u16)),
            identification: Be16::new(0),
            flags_fragment: Be16::new(DONT_FRAGMENT),
            ttl: HOP_LIMIT,
            protocol,
            checksum: Be16::new(0),
            source: self.destination,
            destination: self.source,
        };
        self.checksum = checksum(sum_of(self));
    }

    #[inline(always)]
    fn icmp_sum(&self, _length: u16) -> u32 {
        0
    }

    #[inline(always)]
    fn tcp_sum(&self, length: u16) -> u32 {
        let addresses = sum_of(&self.source).wrapping_add(sum_of(&self.destination));
        addresses.wrapping_add(u32::from(PROTOCOL_TCP)).wrapping_add(u32::from(length))
    }
}

impl Answering for Ipv6 {
    const ICMP: u8 = PROTOCOL_ICMPV6;
    const PORT_UNREACHABLE: u16 = 0x0104;

    #[inline(always)]
    fn turn(&mut self, protocol: u8, length: u16) {
        self.version_class_flow = Be16::new(0x6000);
        self.flow_low = Be16::new(0);
        self.payload_length = Be16::new(length);
        self.next_header = protocol;
        self.hop_limit = HOP_LIMIT;
        core::mem::swap(&mut self.source, &mut self.destination);
    }

    #[inline(always)]
    fn icmp_sum(&self, length: u16) -> u32 {
        pseudo_header(self, PROTOCOL_ICMPV6, length)
    }

    #[inline(always)]
    fn tcp_sum(&self, length: u16) -> u32 {
        pseudo_header(self, PROTOCOL_TCP, length)
    }
}

/// RFC 8200 section 8.1.
#[inline(always)]
fn pseudo_header(ip: &Ipv6, protocol: u8, length: u16) -> u32 {
    let addresses = sum_of(&ip.source).wrapping_add(sum_of(&ip.destination));
    addresses.wrapping_add(u32::from(protocol)).wrapping_add(u32::from(length))
}
