//! Ten thousand pods and a hundred policies: how long they take, and one pod that changes.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use netroute_user::compile::image::Limits;
use netroute_user::plan::diff;

use super::*;

const PODS: u32 = 10_000;
const POLICIES: u32 = 100;
const CHANGES: u32 = 200;

fn numbered(number: u32, app: u32) -> Pod {
    let address = format!("10.{}.{}.{}", 200 + (number >> 16), (number >> 8) & 255, number & 255);
    let (app, tier) = (format!("app{}", app % POLICIES), format!("tier{}", app % 3));
    let index = number.to_string();
    let labels =
        [("app", app.as_str()), ("tier", tier.as_str()), ("statefulset.kubernetes.io/pod-name", &index)];
    pod(&format!("pod{number:05}"), &labels, &[&address])
}

/// Of this thread alone: others share the processors.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).expect("the clock of the thread")
}

#[test]
fn e1_ten_thousand_pods_and_a_hundred_policies() {
    let mut world = World::with_pods();
    world.limits = Limits {
        sources: 2 * PODS,
        egress: 100_000,
        egress_rules: 100_000,
        egress_policies: 2 * POLICIES,
        ..Limits::DEFAULT
    };
    world.desired.egress_settings.pod_cidrs.push("10.200.0.0/13".parse().expect("prefix"));
    (0..PODS).for_each(|number| world.pod(numbered(number, number)));
    for number in 0..POLICIES {
        let from = match number % 4 {
            0 => format!("{{podSelector: {{matchLabels: {{tier: tier{}}}}}}}", number % 3),
            1 => "{namespaceSelector: {}}".to_owned(),
            _ => format!("{{podSelector: {{matchLabels: {{app: app{number}}}}}}}"),
        };
        let to = format!("[100.{number}.0.0/16, 100.{number}.7.0/24, 101.{number}.0.0/16]");
        let ports = "ports: [{protocol: TCP, port: 80, endPort: 90}, {protocol: UDP}]";
        world.policy(
            &format!("policy{number:03}"),
            &format!("priority: {number}, from: {from}, to: {{cidrs: {to}, {ports}}}, action: Masquerade"),
        );
    }
    let without = {
        let mut world = World { desired: world.desired.clone(), ..World::with_pods() };
        Arc::make_mut(&mut world.cluster().egress_policies).clear();
        let begun = Instant::now();
        world.compile();
        begun.elapsed()
    };
    let begun = Instant::now();
    let compiled = world.install();
    let first = begun.elapsed();
    let image = &compiled.image.egress;
    println!(
        "MEASURED {PODS} pods x {POLICIES} policies: compiled in {} ms ({} ms without policies); {} identities, \
         {} entries, {} rules",
        first.as_millis(),
        without.as_millis(),
        image.destinations.len(),
        image.entries(),
        image.rules.values().map(|run| run.len()).sum::<usize>()
    );
    assert_eq!(image.sources.len(), PODS as usize + 3);
    assert!(first < Duration::from_secs(3));

    let mut times = Vec::new();
    for change in 0..CHANGES {
        world.pod(numbered(change * 37 % PODS, change));
        let begun = worked();
        let compiled = world.compile();
        let steps = diff(&world.installed, &compiled.image).steps;
        times.push(worked() - begun);
        assert!(steps.len() <= 2, "{steps:?}");
        world.installed = compiled.image;
        world.egress = compiled.egress.memory;
    }
    times.sort();
    println!(
        "MEASURED one of {PODS} pods changes: median {} us, p99 {} us",
        times[times.len() / 2].as_micros(),
        times[times.len() * 99 / 100].as_micros()
    );
    assert!(times[times.len() / 2] < Duration::from_millis(100));
}
