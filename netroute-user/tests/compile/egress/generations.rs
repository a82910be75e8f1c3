//! Numbers that stay, and when flows are judged anew.

use netroute_user::plan::{EgressStep, Step, diff};

use super::super::world::ETH1;
use super::*;

fn generation(world: &World) -> u32 {
    world.installed.egress.policies[&0].generation
}

fn installed() -> World {
    let mut world = World::with_pods();
    world.policy(
        "web",
        "from: {podSelector: {matchLabels: {app: web}}}, to: {cidrs: [8.8.8.0/24]}, action: Deny",
    );
    world.policy("nat", "to: {cidrs: [9.9.9.0/24]}, action: Snat, snat: {addresses: [172.16.3.11]}");
    world.install();
    world
}

/// Installs, and says whether flows are judged anew.
fn judged_anew(world: &mut World) -> bool {
    let before = generation(world);
    world.install();
    generation(world) != before
}

#[test]
fn e7_the_generation_changes_when_a_judgement_could() {
    let mut world = installed();
    assert!(!judged_anew(&mut world), "nothing happened");
    world.pod(pod("replica", &[("app", "web")], &["10.244.1.20"]));
    assert!(!judged_anew(&mut world), "no flow is from a pod that is new");
    world.pod(pod("stranger", &[("app", "stranger")], &["10.244.1.21"]));
    assert!(!judged_anew(&mut world));
    world.policy("nobody", "from: {podSelector: {matchLabels: {app: none}}}, action: Deny");
    assert!(!judged_anew(&mut world), "it selects nobody");
    world.pod(pod("replica", &[("app", "other")], &["10.244.1.20"]));
    assert!(judged_anew(&mut world), "another policy selects it");
    world.cluster().pods.pop_first();
    assert!(judged_anew(&mut world), "a pod is gone");
    world.policy(
        "web",
        "from: {podSelector: {matchLabels: {app: web}}}, to: {cidrs: [8.8.8.0/24]}, action: Allow",
    );
    assert!(judged_anew(&mut world), "another action");
    world.policy("nat", "to: {cidrs: [9.9.0.0/16]}, action: Snat, snat: {addresses: [172.16.3.11]}");
    assert!(judged_anew(&mut world), "other destinations");
    world.kernel.addresses.retain(|held| held.ifindex != ETH1);
    assert!(judged_anew(&mut world), "its address is gone");
    world.default_egress(DefaultEgress::Masquerade);
    assert!(judged_anew(&mut world), "another default");
    world.desired.egress_settings.node_cidrs.clear();
    assert!(judged_anew(&mut world), "nodes are judged");
}

#[test]
fn e7_a_plan_that_was_cut_short_is_followed_by_another_generation() {
    let mut world = installed();
    world.egress = Arc::new(world.egress.unsettled());
    assert!(judged_anew(&mut world));
    assert!(!judged_anew(&mut world));
}

#[test]
fn e7_numbers_go_on_when_the_last_policy_goes() {
    let mut world = installed();
    let before = generation(&world);
    world.no_policy("web");
    world.no_policy("nat");
    let compiled = world.compile();
    let steps = diff(&world.installed, &compiled.image).steps;
    let first = &steps[0];
    assert!(
        matches!(first, Step::Egress(EgressStep::SetDefault { .. })),
        "first it ends, then sources go: {first}"
    );
    world.install();
    assert!(!world.installed.egress.in_force());
    assert_eq!(world.judges(WEB, "8.8.8.8", 80), Judgement::NotJudged);
    assert_eq!(world.installed.egress.policies.len(), 1);
    world.policy("web", "action: Deny");
    world.install();
    assert!(generation(&world) > before + 1);
}

#[test]
fn e4_after_a_start_the_maps_are_as_they_should_be() {
    let mut world = installed();
    world.policy("more", "to: {cidrs: [8.8.0.0/16], ports: [{protocol: TCP, port: 53}]}, action: Allow");
    world.policy(
        "half",
        "to: {cidrs: [7.0.0.0/8, \"2001:db8::/32\"]}, action: Snat, snat: {addresses: [172.16.3.11]}",
    );
    world.install();
    world.no_policy("web");
    world.policy("last", "to: {cidrs: [5.0.0.0/8]}, action: Deny");
    world.install();
    let before = world.compile().egress.statuses;
    // A new agent knows what the maps say, and no names.
    world.egress = Arc::default();
    let compiled = world.compile();
    let steps = diff(&world.installed, &compiled.image).steps;
    assert!(
        matches!(steps[..], [Step::Egress(EgressStep::SetDefault { .. })]),
        "flows are judged anew, and nothing else is written: {steps:#?}"
    );
    let stats = |statuses: &std::collections::BTreeMap<
        String,
        netroute_user::compile::egress::condition::PolicyStatus,
    >| {
        statuses.iter().map(|(name, status)| (name.clone(), status.stats.clone())).collect::<Vec<_>>()
    };
    assert_eq!(stats(&compiled.egress.statuses), stats(&before), "each policy has its counter");
}

#[test]
fn e7_a_policy_that_does_and_covers_something_else_gets_another_number() {
    let mut world = installed();
    let number = |world: &World| world.compile().egress.statuses["web"].stats[0];
    let first = number(&world);
    let from = "from: {podSelector: {matchLabels: {app: web}}}";
    world.policy("web", &format!("{from}, to: {{cidrs: [8.8.8.0/24]}}, action: Allow"));
    assert_eq!(number(&world), first, "one write changes it");
    world.install();
    world.policy("web", &format!("{from}, to: {{cidrs: [8.8.0.0/16]}}, action: Allow"));
    assert_eq!(number(&world), first, "its rules change, it does not");
    world.install();
    world.policy("web", &format!("{from}, to: {{cidrs: [8.0.0.0/8]}}, action: Deny"));
    assert_ne!(number(&world), first);
}

#[test]
fn e8_a_counter_begins_at_zero_for_another_policy_only() {
    let mut world = installed();
    world.policy("new", "to: {cidrs: [7.7.7.0/24]}, action: Deny");
    let compiled = world.compile();
    let number = compiled.egress.statuses["new"].stats[0];
    let steps = diff(&world.installed, &compiled.image).steps;
    let resets: Vec<u32> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Egress(EgressStep::ResetStats { policy }) => Some(*policy),
            _ => None,
        })
        .collect();
    assert_eq!(resets, [number]);
}
