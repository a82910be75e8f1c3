//! Addresses of Services: their routes, their entries, who may use them, and masquerading.

use std::time::Duration;

use ipnet::IpNet;
use netroute_common::layout::flow::Timers;
use netroute_common::layout::route::{KIND_KERNEL, KIND_LOCAL, KIND_SERVICE, Route, UNCOUNTED, fixed_id};
use netroute_common::layout::service::{
    Address, FRONTEND_DROP, FRONTEND_ECHO, FRONTEND_MASQUERADE, FRONTEND_SOURCE_RANGES, FrontEnd,
    FrontEndKey, SourceRange,
};
use netroute_user::compile::image::Image;
use netroute_user::compile::services::build::key;
use netroute_user::compile::services::image::mapped;
use netroute_user::compile::services::selection::{FrontEndSpec, Kind, Scope, WithoutEndpoint};
use netroute_user::compile::status::State;
use netroute_user::plan::{ServiceStep, Step, diff};

use super::cluster::{at, spec};
use super::world::{ETH0, ETH1, World, ip, kernel_route};

const BALANCED: &str = "10.128.44.40";

fn route(image: &Image, prefix: &str) -> Option<Route> {
    match prefix.parse().expect("prefix") {
        IpNet::V4(prefix) => image.routes4.get(&prefix).copied(),
        IpNet::V6(prefix) => image.routes6.get(&prefix).copied(),
    }
}

const SERVICE: Option<Route> = Some(Route { group: fixed_id(KIND_SERVICE), stats: UNCOUNTED });

#[test]
fn s6_ranges_and_addresses_of_services_lead_to_the_front_ends() {
    let mut world = World::appliance();
    world.selection.cidrs =
        ["10.96.0.0/12", "fd00:10::/112"].map(|cidr| cidr.parse().expect("prefix")).into();
    world.selection.addresses = [(ip(BALANCED), true), (ip("2001:db8::40"), false)].into();
    let image = world.install().image;
    for prefix in ["10.96.0.0/12", "fd00:10::/112", "10.128.44.40/32", "2001:db8::40/128"] {
        assert_eq!(route(&image, prefix), SERVICE, "{prefix}");
    }
    assert_eq!(image.next_hops[&fixed_id(KIND_SERVICE)].kind, KIND_SERVICE);
    assert_eq!(image.groups[&fixed_id(KIND_SERVICE)].members[0].next_hop, fixed_id(KIND_SERVICE));
    // Ranges can change at run time.
    world.selection.cidrs.clear();
    let image = world.install().image;
    assert_eq!((route(&image, "10.96.0.0/12"), route(&image, "10.128.44.40/32")), (None, SERVICE));
}

#[test]
fn s6_no_route_takes_an_address_of_services_away() {
    let mut world = World::appliance();
    world.selection.addresses.insert(ip(BALANCED), true);
    world.neighbour(ETH0, BALANCED, netroute_user::kernel::NeighbourState::Reachable);
    world.kernel.routes.insert(kernel_route("10.128.44.40/32", Some("10.128.44.1"), ETH0, 0));
    world.route("10.128.44.40/32", "192.168.20.1", "Port3", 0);
    assert_eq!(route(&world.compile().image, "10.128.44.40/32"), SERVICE);
    let (state, reason) = world.state("10.128.44.40/32", "192.168.20.1", "Port3");
    assert_eq!((state, reason.as_str()), (State::Standby, "the destination is an address of Services"));
}

#[test]
fn s11_an_address_of_another_proxy_is_the_kernels() {
    let mut world = World::appliance();
    world.selection.cidrs = ["10.96.0.0/12".parse().expect("prefix")].into();
    world.selection.foreign = [ip("10.96.0.7"), ip(BALANCED)].into();
    world.selection.addresses.insert(ip(BALANCED), true);
    let image = world.compile().image;
    let kernel = Some(Route { group: fixed_id(KIND_KERNEL), stats: UNCOUNTED });
    assert_eq!((route(&image, "10.96.0.7/32"), route(&image, "10.128.44.40/32")), (kernel, SERVICE));
}

#[test]
fn s6_the_nodes_own_address_stays_its_own() {
    let mut world = World::appliance();
    world.selection.addresses.insert(ip("172.16.3.11"), false);
    let image = world.compile().image;
    assert_eq!(route(&image, "172.16.3.11/32").map(|route| route.group), Some(fixed_id(KIND_LOCAL)));
    // What is never forwarded is nobody's to claim.
    world.selection.addresses = [(ip("127.0.0.1"), true), (ip("224.0.0.5"), true)].into();
    world.selection.cidrs = ["169.254.20.0/24".parse().expect("prefix")].into();
    let image = world.compile().image;
    let claimed = ["127.0.0.1/32", "224.0.0.5/32", "169.254.20.0/24"].map(|prefix| route(&image, prefix));
    assert_eq!(claimed, [None; 3]);
}

#[test]
fn s6_services_have_their_routes_before_custom_ones() {
    let mut world = World::appliance();
    world.selection.addresses.insert(ip(BALANCED), true);
    world.limits.routes4 = u32::try_from(world.compile().image.routes4.len()).expect("a small table") - 1;
    world.cameras();
    let image = world.compile().image;
    assert_eq!(route(&image, "10.128.44.40/32"), SERVICE);
    assert_eq!(world.state("192.168.20.0/24", "192.168.20.1", "Port3").0, State::Invalid);
}

#[test]
fn s8_an_address_has_an_entry_of_its_own_for_everybody() {
    let mut world = World::appliance();
    world.selection.addresses = [(ip(BALANCED), true), (ip("2001:db8::40"), false)].into();
    let front_ends = world.compile().image.services.front_ends;
    for scope in [0, 1] {
        let entry = |address| {
            let key = FrontEndKey { address: mapped(ip(address)), port: 0, protocol: 0, scope };
            front_ends.get(&key).copied()
        };
        assert_eq!(entry(BALANCED), Some(FrontEnd { flags: FRONTEND_ECHO, ..FrontEnd::default() }));
        assert_eq!(entry("2001:db8::40"), Some(FrontEnd::default()));
    }
    assert_eq!(front_ends.len(), 4);
    assert_eq!(mapped(ip(BALANCED)), mapped(ip("::ffff:10.128.44.40")));
}

#[test]
fn a_front_end_says_what_its_service_asks_for() {
    let mut world = World::appliance();
    let asked = FrontEndSpec {
        without: WithoutEndpoint::Drop,
        masquerade: true,
        affinity: Some(Duration::from_secs(10_800)),
        echo: true,
        ..spec("web", &[])
    };
    world.service(BALANCED, &asked);
    world.install();
    let FrontEnd { service, size, affinity, flags, .. } = world.front_end(BALANCED);
    assert_eq!((service, size, affinity), (1, 0, 10_800));
    assert_eq!(flags, FRONTEND_DROP | FRONTEND_MASQUERADE | FRONTEND_ECHO);
}

fn with_ranges(ranges: &[&str]) -> FrontEndSpec {
    let source_ranges = ranges.iter().map(|range| range.parse().expect("prefix")).collect();
    FrontEndSpec { kind: Kind::LoadBalancer, source_ranges, ..spec("web", &["10.244.1.10"]) }
}

#[test]
fn s14_source_ranges_are_the_balanced_front_ends_alone() {
    let mut world = World::appliance();
    world.service("10.96.0.10", &spec("web", &["10.244.1.10"]));
    world.service(BALANCED, &with_ranges(&["198.51.100.7/24", "2001:db8:1::/48"]));
    let image = world.install().image;
    assert_eq!(world.front_end("10.96.0.10").flags & FRONTEND_SOURCE_RANGES, 0);
    assert_eq!(world.front_end(BALANCED).flags & FRONTEND_SOURCE_RANGES, FRONTEND_SOURCE_RANGES);
    let service = world.front_end(BALANCED).service.to_be_bytes();
    let range = |address| SourceRange { service, address: mapped(ip(address)) };
    // 32 bits of the Service, 96 in front of an IPv4 address.
    let expected = [(32 + 96 + 24, range("198.51.100.0")), (32 + 48, range("2001:db8:1::"))];
    assert_eq!(image.services.source_ranges, expected.into());
}

#[test]
fn s14_a_range_is_there_before_its_front_end_and_goes_after_it() {
    let mut world = World::appliance();
    world.service(BALANCED, &spec("web", &["10.244.1.10"]));
    world.install();
    world.service(BALANCED, &with_ranges(&["198.51.100.0/24"]));
    use ServiceStep::{RemoveSourceRange, SetFrontEnd, SetSourceRange};
    let (steps, _) = world.changed();
    assert!(
        matches!(steps[..], [SetSourceRange { .. }, SetFrontEnd { .. }, SetFrontEnd { .. }]),
        "{steps:?}"
    );
    world.service(BALANCED, &spec("web", &["10.244.1.10"]));
    let (steps, _) = world.changed();
    assert!(
        matches!(steps[..], [SetFrontEnd { .. }, SetFrontEnd { .. }, RemoveSourceRange { .. }]),
        "{steps:?}"
    );
}

#[test]
fn s22_routes_come_after_the_front_ends_and_go_before_them() {
    let mut world = World::appliance();
    let before = world.install().image;
    world.selection.addresses.insert(ip(BALANCED), true);
    world.service(BALANCED, &spec("web", &["10.244.1.10"]));
    let after = world.install().image;
    assert!(after.services.front_ends.contains_key(&key(&at(BALANCED, Scope::External))));
    let place = |steps: &[Step], of: fn(&Step) -> bool| steps.iter().position(of).expect("such a step");
    let steps = diff(&before, &after).steps;
    let front_end = |step: &Step| matches!(step, Step::Service(ServiceStep::SetFrontEnd { .. }));
    assert!(place(&steps, front_end) < place(&steps, |step| matches!(step, Step::SetRoute4 { .. })));
    let steps = diff(&after, &before).steps;
    let front_end = |step: &Step| matches!(step, Step::Service(ServiceStep::RemoveFrontEnd { .. }));
    assert!(place(&steps, |step| matches!(step, Step::RemoveRoute4 { .. })) < place(&steps, front_end));
}

#[test]
fn n7_flows_are_masqueraded_to_an_address_of_their_nic_that_stays() {
    let mut world = World::appliance();
    world.selection.addresses.insert(ip("172.16.3.5"), true);
    world.address(ETH1, "172.16.3.5/24", true);
    world.address(ETH1, "fe80::11/64", true);
    let image = world.install().image;
    let entry = image.services.masquerade[&ETH1];
    assert_eq!((entry.address4, entry.address6), ([172, 16, 3, 11], mapped(ip("fd16:3::11"))));
    assert_eq!((entry.first_port, entry.ports), (61_000, 4_536));
    assert_eq!(image.services.masquerade[&ETH0].address6, Address::default());
    // A lower address comes, and flows go on under theirs; it goes, and they cannot.
    world.address(ETH1, "172.16.3.2/24", true);
    assert_eq!(world.install().image.services.masquerade[&ETH1], entry);
    world.kernel.addresses.retain(|held| held.address.addr() != ip("172.16.3.11"));
    assert_eq!(world.install().image.services.masquerade[&ETH1].address4, [172, 16, 3, 2]);
    assert_eq!(image.services.timers, Some(Timers::DEFAULT));
}
