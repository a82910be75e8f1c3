//! Packets described by readable fields, made into frames.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header,
    Ipv6Header, SingleVlanHeader,
};
use serde::{Deserialize, Serialize};

use super::cast::{Interface, NIC};
use super::check::Input;
use super::hexadecimal;
use super::icmp::MessageText;
use super::transport::{Transport, bytes};

/// A packet as a vector writes it. What is not said has the value of an ordinary packet to the
/// NIC.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PacketText {
    /// The whole frame in hexadecimal, instead of all that describes it.
    pub raw: Option<String>,
    /// Where it comes in; if it is not said the NIC, or at the hook of pods that of the pod it is from.
    pub interface: Option<String>,
    /// Link-layer destination, if it is not the interface.
    pub to: Option<String>,
    pub from: Option<String>,
    /// Instead of the type that fits the content.
    pub ethertype: Option<u16>,
    /// VLAN ids, outer first; an outer of two has a service tag.
    pub vlan: Option<Vec<u16>>,
    /// An ARP request for this address.
    pub arp: Option<std::net::Ipv4Addr>,
    /// `source -> destination`
    pub ip: Option<String>,
    pub ttl: Option<u8>,
    /// IPv4 options, hexadecimal, a multiple of four bytes.
    pub options: Option<String>,
    /// Of IPv4; if it is not said, set in all but fragments.
    pub dont_fragment: Option<bool>,
    pub fragment: Option<FragmentText>,
    /// IPv6 extension headers in their order.
    pub extensions: Option<Vec<String>>,
    pub flow_label: Option<u32>,
    /// `source port -> destination port`; only in a first fragment if it is one.
    pub udp: Option<String>,
    pub tcp: Option<String>,
    /// Names of control bits; ack if it is not said.
    pub tcp_flags: Option<String>,
    pub sctp: Option<String>,
    /// TCP options, hexadecimal, a multiple of four bytes.
    pub tcp_options: Option<String>,
    /// Echo request.
    pub icmp: Option<bool>,
    /// `request identifier`, `reply identifier`.
    pub echo: Option<String>,
    /// ICMP of any type.
    pub icmp_message: Option<MessageText>,
    /// Instead of the number that fits the transport header.
    pub protocol: Option<u8>,
    /// Bytes behind the last header.
    pub payload: Option<usize>,
    /// Bytes of payload in the whole packet of which this is the first fragment.
    pub whole: Option<usize>,
    /// Bytes behind the end of the IP packet.
    pub padding: Option<usize>,
    /// Written over the frame, in this order; checksums are made before.
    #[serde(rename = "override")]
    pub overrides: Option<Vec<OverrideText>>,
    /// The frame ends after this many bytes.
    pub cut: Option<usize>,
    /// Payload bytes per segment: a GSO packet. Seen at TC only.
    pub segment: Option<u32>,
    /// A tag that the NIC took off. Seen at TC only.
    pub nic_vlan_tag: Option<bool>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FragmentText {
    /// Bytes before this fragment, a multiple of 8.
    pub offset: u16,
    pub more: bool,
    #[serde(default)]
    pub id: u16,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OverrideText {
    pub at: usize,
    pub bytes: String,
}

const FROM: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

impl PacketText {
    /// On the interface that it names, else on the NIC.
    pub fn build(&self) -> Result<Input> {
        self.build_on(self.interface.as_deref().map_or(Ok(NIC), Interface::named)?)
    }

    pub(super) fn build_on(&self, interface: Interface) -> Result<Input> {
        let mut frame = match &self.raw {
            Some(raw) => hexadecimal::read(raw)?,
            None => self.frame(interface.mac)?,
        };
        for OverrideText { at, bytes } in self.overrides.iter().flatten() {
            let bytes = hexadecimal::read(bytes)?;
            let place = frame.get_mut(*at..*at + bytes.len());
            place.with_context(|| format!("override at {at} ends behind the frame"))?.copy_from_slice(&bytes);
        }
        if let Some(cut) = self.cut {
            ensure!(cut < frame.len(), "cut at {cut}, the frame has {} bytes", frame.len());
            frame.truncate(cut);
        }
        let nic_vlan_tag = self.nic_vlan_tag.unwrap_or(false);
        Ok(Input { frame, interface, segment: self.segment, nic_vlan_tag })
    }

    fn frame(&self, to: [u8; 6]) -> Result<Vec<u8>> {
        let (natural, content) = self.content()?;
        let ethertype = self.ethertype.map_or(natural, EtherType);
        let tags = self.vlan.as_deref().unwrap_or_default();
        let mut frame = Vec::new();
        let outer = match tags.len() {
            0 => ethertype,
            1 => EtherType::VLAN_TAGGED_FRAME,
            _ => EtherType::PROVIDER_BRIDGING,
        };
        let destination = self.to.as_deref().map_or(Ok(to), hexadecimal::mac)?;
        let source = self.from.as_deref().map_or(Ok(FROM), hexadecimal::mac)?;
        frame.extend(Ethernet2Header { source, destination, ether_type: outer }.to_bytes());
        for (place, &id) in tags.iter().enumerate() {
            let last = place + 1 == tags.len();
            let ether_type = if last { ethertype } else { EtherType::VLAN_TAGGED_FRAME };
            let vlan_id = id.try_into()?;
            let tag = SingleVlanHeader { vlan_id, ether_type, ..SingleVlanHeader::default() };
            frame.extend(tag.to_bytes());
        }
        frame.extend(content);
        frame.extend(std::iter::repeat_n(0xa5, self.padding.unwrap_or(0)));
        Ok(frame)
    }

    /// Type and bytes of what the link layer carries.
    pub(super) fn content(&self) -> Result<(EtherType, Vec<u8>)> {
        if let Some(address) = self.arp {
            return Ok((EtherType::ARP, arp(address)?));
        }
        let Some(ip) = &self.ip else {
            let ethertype = self.ethertype.context("neither `ip`, `arp` nor `ethertype`")?;
            return Ok((EtherType(ethertype), bytes(self.payload.unwrap_or(46))));
        };
        let (source, destination) = arrow(ip)?;
        match (source.parse()?, destination.parse()?) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Ok((EtherType::IPV4, self.ipv4(source.octets(), destination.octets())?))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Ok((EtherType::IPV6, self.ipv6(source.octets(), destination.octets())?))
            }
            _ => bail!("`{ip}` mixes families"),
        }
    }

    fn transport(&self) -> Transport<'_> {
        let later_fragment = self.fragment.is_some_and(|fragment| fragment.offset != 0);
        Transport {
            udp: self.udp.as_deref(),
            tcp: self.tcp.as_deref(),
            tcp_flags: self.tcp_flags.as_deref().unwrap_or("ack"),
            sctp: self.sctp.as_deref(),
            tcp_options: self.tcp_options.as_deref(),
            icmp: self.icmp.unwrap_or(false),
            echo: self.echo.as_deref(),
            icmp_message: self.icmp_message.as_ref(),
            protocol: self.protocol,
            payload: self.payload.unwrap_or(32),
            whole: self.whole,
            header: !later_fragment,
        }
    }

    fn ipv4(&self, source: [u8; 4], destination: [u8; 4]) -> Result<Vec<u8>> {
        let (protocol, rest) = self.transport().over4(source, destination)?;
        let mut header = Ipv4Header {
            time_to_live: self.ttl.unwrap_or(64),
            protocol,
            source,
            destination,
            identification: 0x1c46,
            dont_fragment: self.dont_fragment.unwrap_or(self.fragment.is_none()),
            ..Ipv4Header::default()
        };
        let options = hexadecimal::read(self.options.as_deref().unwrap_or_default())?;
        header.options = options.as_slice().try_into()?;
        if let Some(FragmentText { offset, more, id }) = self.fragment {
            header.identification = id;
            header.more_fragments = more;
            header.fragment_offset = IpFragOffset::try_new(offset / 8)?;
        }
        header.set_payload_len(rest.len())?;
        header.header_checksum = header.calc_header_checksum();
        Ok([header.to_bytes().as_slice(), &rest].concat())
    }

    fn ipv6(&self, source: [u8; 16], destination: [u8; 16]) -> Result<Vec<u8>> {
        let (protocol, mut rest) = self.transport().over6(source, destination)?;
        let mut next = protocol;
        let names = self.extensions.as_deref().unwrap_or_default();
        for name in names.iter().rev() {
            let (number, header) = self.extension(name, next)?;
            rest.splice(0..0, header);
            next = number;
        }
        let mut header = Ipv6Header {
            hop_limit: self.ttl.unwrap_or(64),
            next_header: next,
            flow_label: self.flow_label.unwrap_or(0).try_into()?,
            source,
            destination,
            ..Ipv6Header::default()
        };
        header.set_payload_length(rest.len())?;
        Ok([header.to_bytes().as_slice(), &rest].concat())
    }

    /// Number and bytes of an extension header in front of `next`.
    fn extension(&self, name: &str, next: IpNumber) -> Result<(IpNumber, Vec<u8>)> {
        // RFC 8200 section 4.2: PadN over the four bytes that an empty options header has left.
        let padded = vec![next.0, 0, 1, 4, 0, 0, 0, 0];
        Ok(match name {
            "hop-by-hop" => (IpNumber::IPV6_HEADER_HOP_BY_HOP, padded),
            "destination-options" => (IpNumber::IPV6_DESTINATION_OPTIONS, padded),
            // RFC 8200 section 4.4, an unused type with no segments left.
            "routing" => (IpNumber::IPV6_ROUTE_HEADER, vec![next.0, 0, 253, 0, 0, 0, 0, 0]),
            "fragment" => {
                let FragmentText { offset, more, id } =
                    self.fragment.context("extension `fragment` without `fragment`")?;
                let [high, low] = (offset | u16::from(more)).to_be_bytes();
                let [first, second] = id.to_be_bytes();
                (IpNumber::IPV6_FRAGMENTATION_HEADER, vec![next.0, 0, high, low, 0, 0, first, second])
            }
            // RFC 4302 section 2: length in words minus 2, here with a 12-byte check value.
            "authentication" => {
                let mut header = vec![next.0, 4];
                header.resize(24, 0x11);
                (IpNumber::AUTHENTICATION_HEADER, header)
            }
            _ => bail!("no extension header `{name}`"),
        })
    }
}

fn arp(address: std::net::Ipv4Addr) -> Result<Vec<u8>> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &FROM,
        &[10, 0, 0, 5],
        &[0; 6],
        &address.octets(),
    )?;
    Ok(packet.to_bytes().to_vec())
}

/// Both sides of `a -> b`.
pub fn arrow(text: &str) -> Result<(&str, &str)> {
    let (from, to) = text.split_once("->").with_context(|| format!("`{text}` is not `from -> to`"))?;
    Ok((from.trim(), to.trim()))
}
