//! Packets that become an answer and go back to where they came from: a TCP reset, or ICMP port unreachable
//! for everything else (S3, S6); the MTU of the way; an echo reply (S8).

use super::family::Family;
use crate::checksum::{Update, checksum, sum_of};
use crate::packet::{Header, Packet};
use crate::verdict::Reason;
use crate::wire::be::{Be16, Be32};
use crate::wire::eth::{ETH_LEN, Eth};
use crate::wire::icmp::{ICMP_LEN, Icmp, is_error4, is_error6};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::l4::{
    PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, Tcp,
};

const HOP_LIMIT: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;
/// Five words of 32 bits.
const TCP_NO_OPTIONS: u8 = 5 << 4;
/// Behind the IP header, what an error quotes: eight bytes of the transport's.
type Quoted = [Be16; 4];
/// The same of a fragment.
type QuotedFragment = [Be16; 8];

/// An IP version as far as answers are made in it.
pub trait Answering: Family + Copy {
    /// Types and codes.
    const PORT_UNREACHABLE: u16;
    const PROHIBITED: u16;
    const TOO_BIG: u16;

    fn is_error(kind: u8) -> bool;

    /// What follows the checksum in an error that says an MTU.
    fn mtu(mtu: u32) -> [Be16; 2];

    /// Sends the header back as it is, but for a TTL or hop limit of an answer.
    fn reflect(&mut self);

    /// Turns the header around for an answer of this protocol with `length` bytes behind it.
    fn turn(&mut self, protocol: u8, length: u16);

    /// What an ICMP checksum covers of the header: the pseudo-header, or nothing.
    fn icmp_sum(&self, length: u16) -> u32;

    /// The pseudo-header of TCP.
    fn tcp_sum(&self, length: u16) -> u32;
}

/// Turns the packet into the answer for this reason. `None` if there is none: nobody resets a reset, and an
/// error never answers an error or a part of a packet, but for a first fragment that is too big. `mtu` is that
/// of the way, where it has one.
#[inline(always)]
pub fn answer<F: Answering, P: Packet>(packet: &mut P, reason: Reason, mtu: u32) -> Option<()> {
    if reason == Reason::EchoAnswered {
        return echo::<F, P>(packet);
    }
    if reason == Reason::ServiceTooBig {
        return match F::fragment(packet) {
            // IPv6: with the fragment's header in front.
            Some(piece) if piece.at != F::TRANSPORT_AT => {
                error::<F, P, QuotedFragment>(packet, F::TOO_BIG, F::mtu(mtu))
            }
            _ => error::<F, P, Quoted>(packet, F::TOO_BIG, F::mtu(mtu)),
        };
    }
    let ip: &F = packet.get(ETH_LEN)?;
    match ip.transport()? {
        PROTOCOL_TCP => reset::<F, P>(packet),
        PROTOCOL_ICMP | PROTOCOL_ICMPV6 => None,
        _ if reason == Reason::EgressRejected => {
            error::<F, P, Quoted>(packet, F::PROHIBITED, [Be16::new(0); 2])
        }
        _ => error::<F, P, Quoted>(packet, F::PORT_UNREACHABLE, [Be16::new(0); 2]),
    }
}

/// RFC 792, RFC 4443 section 4.2.
#[inline(always)]
fn echo<F: Answering, P: Packet>(packet: &mut P) -> Option<()> {
    let icmp: &mut Icmp = packet.get_mut(F::TRANSPORT_AT)?;
    let request = icmp.type_code.get();
    let reply = request & 0x00ff | u16::from(F::ECHO_REPLY) << 8;
    icmp.type_code = Be16::new(reply);
    icmp.checksum = Update::of(icmp.checksum).replace(request, reply).ip();
    let ip: &mut F = packet.get_mut(ETH_LEN)?;
    ip.reflect();
    let eth: &mut Eth = packet.get_mut(0)?;
    core::mem::swap(&mut eth.source, &mut eth.destination);
    Some(())
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

/// An error of this type and code, with `rest` behind its checksum, that quotes a `Q` behind the IP header.
#[inline(always)]
fn error<F: Answering, P: Packet, Q: Header + Copy>(
    packet: &mut P,
    type_code: u16,
    rest: [Be16; 2],
) -> Option<()> {
    let header: F = *packet.get(ETH_LEN)?;
    let transport: Q = *packet.get(F::TRANSPORT_AT)?;
    let quoted_at = F::TRANSPORT_AT.wrapping_add(ICMP_LEN);
    let transport_at = quoted_at.wrapping_add(size_of::<F>());
    let bytes = ICMP_LEN.wrapping_add(size_of::<F>()).wrapping_add(size_of::<Q>());
    packet.resize(F::TRANSPORT_AT.wrapping_add(bytes))?;
    *packet.get_mut(quoted_at)? = header;
    *packet.get_mut(transport_at)? = transport;
    turn::<F, P>(packet, F::ICMP, bytes)?;
    let covered = packet.get::<F>(ETH_LEN)?.icmp_sum(bytes as u16);
    let quoted = sum_of(&header).wrapping_add(sum_of(&transport));
    let icmp = Icmp { type_code: Be16::new(type_code), checksum: Be16::new(0), rest };
    let checksum = checksum(covered.wrapping_add(sum_of(&icmp)).wrapping_add(quoted));
    *packet.get_mut(F::TRANSPORT_AT)? = Icmp { checksum, ..icmp };
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
    const PORT_UNREACHABLE: u16 = 0x0303;
    /// RFC 1812 section 5.2.7.1.
    const PROHIBITED: u16 = 0x030d;
    const TOO_BIG: u16 = 0x0304;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        is_error4(kind)
    }

    /// RFC 1191 section 4.
    #[inline(always)]
    fn mtu(mtu: u32) -> [Be16; 2] {
        [Be16::new(0), Be16::new(mtu as u16)]
    }

    #[inline(always)]
    fn reflect(&mut self) {
        core::mem::swap(&mut self.source, &mut self.destination);
        let old = u16::from_be_bytes([self.ttl, self.protocol]);
        let new = u16::from_be_bytes([HOP_LIMIT, self.protocol]);
        self.checksum = Update::of(self.checksum).replace(old, new).ip();
        self.ttl = HOP_LIMIT;
    }

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
    const PORT_UNREACHABLE: u16 = 0x0104;
    const PROHIBITED: u16 = 0x0101;
    const TOO_BIG: u16 = 0x0200;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        is_error6(kind)
    }

    /// RFC 4443 section 3.2.
    #[inline(always)]
    fn mtu(mtu: u32) -> [Be16; 2] {
        [Be16::new((mtu >> 16) as u16), Be16::new(mtu as u16)]
    }

    #[inline(always)]
    fn reflect(&mut self) {
        core::mem::swap(&mut self.source, &mut self.destination);
        self.hop_limit = HOP_LIMIT;
    }

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
