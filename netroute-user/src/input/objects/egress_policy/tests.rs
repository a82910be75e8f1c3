use kube::CustomResourceExt;

use super::*;
use crate::input::yaml::documents;

fn object(spec: &str) -> Result<EgressPolicy, String> {
    let text = format!(
        "apiVersion: netroute.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: cameras}}\nspec: {{{spec}}}\n"
    );
    documents(&text)[0].parse().map_err(|error| error.message)
}

fn read(spec: &str) -> egress::EgressPolicy {
    egress_policy(&object(spec).expect("an EgressPolicy")).expect("who and where to")
}

/// What is said of it, wherever it is said.
fn wrong(spec: &str) -> String {
    let object = match object(spec) {
        Ok(object) => object,
        Err(message) => return message,
    };
    match egress_policy(&object) {
        Ok(policy) => policy.effect.expect_err(spec),
        Err(error) => error.to_string(),
    }
}

#[test]
fn e1_the_documented_policy_is_read() {
    let policy = read(
        "priority: 100, from: {podSelector: {matchLabels: {app: nvr}}, namespaceSelector: {}, cidrs: []}, \
         to: {cidrs: [192.168.000.0/16], except: [192.168.9.0/24], \
         ports: [{protocol: TCP, port: 554, endPort: 560}, {protocol: UDP}]}, action: Masquerade, \
         snat: {addresses: []}, via: [{interface: Port3, nextHop: 192.168.20.1, metric: 100}]",
    );
    assert_eq!((policy.name.as_str(), policy.priority, policy.created), ("cameras", 100, None));
    assert!(policy.from.takes_pods() && policy.from.asks_labels());
    let written = |list: &std::collections::BTreeSet<ipnet::IpNet>| {
        list.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(written(&policy.to.cidrs), ["192.168.0.0/16"]);
    assert_eq!(written(&policy.to.except), ["192.168.9.0/24"]);
    let ports: Vec<_> = policy.to.ports.iter().map(|port| (port.first, port.last)).collect();
    assert_eq!(ports, [(554, 560), (0, 65535)]);
    let effect = policy.effect.unwrap();
    assert_eq!(
        (effect.action.word(), effect.via[0].to_string()),
        ("Masquerade", "192.168.20.1 on Port3".into())
    );
}

#[test]
fn e1_what_is_left_out_has_its_default() {
    let policy = read("action: Deny");
    assert_eq!(policy.priority, DEFAULT_PRIORITY);
    assert_eq!(policy.from, egress::From::default());
    assert_eq!(policy.to.cidrs.len(), 2, "both IP versions");
    assert_eq!(policy.effect.unwrap().action, egress::Action::Deny { reject: false });
    assert_eq!(
        read("action: Deny, deny: Reject").effect.unwrap().action,
        egress::Action::Deny { reject: true }
    );
    assert!(!read("action: Allow, from: {node: true}").from.takes_pods());
}

#[test]
fn e4_what_is_wrong_with_the_effect_leaves_its_traffic_known() {
    for (spec, expected) in [
        ("action: Alow", "spec.action: unknown value \"Alow\"; did you mean \"Allow\"?"),
        ("action: \"\"", "spec.action: is missing; write Allow, Deny, Masquerade or Snat"),
        ("action: Deny, deny: Ignore", "spec.deny: unknown value \"Ignore\"; known are: Drop, Reject"),
        ("action: Allow, deny: Drop", "spec.deny: only the action Deny has it"),
        ("action: Snat", "spec.snat.addresses: is missing; the action Snat asks for at least one address"),
        ("action: Snat, snat: {addresses: [x]}", "spec.snat.addresses[0]: \"x\" is not an IP address"),
        (
            "action: Snat, snat: {addresses: [192.0.2.1, 192.0.2.01]}",
            "spec.snat.addresses[1]: the same address is there twice",
        ),
        (
            "action: Masquerade, snat: {addresses: [192.0.2.1]}",
            "spec.snat: only the action Snat has addresses",
        ),
        (
            "action: Snat, to: {cidrs: [10.0.0.0/8]}, snat: {addresses: [\"fd00::1\"]}",
            "spec.snat.addresses[0]: fd00::1 is IPv6, and no destination is; give destinations of that",
        ),
        (
            "action: Allow, to: {cidrs: [10.0.0.0/8]}, via: [{interface: Port3, nextHop: \"fe80::1\"}]",
            "spec.via[0].nextHop: fe80::1 is IPv6, and no destination is",
        ),
        (
            "action: Allow, to: {cidrs: [\"2001:db8::/32\"]}, via: [{interface: Port3, nextHop: 192.0.2.1}]",
            "spec.via[0].nextHop: 192.0.2.1 is IPv4, and no destination is",
        ),
        (
            "action: Allow, via: [{interface: Port3, nextHop: 192.0.2.1}, {interface: port3, nextHop: 192.0.2.1}]",
            "spec.via[1].nextHop: the same next hop is there twice",
        ),
        ("action: Allow, via: [{interface: \" \", nextHop: 192.0.2.1}]", "spec.via[0].interface: is missing"),
        (
            "action: Allow, via: [{interface: Port3, nextHop: 192.0.2.1, metric: 0}]",
            "spec.via[0].metric: must be 1 to 4294967295",
        ),
        (
            "action: Deny, via: [{interface: Port3, nextHop: 192.0.2.1}]",
            "spec.via: what is denied goes nowhere",
        ),
    ] {
        assert!(egress_policy(&object(spec).unwrap()).is_ok(), "{spec}");
        let message = wrong(spec);
        assert!(message.starts_with(expected), "{spec}\n got {message}\nwant {expected}");
        assert!(check_effect(&object(spec).unwrap()).is_err());
    }
}

#[test]
fn e1_what_cannot_be_read_is_refused_with_its_field() {
    for (spec, expected) in [
        (
            "action: Allow, to: {cidrs: [192.168.20.7/24]}",
            "spec.to.cidrs[0]: 192.168.20.7/24 has host bits set; the prefix is 192.168.20.0/24",
        ),
        ("action: Allow, to: {except: [\"::1/64\"]}", "spec.to.except[0]: ::1/64 has host bits set"),
        ("action: Allow, from: {cidrs: [10.244.0.1/16]}", "spec.from.cidrs[0]: 10.244.0.1/16 has host bits"),
        ("action: Allow, to: {cidrs: [\"::ffff:10.0.0.0/104\"]}", "spec.to.cidrs[0]: ::ffff:10.0.0.0 is an"),
        ("action: Allow, to: {ports: [{port: 80}]}", "spec.to.ports[0].protocol: is missing; say of which"),
        (
            "action: Allow, to: {ports: [{protocol: tcp}]}",
            "spec.to.ports[0].protocol: unknown value \"tcp\"; did",
        ),
        (
            "action: Allow, to: {ports: [{protocol: TCP, port: 0}]}",
            "spec.to.ports[0].port: 0 is outside 1 to",
        ),
        (
            "action: Allow, to: {ports: [{protocol: TCP, port: 560, endPort: 554}]}",
            "spec.to.ports[0].endPort: 554 is before the first port, 560; exchange them",
        ),
        (
            "action: Allow, to: {ports: [{protocol: TCP, endPort: 554}]}",
            "spec.to.ports[0].endPort: there is no",
        ),
        (
            "action: Allow, from: {podSelector: {matchExpressions: [{key: app, operator: Is, values: [a]}]}}",
            "spec.from.podSelector.matchExpressions[0].operator: unknown value \"Is\"; did you mean \"In\"?",
        ),
        (
            "action: Allow, from: {namespaceSelector: {matchExpressions: [{key: app, operator: In}]}}",
            "spec.from.namespaceSelector.matchExpressions[0].values: is missing; In and NotIn ask",
        ),
        (
            "action: Allow, from: {podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}",
            "spec.from.podSelector.matchExpressions[0].values: Exists and DoesNotExist have none",
        ),
        ("action: Allow, form: {}", "spec: unknown key \"form\"; did you mean \"from\"?"),
        ("action: Allow, from: {podSelectr: {}}", "spec.from: unknown key \"podSelectr\"; did you mean"),
        ("priority: 1", "spec: the key \"action\" is missing"),
        ("action: Allow, priority: high", "spec.priority: invalid type"),
    ] {
        let message = wrong(spec);
        assert!(message.starts_with(expected), "{spec}\n got {message}\nwant {expected}");
    }
}

#[test]
fn the_crd_in_deploy_is_the_one_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds/egresspolicies.netroute.dev.yaml");
    let file: serde_norway::Value = serde_norway::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let code = serde_norway::to_value(EgressPolicy::crd()).unwrap();
    assert_eq!(file, code, "write it again with `netroute crds --folder deploy/crds`");
}

#[test]
fn the_crd_is_a_structural_schema() {
    let text = serde_json::to_string(&EgressPolicy::crd()).unwrap();
    assert!(!text.contains("\"additionalProperties\":false"), "the API server refuses it beside properties");
}
