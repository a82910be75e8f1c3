//! Random egress policies, and packets that leave: from pods, from the node, and their answers.

use std::net::IpAddr;

use anyhow::{Context, Result};
use fastrand::Rng;
use netroute_common::host::HostTables;
use netroute_common::layout::route::{
    FIRST_FREE_ID, Group, KIND_POD, MAX_MEMBERS, Member, NextHop, Route, UNCOUNTED,
};
use netroute_common::verdict::Hook;

use super::services::{client, known, node_address, packet, random_service_text, service_address};
use super::tables::pick;
use crate::vectors::{Bounds, EgressText, Input, Interface, NIC, PolicyText, RuleText, SnatText, TableSet};

const IDENTITIES: [&str; 3] = ["a", "b", "node"];
const PODS: u8 = 4;
const PROTOCOLS: [u8; 7] = [6, 6, 17, 17, 132, 1, 50];
const PORTS: [u16; 4] = [53, 80, 443, 8080];

/// Puts pods and egress policies into tables of routes and Services.
pub fn random_egress(rng: &mut Rng, set: &mut TableSet) -> Result<()> {
    for number in 0..PODS {
        let interface = if rng.u8(..) < 200 { NIC } else { pick(rng, &Interface::ALL) };
        let (next_hop, group) =
            (rng.u32(FIRST_FREE_ID..Bounds::NEXT_HOPS), rng.u32(FIRST_FREE_ID..Bounds::GROUPS));
        let mut members = [Member::default(); MAX_MEMBERS];
        members[0] = Member { next_hop, tier: 0, weight: 1, inverse: Member::inverse_of(1) };
        let mac = std::array::from_fn(|_| rng.u8(1..));
        let hop =
            NextHop { ifindex: interface.index, mtu: 1500, kind: KIND_POD, alive: 1, ..NextHop::default() };
        set.next_hops.insert(next_hop, NextHop { destination_mac: mac, family: 4, ..hop });
        set.groups.insert(group, Group { len: 1, members });
        for (v6, length) in [(false, 32), (true, 128)] {
            set.routes.insert((pod(v6, number), length), Route { group, stats: UNCOUNTED });
        }
    }
    let text = text(rng, set);
    let index = |name: &str| name.strip_prefix('g').and_then(|id| id.parse().ok()).context("a group's name");
    set.egress = text.compile(index)?;
    Ok(())
}

fn text(rng: &mut Rng, set: &TableSet) -> EgressText {
    let mut text = EgressText {
        in_force: rng.u8(..) < 230,
        own_sources: rng.bool(),
        default: policy(rng, set),
        pods: vec!["10.98.0.0/16".into(), "fd98::/64".into()],
        cluster: vec!["10.96.0.0/15".into(), "fd96::/15".into()],
        ..EgressText::default()
    };
    for v6 in [false, true] {
        for number in 0..PODS - 1 {
            text.sources.insert(pod(v6, number), pick(rng, &IDENTITIES[..2]).into());
        }
        text.sources.insert(node_address(v6), "node".into());
    }
    for number in 0..rng.u8(1..8) {
        text.policies.insert(format!("p{number}"), policy(rng, set));
    }
    let names: Vec<String> = text.policies.keys().cloned().chain(["default".into()]).collect();
    for identity in IDENTITIES {
        for _ in 0..rng.u8(..6) {
            let rules = (0..rng.u8(..5)).map(|_| rule(rng, &names)).collect();
            let prefix = prefix(rng, set);
            text.rules.entry(identity.into()).or_default().insert(prefix, rules);
        }
    }
    text
}

fn policy(rng: &mut Rng, set: &TableSet) -> PolicyText {
    let groups: Vec<u32> = set.groups.keys().copied().filter(|id| *id != 0).collect();
    let via = |rng: &mut Rng| (rng.u8(..) < 90).then(|| format!("g{:02}", pick(rng, &groups)));
    let flags = ["reject", "degraded"].into_iter().filter(|_| rng.u8(..) < 60).map(str::to_owned).collect();
    let snat = (0..rng.u8(..6)).map(|_| snat(rng)).collect();
    let action = pick(rng, &["allow", "allow", "masquerade", "snat", "snat", "deny"]).into();
    PolicyText { action, flags, via4: via(rng), via6: via(rng), snat }
}

fn snat(rng: &mut Rng) -> SnatText {
    let interface = pick(rng, &Interface::ALL).name.to_owned();
    let ports = pick(rng, &[0, 1, 4, 1000]);
    SnatText { address: node_address(rng.bool()), interface, first_port: 50_000, ports }
}

fn rule(rng: &mut Rng, policies: &[String]) -> RuleText {
    let policy = policies[rng.usize(..policies.len())].clone();
    let protocol = (rng.u8(..) < 170).then(|| pick(rng, &PROTOCOLS).to_string());
    let ports = (protocol.is_some() && rng.bool()).then(|| {
        let (one, other) = (pick(rng, &PORTS), pick(rng, &PORTS));
        [one.min(other), one.max(other)]
    });
    RuleText { policy, protocol, ports }
}

fn prefix(rng: &mut Rng, set: &TableSet) -> String {
    let routes: Vec<(IpAddr, u8)> = set.routes.keys().copied().collect();
    match rng.u8(..4) {
        0 => "0.0.0.0/0".into(),
        1 => "::/0".into(),
        _ => {
            let (address, length) = pick(rng, &routes);
            format!("{address}/{length}")
        }
    }
}

/// A packet that policies may have to do with; the flows are those that came of the packets before.
pub fn random_egress_input(rng: &mut Rng, set: &TableSet, host: &HostTables, hook: Hook) -> Result<Input> {
    let mut text = if rng.u8(..) < 110 {
        random_service_text(rng, set, host)
    } else {
        let v6 = rng.bool();
        let inside = match rng.u8(..) {
            0..190 => pod(v6, rng.u8(..PODS)),
            190..230 => node_address(v6),
            _ => known(rng, set, v6),
        };
        let outside = match rng.u8(..) {
            0..140 => known(rng, set, v6),
            140..220 => client(v6, rng.u8(..4)),
            _ => service_address(v6, rng.u8(..4)),
        };
        let inward = hook != Hook::TcPod && hook != Hook::TcOut && rng.u8(..) < 200;
        let sides = if inward { (outside, inside) } else { (inside, outside) };
        let from = pick(rng, &[7, 700, 4000, 50_000, 50_001]);
        let to = pick(rng, &PORTS);
        let protocol = match pick(rng, &PROTOCOLS) {
            1 if v6 => 58,
            other => other,
        };
        packet(rng, sides, (from, to), protocol)
    };
    let elsewhere = matches!(hook, Hook::TcPod | Hook::TcOut) && rng.u8(..) < 50;
    text.interface = elsewhere.then(|| pick(rng, &Interface::ALL).name.to_owned());
    let mut input = text.build()?;
    if rng.u8(..) < 12 {
        super::packets::damage(rng, &mut input.frame);
    }
    Ok(input)
}

/// An echo is told by its identifier, which stands for one of the two ports.
pub(super) fn echo(ports: (u16, u16)) -> String {
    match ports {
        (0, identifier) => format!("reply {identifier}"),
        (identifier, _) => format!("request {identifier}"),
    }
}

fn pod(v6: bool, number: u8) -> IpAddr {
    if v6 { [0xfd98, 0, 0, 0, 0, 0, 0, number.into()].into() } else { [10, 98, 0, number].into() }
}
