//! Numbers that stay, plans that are empty, and failovers that are one write (R14, S21).

use ipnet::Ipv4Net;
use netroute_common::layout::route::{FIRST_FREE_ID, FIRST_OWN_STATS, Route, UNCOUNTED};
use netroute_user::apply::check_capacity;
use netroute_user::compile::Gateway;
use netroute_user::kernel::NeighbourState;
use netroute_user::plan::{Step, diff, failover};

use super::world::{ETH1, World, ip};

#[test]
fn compiling_what_is_installed_changes_nothing() {
    let mut world = World::appliance();
    world.cameras();
    world.route("192.168.20.0/24", "10.128.44.1", "Port2", 200);
    let first = world.install();
    let again = world.compile();
    assert_eq!(diff(&first.image, &again.image).steps, []);
}

#[test]
fn another_route_leaves_the_first_ones_numbers_and_counters_alone() {
    let mut world = World::appliance();
    world.cameras();
    let first = world.install().image;
    world.route("10.9.0.0/16", "192.168.20.1", "Port3", 100);
    let second = world.compile().image;
    let prefix = "192.168.20.0/24".parse().expect("prefix");
    assert_eq!(first.routes4[&prefix], second.routes4[&prefix]);
    let steps = diff(&first, &second).steps;
    let new = second.routes4[&"10.9.0.0/16".parse().expect("prefix")];
    assert_eq!(new.group, first.routes4[&prefix].group, "the same next hop is the same group");
    let expected = [
        Step::ResetRouteStats { slot: new.stats },
        Step::SetRoute4 { prefix: "10.9.0.0/16".parse().expect("prefix"), route: new },
        Step::SetRoot4 { index: 10, block: second.strides.root[&10].clone() },
    ];
    assert_eq!(steps, expected);
}

#[test]
fn s21_after_a_smaller_limit_the_counters_beyond_it_are_given_up() {
    let mut world = World::appliance();
    for number in 0..8 {
        world.route(&format!("20.0.{number}.0/24"), "192.168.20.1", "Port3", 100);
    }
    let before = world.install().image;
    world.limits.route_stats = FIRST_OWN_STATS + 4;
    // What lies below the limit is in use: the others go uncounted as long as it is.
    let after = world.install().image;
    assert_eq!(check_capacity(&after, &world.limits), Ok(()));
    assert_eq!(after.routes4.keys().collect::<Vec<_>>(), before.routes4.keys().collect::<Vec<_>>());
    let kept =
        |(prefix, route): &(&Ipv4Net, &Route)| route.stats != UNCOUNTED && before.routes4[*prefix] == **route;
    assert_eq!(after.routes4.iter().filter(kept).count(), 4);
}

#[test]
fn s21_a_freed_number_rests_for_one_compilation() {
    let mut world = World::appliance();
    world.cameras();
    let first = world.install().image;
    let old = first.routes4[&"192.168.20.0/24".parse().expect("prefix")];
    world.desired.routes.clear();
    world.neighbour(ETH1, "172.16.3.2", NeighbourState::Reachable);
    world.kernel.neighbours.retain(|key, _| key.address != ip("192.168.20.1"));
    world.route("192.168.21.0/24", "172.16.3.9", "Port3", 100);
    let second = world.compile().image;
    let new = second.routes4[&"192.168.21.0/24".parse().expect("prefix")];
    assert_ne!(new.group, old.group);
    assert_ne!(new.stats, old.stats);
    assert!(new.group >= FIRST_FREE_ID && new.stats != UNCOUNTED);
}

#[test]
fn r14_a_failover_is_one_write_whatever_the_number_of_routes() {
    for count in [1u32, 1_000, 100_000] {
        let mut world = World::appliance();
        for number in 0..count {
            let [_, a, b, c] = number.to_be_bytes();
            world.route(&format!("20.{a}.{b}.{c}/32"), "192.168.20.1", "Port3", 100);
            world.route(&format!("20.{a}.{b}.{c}/32"), "10.128.44.1", "Port2", 200);
        }
        let installed = world.install().image;
        let plan = failover::interface_down(&installed, ETH1);
        assert_eq!(plan.steps.len(), 1, "{count} routes");
        let mut failed = installed.clone();
        plan.steps.iter().for_each(|step| step.apply_to(&mut failed));
        assert_eq!(failover::interface_down(&failed, ETH1).steps, [], "nothing is left to fail");
        // The full compilation afterwards agrees with the short way.
        world.installed = failed.clone();
        world.link(ETH1).carrier = false;
        assert_eq!(diff(&failed, &world.compile().image).steps, [], "{count} routes");
    }
}

#[test]
fn r14_one_gateway_fails_without_its_interface() {
    let mut world = World::appliance();
    world.cameras();
    world.neighbour(ETH1, "172.16.3.2", NeighbourState::Reachable);
    world.route("10.9.0.0/16", "172.16.3.2", "Port3", 100);
    let installed = world.install().image;
    let plan = failover::gateway_down(&installed, Gateway { ifindex: ETH1, address: ip("192.168.20.1") });
    let [Step::SetNextHop { next_hop, .. }] = plan.steps.as_slice() else { panic!("{:?}", plan.steps) };
    assert_eq!((next_hop.alive, &next_hop.gateway[..4]), (0, &[192, 168, 20, 1][..]));
    assert_ne!(next_hop.destination_mac, [0; 6], "kept, so that it is reported dead and not unresolved");
}
