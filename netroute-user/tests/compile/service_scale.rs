//! Ten thousand Services: how long they take, and that few changes stay few writes.

use std::time::Instant;

use netroute_common::layout::route::{KIND_SERVICE, fixed_id};
use netroute_user::compile::image::Limits;
use netroute_user::plan::diff;

use super::cluster::{service_steps, spec};
use super::world::World;

const SERVICES: u32 = 10_000;

fn cluster_ip(service: u32) -> String {
    format!("10.96.{}.{}", service >> 8, service & 255)
}

fn endpoints(service: u32, count: u32) -> Vec<String> {
    (0..count).map(|pod| format!("10.{}.{}.{}", 128 + pod, service >> 8, service & 255)).collect()
}

impl World {
    fn pods_of(&mut self, service: u32, count: u32) {
        let endpoints = endpoints(service, count);
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        self.service(&cluster_ip(service), &spec(&format!("service{service}"), &endpoints));
    }
}

#[test]
fn s22_ten_thousand_services_of_ten_endpoints() {
    let mut world = World::appliance();
    world.limits = Limits {
        front_ends: 2 * SERVICES,
        slots: 4_000_000,
        backends: 11 * SERVICES,
        service_stats: 2 * SERVICES,
        ..Limits::DEFAULT
    };
    world.selection.cidrs = ["10.96.0.0/12".parse().expect("prefix")].into();
    (0..SERVICES).for_each(|service| world.pods_of(service, 10));
    let begun = Instant::now();
    let compiled = world.install();
    println!("MEASURED {SERVICES} Services of 10 endpoints: compiled in {} ms", begun.elapsed().as_millis());
    assert!(compiled.services.refused.is_empty());
    let group = compiled.image.routes4[&"10.96.0.0/12".parse().expect("prefix")].group;
    assert_eq!(group, fixed_id(KIND_SERVICE));

    let begun = Instant::now();
    let again = world.compile();
    println!(
        "MEASURED {SERVICES} Services of 10 endpoints: compiled again in {} ms",
        begun.elapsed().as_millis()
    );
    assert_eq!(diff(&world.installed, &again.image).steps, []);

    world.pods_of(4711, 9);
    let before = world.installed.clone();
    let after = world.install().image;
    let begun = Instant::now();
    let steps = service_steps(&before, &after);
    println!("MEASURED {SERVICES} Services of 10 endpoints: compared in {} ms", begun.elapsed().as_millis());
    assert_eq!(steps.len(), 5, "block, two front ends, the block and the backend before: {steps:?}");
}
