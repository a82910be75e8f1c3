//! What becomes of each custom route (R4, R5, R6), and what fills up.

use netroute_common::layout::route::{XDP_NO_TX, XDP_REDIRECT};
use netroute_user::compile::status::State;
use netroute_user::compile::{Gateway, Suspension};
use netroute_user::kernel::NeighbourState;

use super::world::{ETH0, ETH1, World, ip, link};

const CAMERAS: (&str, &str, &str) = ("192.168.20.0/24", "192.168.20.1", "Port3");

fn cameras(world: &World) -> (State, String) {
    let (destination, next_hop, interface) = CAMERAS;
    world.state(destination, next_hop, interface)
}

fn appliance() -> World {
    let mut world = World::appliance();
    world.cameras();
    world
}

#[test]
fn r4_only_dynamic_addresses_are_refused_unless_forced() {
    let mut world = appliance();
    world.kernel.addresses.retain(|address| address.ifindex != ETH1);
    world.address(ETH1, "172.16.3.50/24", false);
    let (state, reason) = cameras(&world);
    assert_eq!(state, State::Invalid);
    assert!(
        reason.contains("eth1") && reason.contains("172.16.3.50/24") && reason.contains("--force"),
        "{reason}"
    );
    for route in world.desired.routes.values_mut() {
        route.forced = true;
    }
    assert_eq!(cameras(&world).0, State::Active);
}

#[test]
fn r5_a_port_of_a_bridge_is_refused_by_its_masters_name() {
    let mut world = appliance();
    world.kernel.links.insert(20, link(20, "br0"));
    world.link(ETH1).master = Some(20);
    let (state, reason) = cameras(&world);
    assert_eq!(state, State::Invalid);
    assert!(reason.contains("br0"), "{reason}");
}

#[test]
fn r6_a_route_waits_for_its_interface_carrier_address_and_neighbour() {
    let mut world = appliance();
    let device = world.kernel.links.remove(&ETH1).expect("link");
    assert_eq!(cameras(&world), (State::Pending, "interface Port3 does not exist yet".to_owned()));
    world.kernel.links.insert(ETH1, device);
    world.link(ETH1).carrier = false;
    assert_eq!(cameras(&world), (State::Down, "eth1 has no carrier".to_owned()));
    world.link(ETH1).carrier = true;
    world.link(ETH1).up = false;
    assert_eq!(cameras(&world), (State::Down, "eth1 is administratively down".to_owned()));
    world.link(ETH1).up = true;
    let addresses = std::mem::take(&mut world.kernel.addresses);
    assert_eq!(cameras(&world), (State::Down, "eth1 has no IPv4 address".to_owned()));
    world.kernel.addresses = addresses;
    world.neighbour(ETH1, "192.168.20.1", NeighbourState::Incomplete);
    assert_eq!(cameras(&world), (State::Pending, "resolving 192.168.20.1 on Port3".to_owned()));
    world.neighbour(ETH1, "192.168.20.1", NeighbourState::Failed);
    assert_eq!(cameras(&world).0, State::Down);
    world.neighbour(ETH1, "192.168.20.1", NeighbourState::Reachable);
    assert_eq!(cameras(&world), (State::Active, String::new()));
}

#[test]
fn an_interface_nobody_configured_is_named() {
    let mut world = World::appliance();
    world.route("192.168.20.0/24", "192.168.20.1", "Port9", 100);
    let (state, reason) = world.state("192.168.20.0/24", "192.168.20.1", "Port9");
    assert_eq!(state, State::Invalid);
    assert!(reason.starts_with("no interface is called Port9"), "{reason}");
}

#[test]
fn r14_a_silent_probe_takes_the_next_hop_out_of_maps_and_fib() {
    let mut world = appliance();
    let gateway = Gateway { ifindex: ETH1, address: ip("192.168.20.1") };
    world.suspended.insert(gateway, Suspension::Probe("no answer".to_owned()));
    assert_eq!(cameras(&world), (State::Down, "no answer".to_owned()));
    let compiled = world.compile();
    assert!(compiled.fib.is_empty());
    assert!(compiled.image.next_hops.values().any(|hop| hop.ifindex == ETH1 && hop.alive == 0));
}

#[test]
fn r14_a_held_next_hop_is_in_the_kernel_but_not_in_use() {
    let mut world = appliance();
    world.suspended.insert(Gateway { ifindex: ETH1, address: ip("192.168.20.1") }, Suspension::Held);
    assert_eq!(cameras(&world).0, State::Standby);
    let compiled = world.compile();
    assert_eq!(compiled.fib.len(), 1);
    assert!(compiled.image.next_hops.values().any(|hop| hop.ifindex == ETH1 && hop.alive == 0));
}

#[test]
fn a_full_table_refuses_custom_routes_and_keeps_the_kernels() {
    let mut world = appliance();
    let without = World::appliance().compile().image.routes4.len();
    // The host route of a neighbour makes room for one custom route, not for two.
    world.limits.routes4 = u32::try_from(without).expect("small");
    world.route("192.168.30.0/24", "192.168.20.1", "Port3", 100);
    let compiled = world.compile();
    let full = compiled.statuses.values().filter(|status| status.state == State::Invalid);
    let reasons: Vec<_> = full.map(|status| status.reason.as_str()).collect();
    let (_, reason) = world.state("192.168.30.0/24", "192.168.20.1", "Port3");
    assert_eq!(reasons, [reason.as_str()]);
    assert!(reason.contains("limits.routes4"), "{reason}");
    assert!(compiled.image.routes4.len() <= world.limits.routes4 as usize);
    assert!(compiled.image.routes4.contains_key(&"0.0.0.0/0".parse().expect("prefix")));
}

#[test]
fn a_full_next_hop_table_refuses_the_route_and_says_which_limit() {
    let mut world = appliance();
    world.limits.next_hops = 10;
    for last in 2..9 {
        world.route(&format!("10.{last}.0.0/16"), &format!("172.16.3.{last}"), "Port3", 100);
    }
    let statuses = world.compile().statuses;
    let refused: Vec<_> = statuses.values().filter(|status| status.state == State::Invalid).collect();
    assert!(!refused.is_empty() && refused.len() < 8);
    assert!(refused.iter().all(|status| status.reason.contains("limits.nextHops")), "{refused:?}");
}

#[test]
fn a_kernel_that_does_not_tell_is_believed_of_hardware_only() {
    for (kind, told, xdp) in [
        (None, None, XDP_REDIRECT),
        (Some("veth"), None, XDP_NO_TX),
        (Some("veth"), Some(true), XDP_REDIRECT | XDP_NO_TX),
        (None, Some(false), 0),
    ] {
        let mut world = World::appliance();
        world.cameras();
        world.xdp_native = [ETH0, ETH1].into();
        let link = world.link(ETH1);
        (link.kind, link.xdp_transmit) = (kind.map(str::to_owned), told);
        let image = world.compile().image;
        let by_port3 =
            image.next_hops.values().find(|hop| hop.ifindex == ETH1 && hop.gateway[..4] == [192, 168, 20, 1]);
        assert_eq!(by_port3.map(|hop| hop.xdp), Some(xdp), "{kind:?} {told:?}");
    }
}
