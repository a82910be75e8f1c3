//! Which route wins: prefix length, metric, custom or kernel (R1, R2, R8, R13, R15).

use ipnet::IpNet;
use netroute_common::layout::route::{KIND_LOCAL, KIND_UNRESOLVED, MAX_MEMBERS, fixed_id};
use netroute_common::verdict::Reason;
use netroute_user::compile::Compiled;
use netroute_user::compile::lookup::Lookup;
use netroute_user::compile::mirror::{FibKey, FibNextHop};
use netroute_user::compile::next_hops::address;
use netroute_user::compile::status::State;
use netroute_user::kernel::NeighbourState;

use super::world::{ETH0, ETH1, POD, World, ip, kernel_route};

/// Interface and gateway that packets to `to` take, or why they go up to the kernel.
fn way(compiled: &Compiled, to: &str) -> Result<(u32, std::net::IpAddr), Reason> {
    let found = Lookup(&compiled.image).find(ip(to), None).ok_or(Reason::NoRoute)?;
    let (_, next_hop) = found.next_hop?;
    address(next_hop).map(|gateway| (next_hop.ifindex, gateway)).ok_or(Reason::KernelRoute)
}

#[test]
fn r2_a_next_hop_may_lie_inside_its_own_destination() {
    let mut world = World::appliance();
    world.cameras();
    let compiled = world.compile();
    let gateway = (ETH1, ip("192.168.20.1"));
    assert_eq!(way(&compiled, "192.168.20.50"), Ok(gateway));
    assert_eq!(way(&compiled, "192.168.20.1"), Ok(gateway), "the next hop itself is on-link");
    assert_eq!(way(&compiled, "203.0.113.10"), Ok((ETH0, ip("10.128.44.1"))));
}

#[test]
fn r1_longest_prefix_first_and_metric_only_inside_one_prefix() {
    let mut world = World::appliance();
    world.neighbour(ETH1, "172.16.3.2", NeighbourState::Stale);
    world.route("192.168.0.0/16", "172.16.3.2", "Port3", 1);
    world.cameras();
    let compiled = world.compile();
    assert_eq!(
        way(&compiled, "192.168.20.50"),
        Ok((ETH1, ip("192.168.20.1"))),
        "worse metric, longer prefix"
    );
    assert_eq!(way(&compiled, "192.168.21.50"), Ok((ETH1, ip("172.16.3.2"))));
}

#[test]
fn r1_lower_metric_is_active_and_the_other_stands_by() {
    let mut world = World::appliance();
    world.cameras();
    world.route("192.168.20.0/24", "10.128.44.1", "Port2", 200);
    assert_eq!(way(&world.compile(), "192.168.20.50"), Ok((ETH1, ip("192.168.20.1"))));
    let standby = (State::Standby, "metric 100 is in use".to_owned());
    assert_eq!(world.state("192.168.20.0/24", "10.128.44.1", "Port2"), standby);
    world.link(ETH1).carrier = false;
    assert_eq!(way(&world.compile(), "192.168.20.50"), Ok((ETH0, ip("10.128.44.1"))));
    assert_eq!(world.state("192.168.20.0/24", "10.128.44.1", "Port2"), (State::Active, String::new()));
}

#[test]
fn r1_equal_metrics_share_by_weight() {
    let mut world = World::appliance();
    world.neighbour(ETH1, "172.16.3.2", NeighbourState::Reachable);
    world.cameras();
    world.route("192.168.20.0/24", "172.16.3.2", "Port3", 100).weight = 3;
    let compiled = world.compile();
    let route = compiled.image.routes4[&"192.168.20.0/24".parse().expect("prefix")];
    let group = compiled.image.groups[&route.group];
    let members: Vec<_> = group.members.iter().take(group.len as usize).map(|m| (m.tier, m.weight)).collect();
    assert_eq!(members, [(0, 3), (0, 1)], "one tier, in the order of the keys");
}

#[test]
fn more_next_hops_than_a_group_holds_are_refused_by_name() {
    let mut world = World::appliance();
    for last in 2..20 {
        world.route("192.168.20.0/24", &format!("172.16.3.{last}"), "Port3", last);
    }
    let invalid = world.compile().statuses.values().filter(|status| status.state == State::Invalid).count();
    assert_eq!(invalid, 18 - MAX_MEMBERS);
    let (state, reason) = world.state("192.168.20.0/24", "172.16.3.19", "Port3");
    assert_eq!((state, reason.as_str()), (State::Invalid, "192.168.20.0/24 has more than 16 next hops"));
}

#[test]
fn r15_the_kernels_better_route_of_the_same_prefix_stays_in_use() {
    let mut world = World::appliance();
    world.route("172.16.3.0/24", "172.16.3.2", "Port3", 100);
    let compiled = world.compile();
    let found = Lookup(&compiled.image).find(ip("172.16.3.77"), None).expect("route");
    assert_eq!(
        found.next_hop.map(|(id, _)| id),
        Ok(fixed_id(KIND_UNRESOLVED)),
        "connected: the kernel resolves"
    );
    world.neighbour(ETH1, "172.16.3.2", NeighbourState::Reachable);
    let (state, reason) = world.state("172.16.3.0/24", "172.16.3.2", "Port3");
    assert_eq!((state, reason.as_str()), (State::Standby, "the kernel's own route of metric 0 is in use"));
}

#[test]
fn addresses_of_the_node_go_up_whatever_the_routes_say() {
    let mut world = World::appliance();
    world.route("172.16.3.11/32", "172.16.3.2", "Port3", 1);
    world.neighbour(ETH1, "172.16.3.2", NeighbourState::Reachable);
    let compiled = world.compile();
    let found = Lookup(&compiled.image).find(ip("172.16.3.11"), None).expect("route");
    assert_eq!(found.next_hop.map(|(id, _)| id), Ok(fixed_id(KIND_LOCAL)));
}

#[test]
fn neighbours_on_connected_networks_complete_the_answer() {
    let mut world = World::appliance();
    world.neighbour(ETH1, "172.16.3.77", NeighbourState::Stale);
    let compiled = world.compile();
    assert_eq!(way(&compiled, "172.16.3.77"), Ok((ETH1, ip("172.16.3.77"))));
    let other = Lookup(&compiled.image).find(ip("172.16.3.78"), None).expect("route");
    assert_eq!(other.next_hop.map(|(id, _)| id), Ok(fixed_id(KIND_UNRESOLVED)));
    // A neighbour is no route of its own where a custom route covers it.
    world.cameras();
    let host: IpNet = "192.168.20.1/32".parse().expect("prefix");
    let IpNet::V4(host) = host else { unreachable!() };
    assert!(!world.compile().image.routes4.contains_key(&host));
}

#[test]
fn pods_are_delivered_by_their_host_route() {
    let world = World::appliance();
    assert_eq!(way(&world.compile(), "10.244.1.10"), Ok((POD, ip("10.244.1.10"))));
}

#[test]
fn r12_destinations_that_no_router_forwards_stay_with_the_kernel() {
    let mut world = World::appliance();
    world.kernel.routes.insert(kernel_route("169.254.0.0/16", None, ETH1, 1000));
    let compiled = world.compile();
    for to in ["127.0.0.1", "169.254.1.1", "224.0.0.5", "255.255.255.255", "fe80::1", "ff02::1", "::1"] {
        let found = Lookup(&compiled.image).find(ip(to), None).expect("route");
        assert_eq!(found.next_hop.map(|(_, hop)| hop.ifindex), Ok(0), "{to}");
    }
}

#[test]
fn r13_the_kernel_gets_every_usable_route_at_its_own_metric() {
    let mut world = World::appliance();
    world.neighbour(ETH1, "172.16.3.2", NeighbourState::Incomplete);
    world.cameras();
    world.route("192.168.20.0/24", "172.16.3.2", "Port3", 100).weight = 2;
    world.route("192.168.20.0/24", "10.128.44.1", "Port2", 200);
    let fib = world.compile().fib;
    let at = |metric| FibKey { destination: "192.168.20.0/24".parse().expect("prefix"), metric };
    let hop = |ifindex, gateway, weight| FibNextHop { ifindex, gateway: ip(gateway), weight };
    let both = vec![hop(ETH1, "172.16.3.2", 2), hop(ETH1, "192.168.20.1", 1)];
    assert_eq!(fib.get(&at(100)), Some(&both), "one being resolved is usable: the kernel does it");
    assert_eq!(fib.get(&at(200)), Some(&vec![hop(ETH0, "10.128.44.1", 1)]));
    world.neighbour(ETH1, "192.168.20.1", NeighbourState::Failed);
    world.neighbour(ETH1, "172.16.3.2", NeighbourState::Failed);
    let fib = world.compile().fib;
    assert_eq!(fib.keys().map(|key| key.metric).collect::<Vec<_>>(), [200]);
}

#[test]
fn r8_the_kernels_routes_have_no_status() {
    let mut world = World::appliance();
    world.cameras();
    assert_eq!(world.compile().statuses.len(), 1);
}
