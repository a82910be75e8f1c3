//! Services that do not fit: refused with the key to raise, and nobody else suffers.

use netroute_user::apply::check_capacity;
use netroute_user::compile::image::Limits;
use netroute_user::compile::services::selection::{FrontEndSpec, Kind};

use super::cluster::{port, spec};
use super::world::World;

const OLD: &str = "10.96.0.200";
const NEW: &str = "10.96.0.1";

/// A Service is there, and another comes that sorts before it.
fn refusal(limits: Limits, new: &FrontEndSpec) -> String {
    let mut world = World::appliance();
    world.limits = limits;
    let ranges = vec!["198.51.100.0/24".parse().expect("prefix")];
    world.service(
        OLD,
        &FrontEndSpec {
            kind: Kind::LoadBalancer,
            source_ranges: ranges,
            ..spec("old", &["10.244.1.10", "10.244.2.10"])
        },
    );
    let first = world.install();
    assert!(first.services.refused.is_empty(), "{:?}", first.services.refused);
    let before = (world.front_end(OLD), world.behind(OLD));
    world.service(NEW, new);
    let compiled = world.install();
    assert_eq!((world.front_end(OLD), world.behind(OLD)), before, "what is there stays");
    assert_eq!(check_capacity(&compiled.image, &limits), Ok(()));
    let again = world.compile();
    assert_eq!(again, compiled, "it is not tried with other numbers each time");
    let refused = compiled.services.refused;
    assert_eq!(refused.keys().collect::<Vec<_>>(), [&port(&new.service.name)]);
    refused[&new.service].to_string()
}

#[test]
fn what_does_not_fit_is_refused_with_the_key_to_raise() {
    let limits = Limits::DEFAULT;
    let two = spec("new", &["10.244.5.10", "10.244.6.10"]);
    assert_eq!(
        refusal(Limits { front_ends: 3, ..limits }, &two),
        "the front-end table is full: raise limits.frontEnds (now 3)"
    );
    assert_eq!(
        refusal(Limits { slots: 61 + 30, ..limits }, &two),
        "there is no room for another endpoint table: raise limits.slots (now 91)"
    );
    assert_eq!(
        refusal(Limits { backends: 4, ..limits }, &two),
        "the endpoint list is full: raise limits.backends (now 4)"
    );
    let ranges = vec!["203.0.113.0/24".parse().expect("prefix")];
    assert_eq!(
        refusal(
            Limits { source_ranges: 1, ..limits },
            &FrontEndSpec { source_ranges: ranges, ..two.clone() }
        ),
        "the table of source ranges is full: raise limits.sourceRanges (now 1)"
    );
    assert_eq!(
        refusal(Limits { service_stats: 2, ..limits }, &two),
        "there is no number left for another Service port: raise limits.serviceStats (now 2)"
    );
}

/// Each address has two entries of its own beside those of its ports.
#[test]
fn addresses_need_room_too_and_keep_nobody_else_from_it() {
    for (front_ends, served) in [(1, 0), (3, 0), (4, 1), (7, 1), (8, 2)] {
        let mut world = World::appliance();
        world.limits = Limits { front_ends, ..Limits::DEFAULT };
        for (address, name) in [(NEW, "new"), (OLD, "old")] {
            world.service(address, &spec(name, &["10.244.1.10"]));
            world.selection.addresses.insert(address.parse().expect("address"), false);
        }
        let compiled = world.install();
        assert_eq!(check_capacity(&compiled.image, &world.limits), Ok(()));
        assert_eq!(compiled.services.refused.len(), 2 - served, "with {front_ends}");
    }
}

#[test]
fn more_endpoints_than_a_table_has_slots_are_refused() {
    let endpoints: Vec<String> = (0u32..65_538)
        .map(|pod| format!("10.{}.{}.{}", 128 + (pod >> 16), pod >> 8 & 255, pod & 255))
        .collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let limits = Limits { backends: 100_000, ..Limits::DEFAULT };
    assert_eq!(refusal(limits, &spec("new", &endpoints)), "it has 65538 endpoints, more than 65537");
}

#[test]
fn where_slots_are_short_a_table_is_smaller() {
    let mut world = World::appliance();
    world.limits.slots = 61 + 31;
    world.service(OLD, &spec("old", &["10.244.1.10", "10.244.2.10"]));
    world.install();
    world.service(OLD, &spec("old", &["10.244.1.10", "10.244.3.10"]));
    assert!(world.install().services.refused.is_empty());
    assert_eq!((world.front_end(OLD).size, world.behind(OLD).len()), (31, 2));
    let stays = world.front_end(OLD);
    world.install();
    assert_eq!(world.front_end(OLD), stays, "it stays until its endpoints change");
}

#[test]
fn an_image_beyond_the_maps_is_refused_as_a_whole() {
    let mut world = World::appliance();
    world.service(OLD, &spec("old", &["10.244.1.10", "10.244.2.10"]));
    world.selection.addresses.insert(super::world::ip("10.128.44.40"), true);
    let image = world.compile().image;
    let limits = Limits::DEFAULT;
    let refused = |limits| check_capacity(&image, &limits).map_err(|error| (error.needed, error.key));
    assert_eq!(refused(limits), Ok(()));
    assert_eq!(refused(Limits { front_ends: 3, ..limits }), Err((4, "limits.frontEnds")));
    assert_eq!(refused(Limits { slots: 60, ..limits }), Err((61, "limits.slots")));
    assert_eq!(refused(Limits { backends: 2, ..limits }), Err((3, "limits.backends")));
    assert_eq!(refused(Limits { service_stats: 1, ..limits }), Err((2, "limits.serviceStats")));
}
