//! Random packets: mostly good ones to destinations that the tables know, then damaged a little;
//! some are noise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use netroute_common::verdict::Hook;

use super::tables::pick;
use crate::vectors::{FragmentText, Input, NIC, NIC_MAC, PacketText, TableSet};

const SEGMENTS: [u32; 10] = [1, 20, 536, 1000, 1380, 1400, 1440, 1460, 1500, 65535];
const EXTENSIONS: [&str; 5] = ["hop-by-hop", "destination-options", "routing", "fragment", "authentication"];

pub fn random_input(rng: &mut Rng, tables: &TableSet, hook: Hook) -> Input {
    let mut input = match rng.u8(..) {
        0..8 => noise(rng, false),
        8..24 => noise(rng, true),
        _ => {
            let text = packet(rng, tables);
            // Any combination of fields above can be built; if not, the frame is noise.
            text.build().unwrap_or_else(|_| noise(rng, true))
        }
    };
    if rng.u8(..) < 70 {
        damage(rng, &mut input.frame);
    }
    if hook != Hook::XdpNic && rng.u8(..) < 60 {
        input.segment = Some(pick(rng, &SEGMENTS));
    }
    input
}

fn noise(rng: &mut Rng, ethernet: bool) -> Input {
    let length = rng.usize(14..200);
    let mut frame: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
    if ethernet {
        frame[..6].copy_from_slice(&NIC_MAC);
        frame[12..14].copy_from_slice(&pick(rng, &[[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x08, 0x06]]));
    }
    Input { frame, interface: NIC, segment: None, nic_vlan_tag: false }
}

fn packet(rng: &mut Rng, tables: &TableSet) -> PacketText {
    let v6 = rng.bool();
    let mut text = PacketText {
        ip: Some(addresses(rng, tables, v6)),
        ttl: Some(pick(rng, &[0, 1, 2, 63, 64, 64, 64, 128, 255, 255])),
        payload: Some(payload(rng)),
        ..PacketText::default()
    };
    let ports = format!("{} -> {}", rng.u16(..), rng.u16(..));
    match rng.u8(..8) {
        0..3 => text.tcp = Some(ports),
        3..6 => text.udp = Some(ports),
        6 => text.icmp = Some(true),
        _ => text.protocol = Some(rng.u8(..)),
    }
    if rng.u8(..) < 10 {
        text.to = Some(pick(rng, &["ffffffffffff", "01005e000001", "02000000000a", "333300000001"]).into());
    }
    if rng.u8(..) < 6 {
        text.vlan = Some(if rng.bool() { vec![7] } else { vec![7, 8] });
    }
    if rng.u8(..) < 24 {
        let offset = if rng.bool() { 0 } else { rng.u16(..8000) * 8 };
        text.fragment = Some(FragmentText { offset, more: rng.bool(), id: rng.u16(..) });
    }
    if v6 {
        text.flow_label = Some(rng.u32(..1 << 20));
        if text.fragment.is_some() {
            text.extensions = Some(vec!["fragment".into()]);
        } else if rng.u8(..) < 40 {
            text.extensions =
                Some(vec![pick(rng, &EXTENSIONS[..3]).into(), pick(rng, &EXTENSIONS[1..3]).into()]);
        }
    } else if rng.u8(..) < 10 {
        text.options = Some("94040000".into());
    }
    if rng.u8(..) < 16 {
        text.padding = Some(pick(rng, &[1, 6, 18, 900]));
    }
    text
}

/// Mostly short; often about as long as some device takes.
fn payload(rng: &mut Rng) -> usize {
    match rng.u8(..) {
        0..180 => rng.usize(..64),
        180..240 => pick(rng, &[68, 100, 576, 1280, 1400, 1500]) - rng.usize(18..64),
        _ => rng.usize(..2200),
    }
}

fn addresses(rng: &mut Rng, tables: &TableSet, v6: bool) -> String {
    let known: Vec<IpAddr> =
        tables.routes.keys().map(|(address, _)| *address).filter(|address| address.is_ipv6() == v6).collect();
    let near = rng.u8(..) < 230;
    let destination = match pick(rng, &known) {
        IpAddr::V4(base) if near => Ipv4Addr::from_bits(base.to_bits() ^ rng.u32(..4)).into(),
        IpAddr::V6(base) if near => Ipv6Addr::from_bits(base.to_bits() ^ u128::from(rng.u8(..4))).into(),
        _ if v6 => IpAddr::V6(Ipv6Addr::from_bits(rng.u128(..))),
        _ => IpAddr::V4(Ipv4Addr::from_bits(rng.u32(..))),
    };
    let strange = rng.u8(..) < 20;
    let source: IpAddr = match (v6, strange) {
        (false, false) => Ipv4Addr::from_bits(rng.u32(0x0100_0000..0x7f00_0000)).into(),
        (false, true) => Ipv4Addr::from_bits(rng.u32(..)).into(),
        (true, false) => Ipv6Addr::from_bits(0x2001 << 112 | rng.u128(..1 << 112)).into(),
        (true, true) => {
            let high = pick(rng, &[0, 0xfe80 << 112, 0xff02 << 112, 0xffff_u128 << 32]);
            Ipv6Addr::from_bits(high | u128::from(rng.u16(..))).into()
        }
    };
    format!("{source} -> {destination}")
}

/// A few changes of the kind that a broken or a hostile sender makes.
pub(super) fn damage(rng: &mut Rng, frame: &mut Vec<u8>) {
    for _ in 0..rng.u8(1..4) {
        match rng.u8(..8) {
            0..3 => flip(rng, frame, 60),
            // Version, lengths, fragment, TTL, protocol of either family.
            3..5 => {
                let at = rng.usize(12..24);
                if let Some(byte) = frame.get_mut(at) {
                    *byte = pick(rng, &[0, 1, 0x14, 0x28, 0x40, 0x45, 0x60, 0x7f, 0x80, 0xff]);
                }
            }
            5 => frame.truncate(rng.usize(14..=frame.len().max(14))),
            6 => frame.extend(std::iter::repeat_n(0, rng.usize(..32))),
            _ => flip(rng, frame, usize::MAX),
        }
    }
}

fn flip(rng: &mut Rng, frame: &mut [u8], within: usize) {
    let end = frame.len().min(within);
    if let Some(byte) = frame.get_mut(rng.usize(..end.max(1))) {
        *byte ^= 1 << rng.u8(..8);
    }
}
