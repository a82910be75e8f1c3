//! What is not known, wrong, or finds no room goes nowhere (E4).

use netroute_user::compile::image::Limits;

use super::*;

const LABELLED: &str =
    "from: {podSelector: {matchLabels: {app: web}}}, to: {cidrs: [8.8.8.0/24]}, action: Masquerade";

#[test]
fn e4_nothing_is_in_force_without_policies() {
    let world = World::with_pods();
    assert_eq!(world.compile().image.egress, EgressImage::default());
    let mut world = World::with_pods();
    world.default_egress(DefaultEgress::Masquerade);
    assert_eq!(world.judges(WEB, "8.8.8.8", 80), Judgement::Masqueraded);
    world.default_egress(DefaultEgress::Deny);
    assert_eq!(world.judges(WEB, "8.8.8.8", 80), DENIED);
}

#[test]
fn e4_a_pod_that_no_object_tells_of_sends_nothing_where_labels_decide() {
    let mut world = World::with_pods();
    world.routed_pod("10.244.1.99");
    world.routed_pod("172.30.0.5");
    world.policy("all", "to: {cidrs: [9.9.9.0/24]}, action: Deny");
    assert_eq!(world.judges("10.244.1.99", "9.9.9.9", 80), DENIED, "no labels are asked for");
    assert_eq!(world.judges("10.244.1.99", "8.8.8.8", 80), Judgement::Allowed);
    world.policy("web", LABELLED);
    assert_eq!(world.judges("10.244.1.99", "8.8.8.8", 80), Judgement::UnknownSource);
    assert_eq!(world.judges("172.30.0.5", "8.8.8.8", 80), Judgement::UnknownSource, "outside of the ranges");
    assert_eq!(world.judges("10.244.1.99", "10.96.0.1", 80), Judgement::NotJudged, "but to the cluster");
    world.pod(pod("late", &[("app", "web")], &["10.244.1.99"]));
    assert_eq!(world.judges("10.244.1.99", "8.8.8.8", 80), Judgement::Masqueraded);
}

#[test]
fn e4_an_address_of_two_pods_is_nobodys_until_one_ends() {
    let mut world = World::with_pods();
    world.policy("web", LABELLED);
    world.pod(pod("twin", &[("app", "twin")], &[WEB]));
    assert_eq!(world.judges(WEB, "8.8.8.8", 80), Judgement::UnknownSource);
    let mut ending = pod("twin", &[("app", "twin")], &[WEB]);
    ending.ending = true;
    world.pod(ending);
    assert_eq!(world.judges(WEB, "8.8.8.8", 80), Judgement::Masqueraded, "the one that stays counts");
    let mut elsewhere = pod("twin", &[("app", "twin")], &[WEB]);
    elsewhere.node = Some("worker-2".to_owned());
    world.pod(elsewhere);
    assert_eq!(world.judges(WEB, "8.8.8.8", 80), Judgement::Masqueraded, "pods of other nodes do not count");
}

#[test]
fn e4_a_policy_with_a_wrong_effect_denies_what_it_is_about() {
    let mut world = World::with_pods();
    world.policy("wrong", "to: {cidrs: [8.8.8.0/24]}, action: Masqerade");
    assert_eq!(world.judges(WEB, "8.8.8.8", 80), DEGRADED);
    assert_eq!(world.judges(WEB, "9.9.9.9", 80), Judgement::Allowed, "the rest works");
    let (state, said) = world.said("wrong");
    assert_eq!(state, State::Degraded);
    let expected =
        "spec.action: unknown value \"Masqerade\"; did you mean \"Masquerade\"?; its traffic is denied";
    assert_eq!(said, expected);
}

#[test]
fn e4_rules_beyond_the_last_one_are_denied() {
    let mut world = World::with_pods();
    for number in 0..70u32 {
        let port = 1000 + number;
        let to = format!("to: {{cidrs: [8.8.8.0/24], ports: [{{protocol: TCP, port: {port}}}]}}");
        world.policy(&format!("p{number:02}"), &format!("priority: {number}, {to}, action: Allow"));
    }
    world.default_egress(DefaultEgress::Allow);
    let image = world.compile().image.egress;
    let judged = [1000, 1062, 1063, 1069, 80].map(|port| judge(&image, WEB, "8.8.8.8", port));
    assert_eq!(judged, [Judgement::Allowed, Judgement::Allowed, DEGRADED, DEGRADED, DEGRADED]);
    assert!(image.rules.values().all(|run| run.len() <= 64));
    assert_eq!(world.said("p62").0, State::Ready);
    let (state, said) = world.said("p63");
    assert_eq!(state, State::Degraded);
    assert!(said.starts_with("too many policies and ports apply to the same destination: from the 64th"));
}

/// Policies of different pods, the first of the most important one.
fn crowded(limits: Limits) -> World {
    let mut world = World::with_pods();
    world.limits = limits;
    let policy = |priority: u32, app: &str, block: u32| {
        let cidrs: Vec<String> = (0..8).map(|n| format!("203.{block}.{n}.0/24")).collect();
        let ports =
            format!("ports: [{{protocol: TCP, port: {priority}}}, {{protocol: UDP, port: {priority}}}]");
        let from = format!("from: {{podSelector: {{matchLabels: {{app: {app}}}}}}}");
        format!("priority: {priority}, {from}, to: {{cidrs: [{}], {ports}}}, action: Allow", cidrs.join(", "))
    };
    world.policy("first", &policy(1, "web", 1));
    world.policy("second", &policy(2, "other", 2));
    world
}

#[test]
fn e4_what_finds_no_room_is_denied_and_the_first_policies_get_in() {
    for (limits, reason, expected) in [
        (Limits { egress: 20, ..Limits::DEFAULT }, "EgressFull", "raise limits.egress (now 20)"),
        (Limits { egress_rules: 3, ..Limits::DEFAULT }, "RulesFull", "raise limits.egressRules (now 3)"),
        (
            Limits { egress_policies: 3, ..Limits::DEFAULT },
            "PoliciesFull",
            "raise limits.egressPolicies (now 3)",
        ),
    ] {
        let world = crowded(limits);
        let compiled = world.compile();
        let image = &compiled.image.egress;
        assert_eq!(judge(image, WEB, "203.1.1.1", 1), Judgement::Allowed, "{reason}");
        assert_eq!(judge(image, OTHER, "203.2.1.1", 2), DEGRADED, "{reason}");
        assert_eq!(compiled.egress.statuses["first"].state(), State::Ready, "{reason}");
        let second = &compiled.egress.statuses["second"];
        assert_eq!(second.state(), State::Degraded);
        let condition = second.conditions.iter().find(|one| one.reason() == reason).expect(reason);
        assert!(condition.to_string().ends_with(expected), "{condition}");
        netroute_user::apply::check_capacity(&compiled.image, &limits).expect("it fits");
        assert!(!compiled.egress.again, "nothing that goes makes room");
    }
    let mut world = crowded(Limits { snat: 1, ..Limits::DEFAULT });
    world.policy(
        "a",
        "priority: 1, to: {cidrs: [8.8.8.0/24]}, action: Snat, snat: {addresses: [172.16.3.11]}",
    );
    world.policy(
        "b",
        "priority: 2, to: {cidrs: [9.9.9.0/24]}, action: Snat, snat: {addresses: [10.128.44.11]}",
    );
    assert_eq!(world.judges(WEB, "8.8.8.8", 80), Judgement::Snat(vec![ip("172.16.3.11")]));
    assert_eq!(world.judges(WEB, "9.9.9.9", 80), DEGRADED);
    assert!(world.said("b").1.contains("raise limits.snat (now 1)"));
}

#[test]
fn e4_sources_that_find_no_room_are_unknown() {
    let mut world = World::with_pods();
    world.pod(pod("outside", &[], &["172.30.0.5"]));
    world.policy("all", "to: {cidrs: [8.8.8.0/24]}, action: Masquerade");
    world.limits.sources = 1;
    let compiled = world.compile();
    assert_eq!((compiled.image.egress.sources.len(), compiled.egress.unplaced), (1, 3));
    let judged = [WEB, OTHER, "172.30.0.5"].map(|pod| judge(&compiled.image.egress, pod, "8.8.8.8", 80));
    assert_eq!(judged, [Judgement::Masqueraded, Judgement::UnknownSource, Judgement::UnknownSource]);
}
