//! Random Services, and packets to them, of their flows and to their endpoints.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use fastrand::Rng;
use netroute_common::host::HostTables;
use netroute_common::layout::flow::{FlowKey4, FlowKey6, PeerKey};
use netroute_common::layout::route::{KIND_LOCAL, KIND_SERVICE, NextHop};
use netroute_common::layout::service::{Address, FrontEndKey};

use super::dump::next_hop_name;
use super::egress::echo;
use super::tables::pick;
use crate::vectors::{
    BackendText, FragmentText, FrontEndText, Input, MasqueradeText, MessageText, NIC, OverrideText,
    PacketText, ServicesText, TableSet,
};

const PORTS: [u16; 3] = [80, 443, 8080];
const CLIENT_PORTS: [u16; 8] = [1, 700, 1024, 4000, 4001, 50_000, 50_003, 65_535];
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];
const TCP_FLAGS: [&str; 8] = ["syn", "syn", "syn ack", "ack", "ack", "fin ack", "rst", "psh ack"];

/// Puts Services into tables of routes.
pub fn random_services(rng: &mut Rng, set: &mut TableSet) -> Result<()> {
    for (prefix, length, kind) in [
        (service_address(false, 0), 24, KIND_SERVICE),
        (service_address(true, 0), 112, KIND_SERVICE),
        (node_address(false), 32, KIND_LOCAL),
        (node_address(true), 128, KIND_LOCAL),
    ] {
        set.add_fixed_route((prefix, length), kind);
    }
    let text = text(rng, set);
    set.services = text.compile()?;
    for name in &text.peers {
        let on_nic = set.next_hops.iter().find(|(id, _)| next_hop_name(**id) == *name);
        let Some((&id, &NextHop { ifindex, destination_mac: mac, .. })) = on_nic else { continue };
        set.services.peers.insert(PeerKey { ifindex, mac, zero: 0 }, id);
    }
    Ok(())
}

fn text(rng: &mut Rng, set: &TableSet) -> ServicesText {
    let mut text = ServicesText::default();
    for number in 0..rng.u8(1..12) {
        let at = SocketAddr::new(endpoint(rng, set), pick(rng, &[80, 5353, 8080]));
        let backend = BackendText { at, local: rng.u8(..) < 60, generation: rng.u32(..3) };
        text.backends.insert(format!("b{number:02}"), backend);
    }
    for number in 0..rng.u8(4..24) {
        let front_end = front_end(rng, &text);
        // Two at one place are refused: the first stays.
        text.front_ends.insert(format!("f{number:02}"), front_end);
        if text.compile().is_err() {
            text.front_ends.remove(&format!("f{number:02}"));
        }
    }
    for interface in ["node", "nic", "out", "other", "pod"] {
        if rng.u8(..) < 200 {
            text.masquerade.insert(interface.into(), masquerade(rng));
        }
    }
    let on_nic = set.next_hops.iter().filter(|(_, next_hop)| next_hop.ifindex == NIC.index);
    text.peers = on_nic.map(|(id, _)| next_hop_name(*id)).filter(|_| rng.bool()).collect();
    text
}

fn endpoint(rng: &mut Rng, set: &TableSet) -> IpAddr {
    let v6 = rng.bool();
    match rng.u8(..) {
        0..220 => known(rng, set, v6),
        220..240 => node_address(v6),
        _ => service_address(v6, 1),
    }
}

/// Behind some route, mostly.
pub(super) fn known(rng: &mut Rng, set: &TableSet, v6: bool) -> IpAddr {
    let all: Vec<IpAddr> =
        set.routes.keys().map(|(address, _)| *address).filter(|address| address.is_ipv6() == v6).collect();
    match pick(rng, &all) {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits() ^ rng.u32(..2)).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() ^ u128::from(rng.u8(..2))).into(),
    }
}

fn front_end(rng: &mut Rng, text: &ServicesText) -> FrontEndText {
    let v6 = rng.bool();
    let address = if rng.u8(..) < 40 { node_address(v6) } else { service_address(v6, rng.u8(..4)) };
    if rng.u8(..) < 40 {
        let flags = if rng.bool() { vec!["echo".into()] } else { Vec::new() };
        return FrontEndText { at: address.to_string(), flags, ..FrontEndText::default() };
    }
    let same = |name: &&String| text.backends[*name].at.is_ipv6() == v6;
    let names: Vec<&String> = text.backends.keys().filter(same).collect();
    let mut backends = Vec::new();
    for _ in 0..rng.usize(..6) {
        match rng.u8(..) {
            0..4 => backends.push("40".into()),
            _ if names.is_empty() => {}
            _ => backends.push(pick(rng, &names).clone()),
        }
    }
    let flags =
        ["drop", "masquerade", "echo"].into_iter().filter(|_| rng.bool()).map(str::to_owned).collect();
    let ranges = [format!("{}/{}", client(v6, 0), if v6 { 127 } else { 31 })];
    FrontEndText {
        at: SocketAddr::new(address, pick(rng, &PORTS)).to_string(),
        protocol: Some(pick(rng, &PROTOCOLS).into()),
        scope: pick(rng, &[None, None, Some("external"), Some("internal")]).map(str::to_owned),
        service: Some(format!("s{}", rng.u8(..8))),
        backends,
        flags,
        affinity: pick(rng, &[0, 0, 60]),
        source_ranges: (rng.u8(..) < 40).then(|| ranges.to_vec()),
    }
}

fn masquerade(rng: &mut Rng) -> MasqueradeText {
    let address = |v6: bool| match node_address(v6) {
        IpAddr::V4(address) => (Some(address), None),
        IpAddr::V6(address) => (None, Some(address)),
    };
    MasqueradeText {
        address4: address(false).0.filter(|_| rng.u8(..) < 230),
        address6: address(true).1.filter(|_| rng.u8(..) < 230),
        first_port: 50_000,
        ports: pick(rng, &[0, 1, 4, 4, 1000]),
    }
}

/// A packet that Services may have to do with; the flows are those that came of the packets before.
pub fn random_service_input(rng: &mut Rng, set: &TableSet, host: &HostTables) -> Result<Input> {
    let mut input = random_service_text(rng, set, host).build()?;
    if rng.u8(..) < 12 {
        super::packets::damage(rng, &mut input.frame);
    }
    Ok(input)
}

pub(super) fn random_service_text(rng: &mut Rng, set: &TableSet, host: &HostTables) -> PacketText {
    let flows4: Vec<FlowKey4> = host.services.flows4.borrow().keys().map(|(_, key)| *key).collect();
    let flows6: Vec<FlowKey6> = host.services.flows6.borrow().keys().map(|(_, key)| *key).collect();
    let text = match rng.u8(..) {
        0..80 if !flows4.is_empty() => {
            let key = pick(rng, &flows4);
            let (source, destination) = (Address::v4(key.source), Address::v4(key.destination));
            let ports = (key.source_port, key.destination_port);
            of_flow(rng, (ip(source), ip(destination)), ports, key.protocol as u8)
        }
        80..160 if !flows6.is_empty() => {
            let key = pick(rng, &flows6);
            let ports = (key.source_port, key.destination_port);
            of_flow(rng, (ip(key.source), ip(key.destination)), ports, key.protocol as u8)
        }
        _ => to_front_end(rng, set),
    };
    let mut text = text;
    let peers: Vec<[u8; 6]> = set.services.peers.keys().map(|peer| peer.mac).collect();
    if !peers.is_empty() && rng.bool() {
        text.from = Some(pick(rng, &peers).map(|octet| format!("{octet:02x}")).join(":"));
    }
    text
}

fn to_front_end(rng: &mut Rng, set: &TableSet) -> PacketText {
    let keys: Vec<&FrontEndKey> = set.services.front_ends.keys().collect();
    let known_one = (!keys.is_empty() && rng.u8(..) < 235).then(|| *pick(rng, &keys));
    let (destination, port, protocol) = match known_one {
        Some(FrontEndKey { address, port, protocol, .. }) => (ip(address), port, protocol),
        None => (service_address(rng.bool(), rng.u8(..6)), rng.u16(..), pick(rng, &[6, 17, 132])),
    };
    let v6 = destination.is_ipv6();
    let backends = set.services.backends.values().map(|backend| ip(backend.address));
    let endpoints: Vec<IpAddr> = backends.filter(|address| address.is_ipv6() == v6).collect();
    let source = match rng.u8(..) {
        0..30 if !endpoints.is_empty() => pick(rng, &endpoints),
        30..150 => known(rng, set, v6),
        _ => client(v6, rng.u8(..4)),
    };
    let from = pick(rng, &CLIENT_PORTS);
    packet(rng, (source, destination), (from, port), protocol)
}

/// A packet of a flow, or an error about one that goes the other way.
fn of_flow(
    rng: &mut Rng,
    (source, destination): (IpAddr, IpAddr),
    (from, to): (u16, u16),
    protocol: u8,
) -> PacketText {
    if rng.u8(..) >= 40 {
        return packet(rng, (source, destination), (from, to), protocol);
    }
    let whole = packet(rng, (destination, source), (to, from), protocol);
    let quote = PacketText { payload: Some(8), fragment: None, extensions: None, ..whole };
    let v6 = source.is_ipv6();
    let kind = if v6 { pick(rng, &[1, 2, 3, 4, 129]) } else { pick(rng, &[3, 4, 11, 12, 5]) };
    let sender = if rng.bool() { source } else { client(v6, rng.u8(..4)) };
    let outer = if rng.u8(..) < 240 { destination } else { client(v6, rng.u8(..4)) };
    let message = MessageText { kind, rest: 1400, quote: Some(Box::new(quote)), ..MessageText::default() };
    PacketText {
        ip: Some(format!("{sender} -> {outer}")),
        icmp_message: Some(message),
        ttl: Some(pick(rng, &[64, 64, 64, 1])),
        ..PacketText::default()
    }
}

pub(super) fn packet(
    rng: &mut Rng,
    (source, destination): (IpAddr, IpAddr),
    (from, to): (u16, u16),
    protocol: u8,
) -> PacketText {
    let mut text = PacketText {
        ip: Some(format!("{source} -> {destination}")),
        ttl: Some(pick(rng, &[64, 64, 64, 64, 64, 64, 255, 2, 1])),
        payload: Some(rng.usize(..40)),
        ..PacketText::default()
    };
    let ports = Some(format!("{from} -> {to}"));
    match protocol {
        6 => (text.tcp, text.tcp_flags) = (ports, Some(pick(rng, &TCP_FLAGS).into())),
        17 => text.udp = ports,
        132 => text.sctp = ports,
        1 | 58 if rng.u8(..) < 230 => text.echo = Some(echo((from, to))),
        _ if rng.bool() => text.icmp = Some(true),
        _ => text.protocol = Some(pick(rng, &[1, 47, 50, 58])),
    }
    if source.is_ipv4() && protocol == 17 && rng.u8(..) < 20 {
        text.overrides = Some(vec![OverrideText { at: 40, bytes: "0000".into() }]);
    }
    if rng.u8(..) < 6 {
        text.fragment = Some(FragmentText { offset: rng.u16(..3) * 8, more: rng.bool(), id: 7 });
        text.extensions = source.is_ipv6().then(|| vec!["fragment".into()]);
        text.overrides = None;
    }
    text
}

pub(super) fn service_address(v6: bool, number: u8) -> IpAddr {
    if v6 { [0xfd96, 0, 0, 0, 0, 0, 0, number.into()].into() } else { [10, 96, 0, number].into() }
}

pub(super) fn node_address(v6: bool) -> IpAddr {
    if v6 { [0xfd97, 0, 0, 0, 0, 0, 0, 1].into() } else { [10, 97, 0, 1].into() }
}

pub(super) fn client(v6: bool, number: u8) -> IpAddr {
    if v6 { [0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()].into() } else { [192, 0, 2, number].into() }
}

fn ip(address: Address) -> IpAddr {
    IpAddr::from(address.octets).to_canonical()
}
