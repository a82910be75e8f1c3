//! A packet and its tables as a vector, to be saved once it has shown something.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use netroute_common::layout::route::{Group, Member, NextHop};
use netroute_common::verdict::{Exit, Hook, Verdict};

use crate::vectors::{
    Case, ExitText, Expect, GroupText, HookText, Input, Interface, MemberText, NextHopText, PacketText,
    RouteText, TableSet, TablesText, Vector, judge_on_host, kind_name, to_hexadecimal,
};

/// The text of [`as_vector`].
pub fn dump(tables: &TableSet, hook: Hook, input: &Input) -> Result<String> {
    Ok(toml::to_string(&as_vector(tables, hook, input)?)?)
}

/// A vector that expects what the host says.
pub fn as_vector(tables: &TableSet, hook: Hook, input: &Input) -> Result<Vector> {
    let packet = PacketText {
        raw: Some(to_hexadecimal(&input.frame)),
        segment: input.segment,
        nic_vlan_tag: input.nic_vlan_tag.then_some(true),
        ..PacketText::default()
    };
    let case = Case {
        name: "as found".into(),
        hooks: None,
        packet,
        cuts: None,
        expect: expect(tables, hook, input)?,
        host_only: None,
    };
    Ok(Vector {
        name: "What this packet shows".into(),
        covers: vec!["R12".into()],
        hooks: vec![HookText::of(hook)],
        tables: texts(tables)?,
        cases: vec![case],
        stories: Vec::new(),
        ecmp: None,
    })
}

fn expect(tables: &TableSet, hook: Hook, input: &Input) -> Result<Expect> {
    let host = tables.on_host();
    let (verdict, _) = judge_on_host(&host, hook, input);
    let reason = verdict.reason().name().to_owned();
    let Verdict::Forward(exit) = verdict else {
        return Ok(Expect { reason, ..Expect::default() });
    };
    let exit = match exit {
        Exit::SameNic => ExitText::SameNic,
        Exit::Port(_) | Exit::Interface(_) => ExitText::Interface,
        Exit::Pod(_) => ExitText::Pod,
    };
    let counted = host.counted();
    let id = counted.next_hops.keys().next().context("forwarded, but no next hop counted")?;
    let key = route(tables, input)?;
    let slot = counted.routes.keys().next();
    let place = slot.map(|slot| slot.wrapping_sub(tables.routes[&key].stats));
    let route = Some(format!("{}/{}", key.0, key.1));
    Ok(Expect { reason, via: Some(next_hop_name(*id)), exit: Some(exit), route, place, ..Expect::default() })
}

/// The longest prefix of the destination, found by asking them all.
fn route(tables: &TableSet, input: &Input) -> Result<(IpAddr, u8)> {
    let octets = |range: std::ops::Range<usize>| input.frame.get(range).context("no IP header");
    let v6 = input.frame.get(12) == Some(&0x86);
    let bits = |address: &IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    let destination = if v6 {
        u128::from_be_bytes(octets(38..54)?.try_into()?)
    } else {
        u128::from(u32::from_be_bytes(octets(30..34)?.try_into()?)) << 96
    };
    let matching = tables.routes.keys().filter(|(address, length)| {
        let differing = (bits(address) ^ destination).leading_zeros();
        address.is_ipv6() == v6 && differing >= u32::from(*length)
    });
    matching.max_by_key(|(_, length)| *length).copied().context("forwarded without a route")
}

fn texts(tables: &TableSet) -> Result<TablesText> {
    let TableSet { routes, groups, next_hops, ports, names: _, services } = tables;
    let empty = Interface::ALL.iter().filter(|interface| !ports.contains_key(&interface.port));
    let next_hops = next_hops.iter().map(|(&id, entry)| Ok((next_hop_name(id), next_hop(id, entry)?)));
    Ok(TablesText {
        empty_ports: empty.map(|interface| interface.name.to_owned()).collect(),
        next_hops: next_hops.collect::<Result<_>>()?,
        groups: groups.iter().map(|(&id, entry)| (format!("g{id:02}"), group(id, entry))).collect(),
        routes: routes
            .iter()
            .map(|((address, length), route)| {
                (format!("{address}/{length}"), RouteText::Ids { group: route.group, stats: route.stats })
            })
            .collect::<BTreeMap<_, _>>(),
        services: services.text.clone(),
    })
}

fn next_hop_name(id: u32) -> String {
    format!("n{id:02}")
}

fn next_hop(id: u32, entry: &NextHop) -> Result<NextHopText> {
    let interface = Interface::with_index(entry.ifindex).context("a next hop on no known interface")?;
    Ok(NextHopText {
        interface: interface.name.into(),
        kind: kind_name(entry.kind),
        mac: to_hexadecimal(&entry.destination_mac),
        source_mac: Some(to_hexadecimal(&entry.source_mac)),
        mtu: entry.mtu,
        alive: entry.alive != 0,
        xdp: entry.xdp != 0,
        port: Some(entry.port),
        gateway: Some(gateway(entry)),
        id: Some(id),
    })
}

fn gateway(entry: &NextHop) -> IpAddr {
    let [a, b, c, d, ..] = entry.gateway;
    if entry.family == 6 { entry.gateway.into() } else { [a, b, c, d].into() }
}

fn group(id: u32, entry: &Group) -> GroupText {
    let member = |member: &Member| MemberText {
        next_hop: None,
        id: Some(member.next_hop),
        tier: member.tier,
        weight: member.weight,
    };
    let written = entry.members.iter().rposition(|member| *member != Member::default());
    let members = entry.members.iter().take(written.map_or(0, |last| last + 1));
    GroupText { members: members.map(member).collect(), len: Some(entry.len), id: Some(id) }
}
