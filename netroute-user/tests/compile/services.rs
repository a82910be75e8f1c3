//! Services: numbers that stay, generations that tell old from new, changes that are one step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use netroute_common::layout::service::{BACKEND_LOCAL, FrontEnd};
use netroute_user::apply::{MapStore, MemoryStore, apply};
use netroute_user::compile::image::Image;
use netroute_user::compile::services::ids::ServiceIds;
use netroute_user::compile::services::image::is_resting;
use netroute_user::compile::services::selection::{Endpoint, Kind, Scope, ServicePort};
use netroute_user::plan::{ServiceStep, diff};

use super::cluster::{at, endpoint, port, service_steps, spec};
use super::world::{World, ip};

const WEB: &str = "10.96.0.10";
const DNS: &str = "10.96.0.53";

fn web() -> World {
    let mut world = World::appliance();
    world.service(WEB, &spec("web", &["10.244.1.10", "10.244.2.10", "10.244.3.10"]));
    world
}

#[test]
fn what_is_compiled_is_what_was_selected() {
    let mut world = web();
    world.service(DNS, &spec("dns", &[]));
    let local = Endpoint { local: true, ..endpoint("10.244.1.10") };
    let lone = [(at("10.96.0.11", Scope::Internal), spec("lone", &[]))];
    world.selection.front_ends.extend(lone.map(|(address, spec)| {
        (
            address,
            netroute_user::compile::services::selection::FrontEndSpec { endpoints: [local].into(), ..spec },
        )
    }));
    let compiled = world.install();
    assert_eq!(compiled.services.refused, BTreeMap::new());
    assert_eq!((world.front_end(WEB).size, world.behind(WEB).len()), (127, 3));
    assert_eq!(world.front_end(DNS).size, 0, "known, without an endpoint");
    let (_, backend) = world.backend("10.96.0.11", "10.244.1.10");
    assert_eq!((world.front_end("10.96.0.11").size, backend.flags), (1, BACKEND_LOCAL));
    assert_eq!((backend.port, backend.generation), (8080, 1));
    let again = world.compile();
    assert_eq!(diff(&world.installed, &again.image).steps, []);
    assert_eq!(again.services, compiled.services);
}

#[test]
fn s22_one_endpoint_more_is_its_backend_one_block_and_the_front_ends() {
    let mut world = web();
    world.service(DNS, &spec("dns", &["10.244.1.53"]));
    world.service("10.128.44.40", &spec("web", &["10.244.1.10", "10.244.2.10", "10.244.3.10"]));
    world.install();
    assert_eq!(world.front_end(WEB), world.front_end("10.128.44.40"), "one block for all of them");
    let endpoints = ["10.244.1.10", "10.244.2.10", "10.244.3.10", "10.244.4.10"];
    world.service(WEB, &spec("web", &endpoints));
    world.service("10.128.44.40", &spec("web", &endpoints));
    let (steps, _) = world.changed();
    use ServiceStep::{FreeBlock, SetBackend, SetBlock, SetFrontEnd};
    let [SetBackend { id, .. }, SetBlock { first, backends }, rest @ ..] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!((backends.len(), backends.contains(id)), (127, true));
    let [fronts @ .., FreeBlock { .. }] = rest else { panic!("{steps:?}") };
    assert_eq!(fronts.len(), 4, "each front end of the port, and no other");
    for step in fronts {
        assert!(matches!(step, SetFrontEnd { front_end, .. } if front_end.block == *first), "{step}");
    }
}

#[test]
fn s22_one_endpoint_less_rests_after_the_front_ends() {
    let mut world = web();
    world.install();
    let (gone, former) = world.backend(WEB, "10.244.3.10");
    world.service(WEB, &spec("web", &["10.244.1.10", "10.244.2.10"]));
    let (steps, _) = world.changed();
    use ServiceStep::{FreeBlock, RestBackend, SetBlock, SetFrontEnd};
    let [
        SetBlock { .. },
        SetFrontEnd { .. },
        SetFrontEnd { .. },
        FreeBlock { .. },
        RestBackend { id, generation },
    ] = steps.as_slice()
    else {
        panic!("{steps:?}")
    };
    assert_eq!((*id, *generation > former.generation), (gone, true));
}

/// Every front end has its whole block, and every backend of it its endpoint.
fn is_whole(image: &Image) -> bool {
    let services = &image.services;
    services.front_ends.values().filter(|front_end| front_end.size > 0).all(
        |FrontEnd { block, size, .. }| {
            let block = services.blocks.get(block).filter(|block| block.len() == *size as usize);
            let there = |id| services.backends.get(id).is_some_and(|backend| !is_resting(backend));
            block.is_some_and(|block| block.iter().all(there))
        },
    )
}

#[test]
fn s22_cut_short_anywhere_no_front_end_is_half_there() {
    let mut world = web();
    world.service(DNS, &spec("dns", &["10.244.1.53"]));
    let before = world.install().image;
    world.service(WEB, &spec("web", &["10.244.2.10", "10.244.7.10"]));
    world.selection.front_ends.retain(|address, _| address.address != ip(DNS));
    world.service("10.96.0.99", &spec("new", &["10.244.1.53"]));
    let after = world.compile().image;
    let total = diff(&before, &after).steps.len() as u64;
    for stop in 0..total {
        let mut store = MemoryStore::new(world.limits);
        apply(&diff(&Image::default(), &before), &mut store).expect("the first image");
        let written = store.writes();
        let mut store = store.failing_at(written + stop);
        apply(&diff(&before, &after), &mut store).expect_err("it is cut short");
        assert!(is_whole(store.image()), "after {stop} of {total} steps");
        store.heal();
        // The next agent knows no more than the maps say, and comes to the same.
        world.installed = store.read().expect("the maps");
        world.service_ids = ServiceIds::default();
        let next = world.compile().image;
        apply(&diff(&world.installed, &next), &mut store).expect("the rest");
        assert!(is_whole(store.image()) && store.image() == &next, "after {stop} of {total} steps");
        world.installed = next;
        assert_eq!(world.behind(WEB).len(), 2);
    }
}

#[test]
fn s22_a_new_block_lies_on_no_installed_one() {
    let mut world = web();
    world.install();
    for round in 0..20u8 {
        let before = world.installed.services.blocks.clone();
        let endpoints: Vec<String> = (0..=round).map(|pod| format!("10.244.{round}.{pod}")).collect();
        world.service(WEB, &spec("web", &endpoints.iter().map(String::as_str).collect::<Vec<_>>()));
        world.install();
        let slots = |blocks: &BTreeMap<u32, Arc<[u32]>>| -> BTreeSet<u32> {
            blocks.iter().flat_map(|(first, block)| *first..*first + block.len() as u32).collect()
        };
        let after = slots(&world.installed.services.blocks);
        assert!(slots(&before).is_disjoint(&after), "round {round}");
        assert!(after.last().is_some_and(|last| *last < 1500), "freed slots are used again: {after:?}");
    }
}

#[test]
fn s18_an_endpoint_that_comes_back_is_a_new_one() {
    let mut world = web();
    world.install();
    let (first, before) = world.backend(WEB, "10.244.3.10");
    let kept = world.backend(WEB, "10.244.1.10");
    world.service(WEB, &spec("web", &[]));
    world.install();
    assert_eq!(world.front_end(WEB).size, 0);
    world.service(WEB, &spec("web", &["10.244.1.10", "10.244.2.10", "10.244.3.10"]));
    world.install();
    let (second, after) = world.backend(WEB, "10.244.3.10");
    assert!(after.generation > before.generation && first != second);
    assert!(world.backend(WEB, "10.244.1.10").1.generation > kept.1.generation);
}

#[test]
fn s18_one_service_gives_an_endpoint_up_that_another_keeps() {
    let mut world = web();
    world.service(DNS, &spec("dns", &["10.244.1.10", "10.244.2.10"]));
    world.install();
    let (left, _) = world.backend(WEB, "10.244.1.10");
    let kept = world.backend(DNS, "10.244.1.10");
    world.service(WEB, &spec("web", &["10.244.2.10", "10.244.3.10"]));
    world.install();
    assert!(is_resting(&world.installed.services.backends[&left]), "void for the clients it had");
    assert_eq!(world.backend(DNS, "10.244.1.10"), kept);
}

#[test]
fn s21_a_number_used_again_always_has_a_new_generation() {
    let mut world = web();
    world.limits.backends = 6;
    let mut seen = BTreeSet::new();
    let mut last_rested = None;
    for round in 0..50u8 {
        world.service(WEB, &spec("web", &[format!("10.244.9.{round}").as_str()]));
        // Between any two compilations the agent may have been started anew.
        world.service_ids = ServiceIds::default();
        let compiled = world.install();
        assert_eq!(compiled.services.refused, BTreeMap::new());
        let (id, backend) = world.backend(WEB, &format!("10.244.9.{round}"));
        assert!(seen.insert((id, backend.generation)), "round {round}");
        assert_ne!(last_rested.replace(id), Some(id), "what rests longest is used first");
        let resting = world.installed.services.backends.iter().filter(|(_, backend)| is_resting(backend));
        for (id, backend) in resting {
            assert!(!seen.contains(&(*id, backend.generation)), "no flow is stamped as what rests");
        }
    }
}

fn ids(world: &World) -> BTreeMap<ServicePort, u32> {
    world.service_ids.ids.clone()
}

#[test]
fn s21_a_service_keeps_its_number_over_a_restart() {
    let mut world = web();
    world.service(DNS, &spec("dns", &["10.244.1.53"]));
    world.install();
    let before = ids(&world);
    world.service("10.96.0.5", &spec("another", &[]));
    world.service_ids = ServiceIds::default();
    world.install();
    let after = ids(&world);
    assert!(before.iter().all(|(port, id)| after.get(port) == Some(id)), "{before:?} {after:?}");
    assert_eq!(after.values().collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn s21_an_address_that_moved_does_not_take_the_number_along() {
    let mut world = web();
    let balanced = |name, endpoints: &[&str]| netroute_user::compile::services::selection::FrontEndSpec {
        kind: Kind::LoadBalancer,
        ..spec(name, endpoints)
    };
    world.service("10.128.44.40", &balanced("web", &["10.244.1.10"]));
    world.install();
    let web_id = ids(&world)[&port("web")];
    // While the agent was away, the address came to a Service that sorts before its former one.
    world.service("10.128.44.40", &balanced("aaa", &["10.244.5.10"]));
    world.service_ids = ServiceIds::default();
    world.install();
    assert_eq!(ids(&world)[&port("web")], web_id);
    assert_ne!(ids(&world)[&port("aaa")], web_id);
}

#[test]
fn s21_a_service_number_rests_and_waits_for_its_flows() {
    let mut world = World::appliance();
    world.limits.service_stats = 4;
    world.service(WEB, &spec("web", &["10.244.1.10"]));
    world.install();
    assert_eq!(ids(&world), [(port("web"), 1)].into());
    world.selection.front_ends.clear();
    // The same address at once, of another Service: no number goes with it.
    world.service(WEB, &spec("next", &["10.244.1.10"]));
    world.install();
    assert_eq!(ids(&world), [(port("next"), 2)].into());
    world.service(DNS, &spec("dns", &["10.244.1.53"]));
    world.install();
    assert_eq!(ids(&world)[&port("dns")], 3);
    world.service("10.96.0.77", &spec("more", &["10.244.1.77"]));
    world.carried = [1].into();
    let refused = world.compile().services.refused;
    assert_eq!(refused.keys().collect::<Vec<_>>(), [&port("more")]);
    let reason = "there is no number left for another Service port: raise limits.serviceStats (now 4)";
    assert_eq!(refused[&port("more")].to_string(), reason);
    world.carried.clear();
    let (steps, _) = world.changed();
    assert_eq!(ids(&world)[&port("more")], 1, "no flow has it any more");
    assert!(steps.contains(&ServiceStep::ResetServiceStats { service: 1 }), "{steps:?}");
}

#[test]
fn names_alone_change_nothing_in_the_maps() {
    let mut world = web();
    world.install();
    world.service_ids = ServiceIds::default();
    assert_eq!(service_steps(&world.installed, &world.compile().image), []);
}
