//! What a policy asks of the node, and what becomes of it where that is missing.

use netroute_common::layout::egress::{ACTION_SNAT, POLICY_REJECT};
use netroute_user::kernel::NeighbourState;

use super::super::world::{ETH1, link};
use super::*;

const SIX: &str = "fd00:244::10";

/// The entry of the policy.
fn entry(world: &World, name: &str) -> Policy {
    let compiled = world.compile();
    let stats = compiled.egress.statuses[name].stats[0];
    compiled.image.egress.policies[&stats]
}

#[test]
fn e5_a_policy_leaves_with_its_addresses_as_long_as_the_node_has_them() {
    let mut world = World::with_pods();
    world.address(ETH1, "172.16.3.50/24", true);
    let four = "to: {cidrs: [192.168.0.0/16]}, action: Snat, snat: ";
    world.policy("nat", &format!("{four}{{addresses: [172.16.3.50, 172.16.3.11]}}"));
    let expected = Judgement::Snat(vec![ip("172.16.3.50"), ip("172.16.3.11")]);
    assert_eq!(world.judges(WEB, "192.168.20.1", 80), expected);
    assert_eq!(world.said("nat"), (State::Ready, String::new()));
    let image = world.compile().image.egress;
    assert!(image.snat.values().flat_map(|run| run.iter()).all(|one| one.ifindex == ETH1 && one.ports > 0));

    world.policy("nat", &format!("{four}{{addresses: [172.16.3.77]}}"));
    assert_eq!(world.judges(WEB, "192.168.20.1", 80), DEGRADED);
    let (state, said) = world.said("nat");
    assert_eq!(state, State::Degraded);
    assert_eq!(
        said,
        "the address 172.16.3.77 is on no interface of this node that the traffic can leave by\n\
         snat has no IPv4 address that can be used: such traffic is denied"
    );
    world.address(ETH1, "172.16.3.77/24", true);
    assert_eq!(world.judges(WEB, "192.168.20.1", 80), Judgement::Snat(vec![ip("172.16.3.77")]));
}

#[test]
fn e5_an_address_of_a_pods_interface_is_none_to_leave_with() {
    let mut world = World::with_pods();
    world.address(POD, "172.31.1.1/32", true);
    world.policy("nat", "to: {cidrs: [192.168.0.0/16]}, action: Snat, snat: {addresses: [172.31.1.1]}");
    assert_eq!(world.judges(WEB, "192.168.20.1", 80), DEGRADED);
}

#[test]
fn e4_the_ip_version_that_has_no_address_is_denied() {
    let mut world = World::with_pods();
    world.policy("nat", "action: Snat, snat: {addresses: [172.16.3.11]}");
    assert_eq!(world.judges(WEB, "8.8.8.8", 80), Judgement::Snat(vec![ip("172.16.3.11")]));
    assert_eq!(world.judges(SIX, "2001:db8::1", 80), DEGRADED);
    let (state, said) = world.said("nat");
    assert_eq!(
        (state, said.as_str()),
        (State::Degraded, "snat has no IPv6 address that can be used: such traffic is denied")
    );
    assert_eq!(world.compile().egress.statuses["nat"].stats.len(), 2, "it has a counter for both");
}

#[test]
fn e2_next_hops_of_a_policy_are_a_group_in_order_of_their_metric() {
    let mut world = World::with_pods();
    world.neighbour(ETH1, "172.16.3.1", NeighbourState::Reachable);
    let via = "via: [{interface: port3, nextHop: 172.16.3.1, metric: 200}, {interface: Port3, nextHop: 192.168.20.1}]";
    world.policy("cameras", &format!("to: {{cidrs: [192.168.0.0/16]}}, action: Masquerade, {via}"));
    let compiled = world.compile();
    let group = compiled.image.groups[&entry(&world, "cameras").group4];
    let hops: Vec<(u8, Option<IpAddr>)> = group.members[..group.len as usize]
        .iter()
        .map(|one| {
            let hop = &compiled.image.next_hops[&one.next_hop];
            (one.tier, netroute_user::compile::next_hops::address(hop))
        })
        .collect();
    assert_eq!(hops, [(0, Some(ip("172.16.3.1"))), (1, Some(ip("192.168.20.1")))]);
    assert!(compiled.keep.iter().any(|gateway| gateway.address == ip("172.16.3.1")), "it is kept resolved");
    assert!(compiled.fib.is_empty(), "the kernel's own routes are not touched");
    assert_eq!(world.said("cameras"), (State::Ready, String::new()));

    // Both dead: nothing else is tried, and flows are not judged anew.
    let before = entry(&world, "cameras");
    world.link(ETH1).carrier = false;
    assert_eq!(entry(&world, "cameras"), before);
    let (state, said) = world.said("cameras");
    assert_eq!(state, State::Degraded);
    assert!(
        said.contains("172.16.3.1 on port3 does not answer, and no other next hop of via does"),
        "{said}"
    );
}

#[test]
fn e4_next_hops_that_cannot_be_used_deny() {
    let mut world = World::with_pods();
    let via = |interface: &str| {
        let via = format!("via: [{{interface: {interface}, nextHop: 192.168.20.1}}]");
        format!("to: {{cidrs: [192.168.0.0/16]}}, action: Masquerade, {via}")
    };
    world.policy("cameras", &via("Port9"));
    assert_eq!(world.judges(WEB, "192.168.20.1", 80), DEGRADED);
    let (state, said) = world.said("cameras");
    assert_eq!(state, State::Degraded);
    assert!(said.starts_with("via 192.168.20.1 on Port9: no interface is called Port9; see"), "{said}");
    assert!(said.ends_with("no next hop of via can be used for IPv4; such traffic is denied"), "{said}");

    world.policy("cameras", &via("Port3"));
    world.kernel.links.remove(&ETH1);
    assert_eq!(world.judges(WEB, "192.168.20.1", 80), DEGRADED);
    world.kernel.links.insert(ETH1, link(ETH1, "eth1"));
    assert_eq!(world.judges(WEB, "192.168.20.1", 80), Judgement::Masqueraded);

    world.policy("both", "action: Allow, via: [{interface: Port3, nextHop: 192.168.20.1}]");
    assert_eq!(world.judges(WEB, "8.8.8.8", 80), Judgement::Allowed);
    assert_eq!(world.judges(SIX, "2001:db8::1", 80), DEGRADED);
    assert!(world.said("both").1.starts_with("via has no IPv6 next hop: such traffic is denied; add one"));
}

#[test]
fn e5_each_next_hops_interface_asks_for_an_address() {
    let mut world = World::with_pods();
    let via = "via: [{interface: Port3, nextHop: 172.16.3.1}, {interface: Port2, nextHop: 10.128.44.1, metric: 300}]";
    let nat = |addresses| {
        format!("to: {{cidrs: [8.0.0.0/8]}}, action: Snat, snat: {{addresses: [{addresses}]}}, {via}")
    };
    world.policy("nat", &nat("172.16.3.11"));
    let (state, said) = world.said("nat");
    assert_eq!(
        (state, said.as_str()),
        (State::Degraded, "no address of snat is on Port2: IPv4 traffic that would leave there is denied")
    );
    assert_eq!(entry(&world, "nat").action, ACTION_SNAT, "the other way stays open");
    world.policy("nat", &nat("172.16.3.11, 10.128.44.11"));
    assert_eq!(world.said("nat").0, State::Ready);
}

#[test]
fn a_denial_that_is_answered_says_so() {
    let mut world = World::with_pods();
    world.policy("no", "action: Deny, deny: Reject");
    assert_eq!(entry(&world, "no").flags, POLICY_REJECT);
}
