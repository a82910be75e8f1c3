//! The answers that refuse a packet, made from the packet as the standards have them.

use anyhow::{Context, Result, bail, ensure};
use etherparse::icmpv4::DestUnreachableHeader as Unreachable4;
use etherparse::icmpv6::DestUnreachableCode as Unreachable6;
use etherparse::{
    Icmpv4Type, Icmpv6Type, IpHeaders, IpNumber, Ipv4Header, Ipv6Header, NetHeaders, PacketBuilder,
    PacketHeaders, TransportHeader,
};
use serde::{Deserialize, Serialize};

use super::icmp::echo_reply;

/// How a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerText {
    /// TCP reset (RFC 9293 section 3.10.7.1).
    Reset,
    /// ICMP port unreachable (RFC 792, RFC 4443), with the IP header and 8 bytes of the transport's.
    Unreachable,
    /// ICMP administratively prohibited (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1), with as much.
    Prohibited,
    /// ICMP fragmentation needed (RFC 1191 section 4), packet too big (RFC 4443 section 3.2); quotes as much.
    TooBig,
    /// ICMP echo reply (RFC 792, RFC 4443 section 4.2).
    Echo,
}

const HOP_LIMIT: u8 = 64;
const QUOTED: usize = 8;

/// The answer to this frame; `mtu` is what [`AnswerText::TooBig`] names.
pub fn answer(frame: &[u8], how: AnswerText, mtu: Option<u32>) -> Result<Vec<u8>> {
    ensure!(mtu.is_some() == (how == AnswerText::TooBig), "`mtu` goes with the answer `too-big`");
    let headers = PacketHeaders::from_ethernet_slice(frame)?;
    let link = headers.link.and_then(|link| link.ethernet2()).context("no Ethernet header")?;
    let (ip, quoted) = match headers.net.context("no IP header")? {
        NetHeaders::Ipv4(ip, _) => (back4(&ip)?, Ipv4Header::MIN_LEN),
        NetHeaders::Ipv6(ip, _) => {
            // RFC 8200 section 4.5: in front of the transport header of a fragment.
            let fragment = if ip.next_header == IpNumber::IPV6_FRAGMENTATION_HEADER { 8 } else { 0 };
            (back6(&ip), Ipv6Header::LEN + fragment)
        }
        _ => bail!("not IP"),
    };
    let version6 = matches!(ip, IpHeaders::Ipv6(..));
    let builder = PacketBuilder::ethernet2(link.destination, link.source).ip(ip);
    let mut made = Vec::new();
    match how {
        AnswerText::Reset => {
            let Some(TransportHeader::Tcp(tcp)) = headers.transport else { bail!("no TCP to reset") };
            let sent = u32::try_from(headers.payload.slice().len())?;
            let length = sent + u32::from(tcp.syn) + u32::from(tcp.fin);
            let (source, destination) = (tcp.destination_port, tcp.source_port);
            if tcp.ack {
                let reset = builder.tcp(source, destination, tcp.acknowledgment_number, 0).rst();
                reset.write(&mut made, &[])?;
            } else {
                let reset = builder.tcp(source, destination, 0, 0).rst();
                reset.ack(tcp.sequence_number.wrapping_add(length)).write(&mut made, &[])?;
            }
        }
        AnswerText::Unreachable | AnswerText::Prohibited | AnswerText::TooBig => {
            let prohibited = how == AnswerText::Prohibited;
            let payload = frame.get(14..14 + quoted + QUOTED).context("too short to be quoted")?;
            if version6 {
                let error = match mtu {
                    None if prohibited => Icmpv6Type::DestinationUnreachable(Unreachable6::Prohibited),
                    None => Icmpv6Type::DestinationUnreachable(Unreachable6::Port),
                    Some(mtu) => Icmpv6Type::PacketTooBig { mtu },
                };
                builder.icmpv6(error).write(&mut made, payload)?;
            } else {
                let error = match mtu {
                    None if prohibited => Unreachable4::FilterProhibited,
                    None => Unreachable4::Port,
                    Some(mtu) => Unreachable4::FragmentationNeeded { next_hop_mtu: mtu.try_into()? },
                };
                builder.icmpv4(Icmpv4Type::DestinationUnreachable(error)).write(&mut made, payload)?;
            }
        }
        AnswerText::Echo => return echo_reply(frame),
    }
    Ok(made)
}

fn back4(ip: &Ipv4Header) -> Result<IpHeaders> {
    let mut back = Ipv4Header::new(0, HOP_LIMIT, IpNumber::TCP, ip.destination, ip.source)?;
    back.dont_fragment = true;
    Ok(IpHeaders::Ipv4(back, Default::default()))
}

fn back6(ip: &Ipv6Header) -> IpHeaders {
    let back = Ipv6Header {
        hop_limit: HOP_LIMIT,
        source: ip.destination,
        destination: ip.source,
        ..Ipv6Header::default()
    };
    IpHeaders::Ipv6(back, Default::default())
}
