//! A packet and its tables as a vector, to be saved once it has shown something.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use netroute_common::host::HostTables;
use netroute_common::layout::route::{Group, Member, NextHop};
use netroute_common::layout::service::ServiceCounter;
use netroute_common::layout::stats::Counter;
use netroute_common::verdict::{Exit, Hook, Reason, Verdict};

use crate::vectors::{
    ActionText, AnswerText, Case, ExitText, Expect, GroupText, HookText, Input, Interface, MemberText,
    NextHopText, PacketText, RouteText, Side, Step, Story, TableSet, TablesText, Vector, counted_egress,
    counted_services, judge_on_host, kind_name, quoted, sides, to_hexadecimal,
};

/// The text of [`as_vector`].
pub fn dump(tables: &TableSet, before: &[(Hook, Input)], hook: Hook, input: &Input) -> Result<String> {
    Ok(toml::to_string(&as_vector(tables, before, hook, input)?)?)
}

/// A vector that expects what the host says: a case, or a story if there were packets before.
pub fn as_vector(tables: &TableSet, before: &[(Hook, Input)], hook: Hook, input: &Input) -> Result<Vector> {
    let host = tables.on_host();
    let told = before.iter().map(|(hook, input)| step(tables, &host, *hook, input));
    let mut steps = told.collect::<Result<Vec<_>>>()?;
    let expect = expect(tables, &host, hook, input)?;
    let (mut cases, mut stories) = (Vec::new(), Vec::new());
    let (name, packet) = ("as found".to_owned(), packet(input));
    if before.is_empty() {
        cases.push(Case { name, hooks: None, packet, cuts: None, expect, host_only: None });
    } else {
        let (packet, expect) = (Some(packet), Some(expect));
        let hook = Some(HookText::of(hook));
        steps.push(Step { name: name.clone(), hook, packet, expect, ..Step::default() });
        stories.push(Story { name, hooks: None, host_only: None, steps });
    }
    Ok(Vector {
        name: "What this packet shows".into(),
        covers: vec!["R12".into()],
        hooks: vec![HookText::of(hook)],
        tables: texts(tables)?,
        cases,
        stories,
        ecmp: None,
    })
}

fn step(tables: &TableSet, host: &HostTables, hook: Hook, input: &Input) -> Result<Step> {
    let expect = Some(expect(tables, host, hook, input)?);
    let (hook, packet) = (Some(HookText::of(hook)), Some(packet(input)));
    Ok(Step { name: "before".into(), hook, packet, expect, ..Step::default() })
}

fn packet(input: &Input) -> PacketText {
    PacketText {
        raw: Some(to_hexadecimal(&input.frame)),
        interface: Some(input.interface.name.to_owned()),
        segment: input.segment,
        nic_vlan_tag: input.nic_vlan_tag.then_some(true),
        ..PacketText::default()
    }
}

/// What the host says of a packet after those that it has seen.
fn expect(tables: &TableSet, host: &HostTables, hook: Hook, input: &Input) -> Result<Expect> {
    let (counted, services, policies) = (host.counted(), counted_services(host), counted_egress(host));
    let (verdict, frame) = judge_on_host(host, hook, input);
    let mut expect = Expect { reason: verdict.reason().name().to_owned(), ..Expect::default() };
    expect.action = matches!(verdict, Verdict::Drop(_)).then_some(ActionText::Drop);
    let answered = matches!(verdict, Verdict::Answer(_));
    let how = match verdict.reason() {
        Reason::EchoAnswered => AnswerText::Echo,
        Reason::ServiceTooBig => AnswerText::TooBig,
        _ if is_tcp(&input.frame) => AnswerText::Reset,
        Reason::EgressRejected => AnswerText::Prohibited,
        _ => AnswerText::Unreachable,
    };
    expect.answer = answered.then_some(how);
    expect.mtu = (how == AnswerText::TooBig).then(|| mtu_in(&frame)).flatten();
    let counter = |counters: &BTreeMap<u32, ServiceCounter>, service: &u32| {
        counters.get(service).copied().unwrap_or_default()
    };
    let after = counted_services(host);
    if let Some(service) =
        after.keys().find(|&service| counter(&after, service) != counter(&services, service))
    {
        let name = tables.services.names.iter().find(|(_, index)| *index == service);
        expect.service = name.map(|(name, _)| name.clone());
        expect.new_flow = counter(&after, service).new_flows != counter(&services, service).new_flows;
    }
    let after = counted_egress(host);
    if let Some((id, counter)) = after.iter().find(|(id, counter)| policies.get(id) != Some(counter)) {
        let name = tables.egress.names.iter().find(|(_, index)| *index == id);
        expect.policy = name.map(|(name, _)| name.clone());
        expect.new_flow |= counter.new_flows != policies.get(id).map_or(0, |counter| counter.new_flows);
    }
    if !answered && let (Ok(old), Ok(new)) = (sides(&input.frame), sides(&frame)) {
        expect.source = (old.0 != new.0).then(|| written(old.0, new.0));
        expect.destination = (old.1 != new.1).then(|| written(old.1, new.1));
    }
    if !answered && let (Ok(old), Ok(new)) = (quoted(&input.frame), quoted(&frame)) {
        expect.quoted = (old != new).then_some(new);
    }
    let Verdict::Forward(exit) = verdict else { return Ok(expect) };
    let after = host.counted();
    let Some(id) = more(&counted.next_hops, &after.next_hops) else {
        ensure!(exit == Exit::Onward, "forwarded, but no next hop counted");
        return Ok(expect);
    };
    expect.exit = Some(match exit {
        Exit::SameNic => ExitText::SameNic,
        Exit::Port(_) | Exit::Interface(_) => ExitText::Interface,
        Exit::Pod(_) => ExitText::Pod,
        Exit::Onward => ExitText::Onward,
    });
    expect.via = Some(next_hop_name(id));
    expect.slot = Some(more(&counted.routes, &after.routes).unwrap_or(u32::MAX));
    Ok(expect)
}

/// As an expectation writes it: without a port where the packet shows none.
fn written(old: Side, new: Side) -> String {
    let without_ports = old.port == 0 && new.port == 0;
    if without_ports { new.address.to_string() } else { SocketAddr::new(new.address, new.port).to_string() }
}

/// What an ICMP error says of an MTU.
fn mtu_in(frame: &[u8]) -> Option<u32> {
    let v6 = frame.get(14)? >> 4 == 6;
    let at = if v6 { 58 } else { 38 };
    Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?))
}

fn is_tcp(frame: &[u8]) -> bool {
    let at = if frame.get(14).is_some_and(|first| first >> 4 == 6) { 20 } else { 23 };
    frame.get(at) == Some(&6)
}

/// The counter that counted.
fn more(before: &BTreeMap<u32, Counter>, after: &BTreeMap<u32, Counter>) -> Option<u32> {
    after.iter().find(|(slot, counter)| before.get(slot) != Some(counter)).map(|(slot, _)| *slot)
}

fn texts(tables: &TableSet) -> Result<TablesText> {
    let TableSet { routes, groups, next_hops, ports, names: _, services, egress } = tables;
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
        egress: egress.text.clone(),
    })
}

pub(super) fn next_hop_name(id: u32) -> String {
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
