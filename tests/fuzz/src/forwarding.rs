//! What must hold of every packet, whatever is in it: said of the frame and the tables alone, by
//! the simplest means, and nothing taken from the packet logic.

use std::net::IpAddr;

use netroute_common::host::Counted;
use netroute_common::layout::route::{Group, KIND_NEIGHBOUR, KIND_POD, MAX_MEMBERS, NextHop, Route};
use netroute_common::layout::stats::Counter;
use netroute_common::verdict::{Exit, Hook, Verdict};
use netroute_tests::vectors::{Bounds, Input, NIC_MAC, TableSet, judge_on_host};

use crate::story::Story;

const IP_AT: usize = 14;
/// The interface every packet comes in on.
const NIC_INDEX: u32 = 11;

/// Panics if the packet logic does something to this packet that it must not do.
pub fn check(story: &Story) {
    let Story { tables, hook, input, .. } = story;
    let (verdict, frame, counted) = judge(tables, *hook, input);
    let one = Counter { packets: 1, bytes: input.frame.len() as u64 };
    assert_eq!(counted.verdicts.into_iter().collect::<Vec<_>>(), [(verdict.reason(), one)], "counted once");
    match verdict {
        Verdict::Answer(_) => assert!(counted.next_hops.is_empty() && counted.routes.is_empty()),
        Verdict::Pass(_) | Verdict::Drop(_) => {
            assert_eq!(frame, input.frame, "what goes up or is dropped is what came in");
            assert!(counted.next_hops.is_empty() && counted.routes.is_empty(), "nothing was sent");
        }
        Verdict::Forward(exit) => {
            let id = *counted.next_hops.keys().next().expect("a next hop");
            assert_eq!(counted.next_hops.values().copied().collect::<Vec<_>>(), [one]);
            assert!(counted.routes.values().all(|counter| *counter == one));
            let next_hop = tables.next_hops.get(&id).expect("an entry that somebody wrote");
            arrived_here(*hook, input);
            leaves_by(exit, *hook, next_hop, tables);
            rewritten(input, &frame, next_hop);
            fits(input, next_hop);
            chosen(story, id);
        }
    }
}

fn judge(tables: &TableSet, hook: Hook, input: &Input) -> (Verdict, Vec<u8>, Counted) {
    let host = tables.on_host();
    let (verdict, frame) = judge_on_host(&host, hook, input);
    let counted = host.counted();
    (verdict, frame, counted)
}

fn arrived_here(_hook: Hook, input: &Input) {
    assert_eq!(input.frame.get(..6), Some(&NIC_MAC[..]), "addressed to this NIC");
    assert!(!input.nic_vlan_tag, "not tagged");
}

fn leaves_by(exit: Exit, hook: Hook, next_hop: &NextHop, tables: &TableSet) {
    assert_ne!(next_hop.alive, 0, "alive");
    let at_xdp = hook == Hook::XdpNic;
    match exit {
        Exit::SameNic => assert!(at_xdp && next_hop.ifindex == NIC_INDEX),
        Exit::Port(slot) => {
            assert!(at_xdp && next_hop.xdp != 0 && next_hop.port == slot && next_hop.ifindex != NIC_INDEX);
            assert!(tables.ports.contains_key(&slot), "a redirect into an empty slot is silent");
        }
        Exit::Interface(ifindex) => {
            assert!(!at_xdp && next_hop.ifindex == ifindex && next_hop.kind == KIND_NEIGHBOUR);
        }
        Exit::Onward => assert_eq!(hook, Hook::TcOut),
        Exit::Pod(ifindex) => assert!(!at_xdp && next_hop.ifindex == ifindex && next_hop.kind == KIND_POD),
    }
}

/// MACs, one from the TTL, and the checksum by as much; not a bit more.
fn rewritten(input: &Input, frame: &[u8], next_hop: &NextHop) {
    let before = &input.frame;
    assert_eq!(frame.len(), before.len(), "length");
    let mut expected = before.clone();
    expected[..6].copy_from_slice(&next_hop.destination_mac);
    expected[6..12].copy_from_slice(&next_hop.source_mac);
    let (ttl_at, is_v4) = match before[12..14] {
        [0x08, 0x00] => (IP_AT + 8, true),
        [0x86, 0xdd] => (IP_AT + 7, false),
        ref other => panic!("ethertype {other:02x?} is not IP"),
    };
    assert!(before[ttl_at] > 1, "a TTL of {} ends here", before[ttl_at]);
    expected[ttl_at] -= 1;
    if is_v4 {
        assert_eq!(before[IP_AT], 0x45, "version 4, no options");
        let header = IP_AT..IP_AT + 20;
        assert_eq!(
            sum(&frame[header.clone()]),
            sum(&before[header]),
            "valid stays valid, invalid stays invalid"
        );
        expected[IP_AT + 10..IP_AT + 12].copy_from_slice(&frame[IP_AT + 10..IP_AT + 12]);
    } else {
        assert_eq!(before[IP_AT] >> 4, 6, "version 6");
        assert_ne!(before[IP_AT + 6], 0, "hop-by-hop options are every router's business");
    }
    assert_eq!(frame, expected);
    no_martian(before, is_v4);
}

fn no_martian(frame: &[u8], is_v4: bool) {
    let source = &frame[if is_v4 { IP_AT + 12..IP_AT + 16 } else { IP_AT + 8..IP_AT + 24 }];
    let martian = match address(source) {
        IpAddr::V4(source) => source.octets()[0] == 0 || source.is_loopback() || source.octets()[0] >= 224,
        IpAddr::V6(source) => {
            source.is_unspecified()
                || source.is_loopback()
                || source.is_multicast()
                || source.is_unicast_link_local()
                || source.to_ipv4_mapped().is_some()
        }
    };
    assert!(!martian, "martian source {:?}", address(source));
}

/// By its own length field, and by the next hop's MTU.
fn fits(input: &Input, next_hop: &NextHop) {
    if input.segment.is_some() {
        return;
    }
    let available = input.frame.len() - IP_AT;
    let field =
        |at: usize| usize::from(u16::from_be_bytes([input.frame[IP_AT + at], input.frame[IP_AT + at + 1]]));
    let (said, least) = if input.frame[IP_AT] >> 4 == 4 { (field(2), 20) } else { (field(4) + 40, 40) };
    assert!(said >= least && said <= available, "says {said} of {available} bytes");
    assert!(available <= next_hop.mtu as usize, "{available} bytes for an MTU of {}", next_hop.mtu);
}

/// Longest prefix, best tier, and a choice that only the death of its own next hop changes.
fn chosen(story: &Story, id: u32) {
    let Story { tables, hook, input, .. } = story;
    let is_v4 = input.frame[12..14] == [0x08, 0x00];
    let destination =
        address(&input.frame[if is_v4 { IP_AT + 16..IP_AT + 20 } else { IP_AT + 24..IP_AT + 40 }]);
    let Route { group, .. } = longest(tables, destination).expect("a route");
    let group = tables.groups.get(&group).expect("a group that somebody wrote");
    let members = members(group);
    let tier = |id: u32| members.iter().filter(|member| member.0 == id).map(|member| member.1).min();
    let alive = |id: u32| tables.next_hops.get(&id).is_some_and(|next_hop| next_hop.alive != 0);
    let best = members.iter().filter(|member| alive(member.0)).map(|member| member.1).min();
    // The agent writes members in the order of their metric; of others nothing is promised.
    if members.is_sorted_by_key(|member| member.1) {
        assert_eq!(tier(id), best, "the best living tier of {members:?}");
    }

    for dead in members.iter().map(|member| member.0).filter(|&other| other != id && alive(other)).take(2) {
        let mut fewer = TableSet::clone(tables);
        fewer.next_hops.entry(dead).and_modify(|next_hop| next_hop.alive = 0);
        let (_, _, counted) = judge(&fewer, *hook, input);
        assert!(counted.next_hops.contains_key(&id), "moved from {id} when {dead} died");
    }
    let mut fewer = TableSet::clone(tables);
    fewer.next_hops.entry(id).and_modify(|next_hop| next_hop.alive = 0);
    let (_, _, counted) = judge(&fewer, *hook, input);
    assert!(!counted.next_hops.contains_key(&id), "sent to {id}, which is dead");
}

/// Next hop and tier of those that count: an entry that cannot be ends the group.
fn members(group: &Group) -> Vec<(u32, u8)> {
    let len = (group.len as usize).min(MAX_MEMBERS);
    let known = group.members[..len].iter().take_while(|member| member.next_hop < Bounds::NEXT_HOPS);
    known.map(|member| (member.next_hop, member.tier)).collect()
}

fn longest(tables: &TableSet, destination: IpAddr) -> Option<Route> {
    let matches = |&(&(prefix, length), _): &(&(IpAddr, u8), &Route)| match (prefix, destination) {
        (IpAddr::V4(prefix), IpAddr::V4(destination)) => {
            let shift = 32 - u32::from(length);
            (prefix.to_bits() ^ destination.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(prefix), IpAddr::V6(destination)) => {
            let shift = 128 - u32::from(length);
            (prefix.to_bits() ^ destination.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        _ => false,
    };
    let found = tables.routes.iter().filter(matches).max_by_key(|((_, length), _)| *length);
    found.map(|(_, route)| *route)
}

fn address(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(octets) => octets.into(),
        Err(_) => <[u8; 16]>::try_from(bytes).expect("4 or 16 octets").into(),
    }
}

/// One's complement sum of 16-bit words (RFC 1071), with 0 for 0xffff, which means the same.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    words.fold(0, |sum, word| (sum + word) % 0xffff)
}
