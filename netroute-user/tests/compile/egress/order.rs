//! Who is judged by what.

use super::*;

#[test]
fn e1_the_lowest_priority_counts_then_the_longest_prefix_then_the_oldest_then_the_name() {
    let mut world = World::with_pods();
    world.policy("wide-first", "priority: 10, to: {cidrs: [203.0.113.0/24]}, action: Deny");
    world.policy("narrow-later", "priority: 20, to: {cidrs: [203.0.113.7/32]}, action: Allow");
    assert_eq!(world.judges(WEB, "203.0.113.7", 80), DENIED, "priority before prefix");

    world.policy("wide", "priority: 50, to: {cidrs: [198.51.100.0/24]}, action: Deny");
    world.policy("narrow", "priority: 50, to: {cidrs: [198.51.100.128/25]}, action: Masquerade");
    assert_eq!(world.judges(WEB, "198.51.100.200", 80), Judgement::Masqueraded);
    assert_eq!(world.judges(WEB, "198.51.100.1", 80), DENIED);

    let dated = |name: &str, created, spec: &str| EgressPolicy { created, ..policy(name, spec) };
    let to = "priority: 60, to: {cidrs: [192.0.2.0/24]}, action: ";
    world.insert_policy(dated("a-without-age", None, &format!("{to}Deny")));
    world.insert_policy(dated("b-young", Some(2000), &format!("{to}Deny")));
    world.insert_policy(dated("z-old", Some(1000), &format!("{to}Allow")));
    assert_eq!(world.judges(WEB, "192.0.2.1", 80), Judgement::Allowed, "the oldest");
    world.no_policy("z-old");
    world.no_policy("b-young");
    world.policy("0-first-name", &format!("{to}Allow"));
    assert_eq!(world.judges(WEB, "192.0.2.1", 80), Judgement::Allowed, "the name");
    assert_eq!(world.judges(WEB, "8.8.8.8", 80), Judgement::Allowed, "nobody's is the default's");
}

#[test]
fn e1_a_policy_with_ports_leaves_the_others_to_the_next() {
    let mut world = World::with_pods();
    let to = "to: {cidrs: [192.168.0.0/16], ports: [{protocol: TCP, port: 554, endPort: 560}]}";
    world.policy("rtsp", &format!("priority: 10, {to}, action: Masquerade"));
    world.policy("rest", "priority: 20, to: {cidrs: [192.168.0.0/16]}, action: Deny, deny: Reject");
    let image = world.compile().image.egress;
    let judged = [553, 554, 560, 561].map(|port| judge(&image, WEB, "192.168.20.9", port));
    assert_eq!(judged, [DENIED, Judgement::Masqueraded, Judgement::Masqueraded, DENIED]);
    let udp = decided(&image, WEB, "192.168.20.9", 17, 554);
    assert_eq!(udp, decided(&image, WEB, "192.168.20.9", 6, 80), "another protocol is not meant");
}

#[test]
fn e1_a_shadowed_policy_says_by_whom() {
    let mut world = World::with_pods();
    world.policy("all", "priority: 10, to: {cidrs: [192.168.0.0/16]}, action: Deny");
    world.policy("some", "priority: 20, to: {cidrs: [192.168.20.0/24]}, action: Allow");
    let (state, said) = world.said("some");
    assert_eq!(state, State::ShadowedBy);
    assert_eq!(said, "everything that it applies to is decided by all, which comes first");
    assert_eq!(world.said("all"), (State::Ready, String::new()));

    // With ports, or with other pods, it is not all.
    let ports = "ports: [{protocol: TCP, port: 80, endPort: 90}]";
    world.policy("all", &format!("priority: 10, to: {{cidrs: [192.168.0.0/16], {ports}}}, action: Deny"));
    assert_eq!(world.said("some").0, State::Ready);
    let fewer = "ports: [{protocol: TCP, port: 85}]";
    world.policy("some", &format!("priority: 20, to: {{cidrs: [192.168.20.0/24], {fewer}}}, action: Allow"));
    assert_eq!(world.said("some").0, State::ShadowedBy);
    world.policy("all", "priority: 10, from: {podSelector: {matchLabels: {app: web}}}, action: Deny");
    assert_eq!(world.said("some").0, State::Ready, "the other pod is not denied by the first");
    world.policy("nobody", "from: {podSelector: {matchLabels: {app: none}}}, action: Deny");
    assert_eq!(world.said("nobody"), (State::Ready, "it selects nothing on this node".to_owned()));
}

#[test]
fn e1_pods_are_selected_by_labels_namespace_and_address() {
    let mut world = World::with_pods();
    let labels = [("team".to_owned(), "a".to_owned())].into();
    Arc::make_mut(&mut world.cluster().namespaces).insert("shop".to_owned(), labels);
    let mut third = pod("third", &[("app", "web")], &["10.244.1.12"]);
    third.key.namespace = "lab".to_owned();
    world.pod(third);
    let everyone = [WEB, OTHER, "10.244.1.12"];
    let denied = |world: &World| everyone.map(|pod| world.judges(pod, "8.8.8.8", 53) == DENIED);
    for (from, expected) in [
        ("{}", [true, true, true]),
        ("{podSelector: {}}", [true, true, true]),
        ("{podSelector: {matchLabels: {app: web}}}", [true, false, true]),
        ("{namespaceSelector: {matchLabels: {team: a}}}", [true, true, false]),
        (
            "{podSelector: {matchLabels: {app: web}}, namespaceSelector: {matchLabels: {team: a}}}",
            [true, false, false],
        ),
        (
            "{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [lab]}]}}",
            [false, false, true],
        ),
        ("{cidrs: [10.244.1.11/32, 10.244.1.12/32]}", [false, true, true]),
        ("{cidrs: [10.244.1.8/30], podSelector: {matchLabels: {app: other}}}", [false, true, false]),
        ("{node: true}", [false, false, false]),
    ] {
        world.policy("one", &format!("from: {from}, action: Deny"));
        assert_eq!(denied(&world), expected, "{from}");
    }
}

#[test]
fn e1_the_nodes_own_traffic_is_judged_where_a_policy_names_it() {
    let mut world = World::with_pods();
    let node = "172.16.3.11";
    world.policy("pods", "action: Deny");
    assert_eq!(world.judges(node, "8.8.8.8", 53), Judgement::NotJudged);
    world.policy("node", "priority: 1, from: {node: true}, to: {cidrs: [8.8.8.0/24]}, action: Masquerade");
    assert_eq!(world.judges(node, "8.8.8.8", 53), Judgement::Masqueraded);
    assert_eq!(world.judges(node, "9.9.9.9", 53), Judgement::NotJudged, "pods are not the node");
    assert_eq!(world.judges(WEB, "8.8.8.8", 53), DENIED);
    let identities = world.compile().image.egress.sources;
    assert_eq!(identities[&mapped(ip(node))], netroute_common::layout::egress::IDENTITY_NODE);
    let mut agent = pod("agent", &[("app", "web")], &[node]);
    agent.host_network = true;
    world.pod(agent);
    assert_eq!(world.judges(node, "8.8.8.8", 53), Judgement::Masqueraded, "its processes are the node's");
    world.policy("node", "priority: 1, from: {node: true, cidrs: [172.16.3.0/24]}, action: Deny");
    assert_eq!(world.judges(node, "9.9.9.9", 53), DENIED);
    assert_eq!(world.judges("10.128.44.11", "9.9.9.9", 53), Judgement::NotJudged);
}

#[test]
fn e1_the_default_is_not_the_nodes_however_its_addresses_are_selected() {
    let mut world = World::with_pods();
    world.default_egress(DefaultEgress::Deny);
    let (port2, port3) = ("10.128.44.11", "172.16.3.11");
    let one = "from: {node: true, cidrs: [172.16.3.0/24]}, to: {cidrs: [8.8.8.0/24]}";
    world.policy("one", &format!("{one}, action: Masquerade"));
    assert_eq!(world.judges(port3, "8.8.8.8", 53), Judgement::Masqueraded);
    assert_eq!(world.judges(port3, "9.9.9.9", 53), Judgement::NotJudged);
    assert_eq!(world.judges(port2, "8.8.8.8", 53), Judgement::NotJudged);
    assert_eq!(world.judges(WEB, "8.8.8.8", 53), DENIED);

    // Of two identities the data plane knows neither as the node's.
    let ports = "ports: [{protocol: TCP, port: 25}]";
    world.policy("both", &format!("from: {{node: true}}, to: {{cidrs: [0.0.0.0/0], {ports}}}, action: Deny"));
    let image = world.install().image.egress;
    let judged = |from| {
        [("8.8.8.8", 53), ("9.9.9.9", 53), ("9.9.9.9", 25)].map(|(to, port)| judge(&image, from, to, port))
    };
    assert_eq!(judged(port3), [Judgement::Masqueraded, Judgement::Allowed, DENIED]);
    assert_eq!(judged(port2), [Judgement::Allowed, Judgement::Allowed, DENIED]);
    assert_eq!(judge(&image, "fd16:3::11", "2001:db8::1", 53), Judgement::Allowed);
    world.egress = Arc::default();
    let again = world.compile().image;
    let steps = netroute_user::plan::diff(&world.installed, &again).steps;
    assert!(steps.len() <= 1, "after a start: {steps:#?}");
}

#[test]
fn e3_excepted_destinations_are_the_next_policys() {
    let mut world = World::with_pods();
    let to = "to: {cidrs: [192.168.0.0/16], except: [192.168.9.0/24, 192.168.20.7/32]}";
    world.policy("cameras", &format!("priority: 10, {to}, action: Masquerade"));
    world.policy("rest", "priority: 20, to: {cidrs: [192.168.20.0/24]}, action: Deny");
    let image = world.compile().image.egress;
    for (to, expected) in [
        ("192.168.20.8", Judgement::Masqueraded),
        ("192.168.20.7", DENIED),
        ("192.168.9.1", Judgement::Allowed),
        ("192.168.8.1", Judgement::Masqueraded),
    ] {
        assert_eq!(judge(&image, WEB, to, 80), expected, "{to}");
    }
}

#[test]
fn e3_traffic_to_the_cluster_is_not_judged() {
    let mut world = World::with_pods();
    world.default_egress(DefaultEgress::Deny);
    world.policy("all", "action: Snat, snat: {addresses: [172.16.3.11]}");
    let other = netroute_user::desired::service::Node {
        name: "worker-2".to_owned(),
        addresses: [ip("10.9.9.9")].into(),
        ..Default::default()
    };
    world.cluster().nodes.insert(other.name.clone(), other);
    let image = world.compile().image.egress;
    // A pod of another node, a Service, a node by the range, one by its object, this node.
    for to in ["10.244.7.7", "fd00:244::7", "10.96.0.1", "10.128.44.99", "10.9.9.9", "172.16.3.11"] {
        assert_eq!(judge(&image, WEB, to, 80), Judgement::NotJudged, "{to}");
    }
    world.policy("inside", "to: {cidrs: [10.244.3.0/24, 10.96.0.0/16]}, action: Deny");
    let (state, said) = world.said("inside");
    assert_eq!(
        (state, said.as_str()),
        (State::Ready, "its destinations belong to the cluster, whose own traffic is not judged")
    );
    let entries = world.compile().image.egress.entries();
    assert_eq!(entries, image.entries(), "what lies inside of the cluster takes no entry");
}

#[test]
fn e1_what_is_said_of_ipv6_is_not_said_of_ipv4() {
    let mut world = World::with_pods();
    world.policy("six", "to: {cidrs: [\"::/0\"]}, action: Deny");
    assert_eq!(world.judges("fd00:244::10", "2001:db8::1", 80), DENIED);
    assert_eq!(world.judges(WEB, "8.8.8.8", 80), Judgement::Allowed);
    world.policy("four", "to: {cidrs: [0.0.0.0/0]}, action: Masquerade");
    assert_eq!(world.judges(WEB, "8.8.8.8", 80), Judgement::Masqueraded);
    assert_eq!(world.judges("fd00:244::10", "2001:db8::1", 80), DENIED);
}

#[test]
fn sources_that_the_same_policies_select_share_their_rules() {
    let mut world = World::with_pods();
    world.policy("all", "to: {cidrs: [192.168.0.0/16, 172.31.0.0/16]}, action: Masquerade");
    let image = world.compile().image.egress;
    let identities: std::collections::BTreeSet<_> = image.sources.values().collect();
    assert_eq!((image.sources.len(), identities.len()), (3, 1));
    assert_eq!(image.rules.values().filter(|run| run[0].policy != 1).count(), 1, "the rules are there once");
    let pods = world.compile().egress.statuses["all"].pods;
    assert_eq!(pods, 2);
}
