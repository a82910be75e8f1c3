use super::*;

/// The endpoints of one Service at its ClusterIP.
fn chosen(endpoints: Vec<SliceEndpoint>) -> Vec<String> {
    let world = World::of([service("web", "10.96.0.10")], [slice("web-1", "web", endpoints)]);
    world.select().endpoints("10.96.0.10", 80)
}

fn for_nodes(address: &str, node: &str, hints: &[&str]) -> SliceEndpoint {
    let node_hints = hints.iter().map(|&hint| hint.to_owned()).collect();
    SliceEndpoint { node_hints, ..endpoint(address, node) }
}

fn for_zones(address: &str, hints: &[&str]) -> SliceEndpoint {
    let zone_hints = hints.iter().map(|&hint| hint.to_owned()).collect();
    SliceEndpoint { zone_hints, ..endpoint(address, THERE) }
}

#[test]
fn s1_ready_endpoints_are_used_and_no_others() {
    let found = chosen(vec![
        endpoint("10.244.1.10", HERE),
        endpoint("10.244.2.10", THERE),
        terminating("10.244.2.11", THERE),
        not_ready("10.244.2.12", THERE),
    ]);
    assert_eq!(found, ["10.244.1.10:8080*", "10.244.2.10:8080"]);
}

#[test]
fn s1_without_a_ready_one_those_that_still_serve_while_they_terminate() {
    let dead = SliceEndpoint { serving: false, ..terminating("10.244.2.13", THERE) };
    let found =
        chosen(vec![terminating("10.244.2.11", THERE), not_ready("10.244.2.12", THERE), dead.clone()]);
    assert_eq!(found, ["10.244.2.11:8080"]);
    assert_eq!(chosen(vec![dead]), [""; 0]);
}

#[test]
fn s1_the_node_decides_for_itself() {
    let web = Service { internal_policy: TrafficPolicy::Local, ..service("web", "10.96.0.10") };
    let endpoints = vec![terminating("10.244.1.11", HERE), endpoint("10.244.2.10", THERE)];
    let selection = World::of([web], [slice("web-1", "web", endpoints)]).select();
    assert_eq!(selection.endpoints("10.96.0.10", 80), ["10.244.1.11:8080*"]);
}

#[test]
fn s2_node_hints_count_if_all_ready_endpoints_have_them_and_one_matches() {
    let here = for_nodes("10.244.1.10", HERE, &[HERE]);
    let there = for_nodes("10.244.2.10", THERE, &[THERE]);
    assert_eq!(chosen(vec![here.clone(), there.clone()]), ["10.244.1.10:8080*"]);
    assert_eq!(chosen(vec![there.clone()]), ["10.244.2.10:8080"], "none matches");
    let bare = endpoint("10.244.2.11", THERE);
    assert_eq!(chosen(vec![here.clone(), bare]).len(), 2, "one has no hint");
    let away = terminating("10.244.2.12", THERE);
    assert_eq!(chosen(vec![here, there, away]), ["10.244.1.10:8080*"], "hints of ready ones count only");
}

#[test]
fn s2_zone_hints_come_second() {
    let in_zone = for_zones("10.244.2.10", &["a", "c"]);
    let elsewhere = for_zones("10.244.2.11", &["b"]);
    assert_eq!(chosen(vec![in_zone.clone(), elsewhere.clone()]), ["10.244.2.10:8080"]);
    assert_eq!(chosen(vec![elsewhere.clone()]), ["10.244.2.11:8080"]);
    let node_hints = BTreeSet::from([THERE.to_owned()]);
    let with_both = SliceEndpoint { node_hints, ..in_zone };
    assert_eq!(chosen(vec![with_both, elsewhere]), ["10.244.2.10:8080"]);
}

#[test]
fn s2_the_zone_is_that_of_the_node_object_or_else_of_the_configuration() {
    let endpoints = vec![for_zones("10.244.2.10", &["b"]), for_zones("10.244.2.11", &["z"])];
    let mut world = World::of([service("web", "10.96.0.10")], [slice("web-1", "web", endpoints)]);
    world.settings().node_labels.insert(ZONE_LABEL.to_owned(), "z".to_owned());
    assert_eq!(world.select().endpoints("10.96.0.10", 80).len(), 2, "zone a of the Node object");
    let Cluster { services, endpoint_slices, .. } = (*world.desired.cluster).clone();
    world.desired.cluster = Cluster { services, endpoint_slices, ..Cluster::default() }.into();
    assert_eq!(world.select().endpoints("10.96.0.10", 80), ["10.244.2.11:8080"]);
}

#[test]
fn s2_hints_do_not_narrow_the_node_local_set() {
    let web = Service { internal_policy: TrafficPolicy::Local, ..service("web", "10.96.0.10") };
    let endpoints = vec![for_nodes("10.244.1.10", HERE, &[THERE]), for_nodes("10.244.1.11", HERE, &[HERE])];
    let selection = World::of([web], [slice("web-1", "web", endpoints)]).select();
    assert_eq!(selection.endpoints("10.96.0.10", 80), ["10.244.1.10:8080*", "10.244.1.11:8080*"]);
}

#[test]
fn an_endpoint_that_moves_between_slices_counts_once() {
    let old = slice("web-1", "web", vec![not_ready("10.244.1.10", HERE)]);
    let new = slice("web-2", "web", vec![SliceEndpoint { node: None, ..endpoint("10.244.1.10", HERE) }]);
    let selection = World::of([service("web", "10.96.0.10")], [old, new]).select();
    assert_eq!(selection.endpoints("10.96.0.10", 80), ["10.244.1.10:8080*"]);
}

#[test]
fn s9_families_are_independent() {
    let mut web = service("web", "10.96.0.10");
    web.cluster_ips.insert(ip("fd00:96::10"));
    let four = slice("web-4", "web", vec![endpoint("10.244.1.10", HERE)]);
    let six = slice("web-6", "web", vec![endpoint("fd00:244::10", THERE)]);
    let selection = World::of([web.clone()], [four.clone(), six]).select();
    assert_eq!(selection.endpoints("10.96.0.10", 80), ["10.244.1.10:8080*"]);
    assert_eq!(selection.endpoints("fd00:96::10", 80), ["fd00:244::10:8080"]);
    let selection = World::of([web], [four]).select();
    assert_eq!(selection.endpoints("10.96.0.10", 80), ["10.244.1.10:8080*"]);
    let without = selection.at("fd00:96::10", 80, Scope::Internal);
    assert_eq!((shown(without).len(), without.without), (0, WithoutEndpoint::Reject));
}

#[test]
fn s10_a_named_target_port_may_differ_between_slices() {
    let old = slice("web-1", "web", vec![endpoint("10.244.1.10", HERE)]);
    let mut new = slice("web-2", "web", vec![endpoint("10.244.1.11", HERE)]);
    new.ports = vec![slice_port("metrics", Protocol::Tcp, 9100), slice_port("http", Protocol::Tcp, 9090)];
    let selection = World::of([service("web", "10.96.0.10")], [old, new]).select();
    assert_eq!(selection.endpoints("10.96.0.10", 80), ["10.244.1.10:8080*", "10.244.1.11:9090*"]);
}

#[test]
fn s10_the_protocol_is_part_of_the_key() {
    let mut dns = service("dns", "10.96.0.53");
    dns.ports = vec![
        port("udp", Protocol::Udp, 53, None),
        port("tcp", Protocol::Tcp, 53, None),
        port("sctp", Protocol::Sctp, 53, None),
    ];
    let mut slice = slice("dns-1", "dns", vec![endpoint("10.244.1.53", HERE)]);
    // The UDP port is known to the slice under the name, but as TCP: that is another port.
    slice.ports = vec![
        slice_port("udp", Protocol::Tcp, 1),
        slice_port("tcp", Protocol::Tcp, 5353),
        slice_port("sctp", Protocol::Sctp, 5354),
    ];
    let selection = World::of([dns], [slice]).select();
    let found: Vec<_> = selection
        .front_ends
        .iter()
        .filter(|(key, _)| key.scope == Scope::Internal)
        .map(|(key, spec)| (key.protocol, spec.service.protocol, shown(spec)))
        .collect();
    let expected = [
        (Protocol::Tcp, Protocol::Tcp, vec!["10.244.1.53:5353*".to_owned()]),
        (Protocol::Udp, Protocol::Udp, vec![]),
        (Protocol::Sctp, Protocol::Sctp, vec!["10.244.1.53:5354*".to_owned()]),
    ];
    assert_eq!(found, expected);
    let expected = ("NoSlicePort", "port 53/UDP: no EndpointSlice has a port of the name \"udp\"".to_owned());
    assert_eq!(selection.conditions_of("dns"), [expected]);
}
