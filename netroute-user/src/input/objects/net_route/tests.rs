use std::time::Duration;

use kube::CustomResourceExt;

use super::*;
use crate::desired::route::ProbeKind;

fn spec(destination: &str, next_hop: &str) -> NetRouteSpec {
    NetRouteSpec {
        destination: destination.into(),
        next_hop: next_hop.into(),
        interface: "Port3".into(),
        metric: None,
        weight: None,
        probe: None,
        node_selector: BTreeMap::new(),
    }
}

fn route(spec: &NetRouteSpec) -> Result<CustomRoute, String> {
    spec.route(LeadingZeros::Decimal, None, false, Origin::Cli).map_err(|error| error.to_string())
}

#[test]
fn r2_a_next_hop_may_lie_inside_its_destination() {
    let route = route(&spec("192.168.20.0/24", "192.168.20.1")).unwrap();
    assert_eq!(route.key.to_string(), "192.168.20.0/24 via 192.168.20.1 dev Port3");
    assert_eq!((route.metric, route.weight), (256, 1));
}

#[test]
fn r3_objects_with_leading_zeros_become_canonical() {
    let route = route(&spec("172.30.0.041", "172.30.0.001")).unwrap();
    assert_eq!(route.key.to_string(), "172.30.0.41/32 via 172.30.0.1 dev Port3");
}

#[test]
fn r3_the_whole_address_space_is_a_destination() {
    assert!(route(&spec("0.0.0.0/0", "192.168.20.1")).is_ok());
    assert!(route(&spec("::/0", "fe80::1")).is_ok());
}

#[test]
fn r3_what_cannot_be_routed_is_refused_with_the_key() {
    for (destination, next_hop, expected) in [
        ("192.168.20.7/24", "192.168.20.1", "destination: 192.168.20.7/24 has host bits set"),
        ("224.0.1.0/24", "192.168.20.1", "destination: 224.0.1.0/24 is multicast"),
        ("ff02::/16", "fe80::1", "destination: ff02::/16 is multicast"),
        ("127.0.0.0/8", "192.168.20.1", "destination: 127.0.0.0/8 is loopback"),
        ("::1", "fe80::1", "destination: ::1/128 is loopback"),
        ("0.0.0.0", "192.168.20.1", "destination: 0.0.0.0/32 is in 0.0.0.0/8"),
        ("::", "fe80::1", "destination: ::/128 is the unspecified address"),
        ("255.255.255.255", "192.168.20.1", "destination: 255.255.255.255/32 is the broadcast address"),
        ("::ffff:10.0.0.0/120", "fe80::1", "destination: ::ffff:10.0.0.0/120 is an IPv4-mapped"),
        ("10.0.0.0/8", "224.0.0.1", "nextHop: 224.0.0.1 is multicast"),
        ("10.0.0.0/8", "127.0.0.1", "nextHop: 127.0.0.1 is loopback"),
        ("10.0.0.0/8", "0.0.0.0", "nextHop: 0.0.0.0 is in 0.0.0.0/8"),
        ("2001:db8::/32", "::", "nextHop: :: is the unspecified address"),
        ("10.0.0.0/8", "gateway", "nextHop: \"gateway\" is not an IP address"),
        ("10.0.0.0/8", "fe80::1", "nextHop: fe80::1 is IPv6, the destination 10.0.0.0/8 is IPv4"),
    ] {
        let message = route(&spec(destination, next_hop)).unwrap_err();
        assert!(message.starts_with(expected), "{destination} via {next_hop}: {message}");
    }
}

#[test]
fn an_interface_name_that_could_not_be_exported_is_refused() {
    for name in ["Port\"3", "Port\n3", "Port\u{1b}3"] {
        let spec = NetRouteSpec { interface: name.to_owned(), ..spec("10.0.0.0/8", "192.168.20.1") };
        let message = route(&spec).unwrap_err();
        assert!(message.starts_with("interface: \"Port") && message.contains("has quotes"), "{message}");
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    let base = spec("10.0.0.0/8", "192.168.20.1");
    assert!(route(&NetRouteSpec { metric: Some(0), ..base.clone() }).unwrap_err().starts_with("metric: "));
    assert!(route(&NetRouteSpec { weight: Some(0), ..base.clone() }).unwrap_err().starts_with("weight: "));
    assert!(
        route(&NetRouteSpec { interface: " ".into(), ..base.clone() })
            .unwrap_err()
            .starts_with("interface: ")
    );
    let probe = ProbeSpec { kind: crate::config::ProbeKindWord::Echo, interval: None, threshold: Some(0) };
    let message = route(&NetRouteSpec { probe: Some(probe), ..base }).unwrap_err();
    assert_eq!(message, "probe.threshold: must be at least 1");
}

#[test]
fn the_default_probe_is_taken_unless_the_route_names_one() {
    let echo = Some(Probe { kind: ProbeKind::Echo, interval: Duration::from_secs(1), threshold: 3 });
    let base = spec("10.0.0.0/8", "192.168.20.1");
    let convert = |spec: &NetRouteSpec| spec.route(LeadingZeros::Decimal, echo, false, Origin::Cli).unwrap();
    assert_eq!(convert(&base).probe, echo);
    let none = ProbeSpec::from(None);
    assert_eq!(convert(&NetRouteSpec { probe: Some(none), ..base }).probe, None);
}

#[test]
fn r9_a_route_survives_the_way_through_its_object() {
    let mut route = route(&spec("2001:db8::/32", "fe80::1")).unwrap();
    (route.metric, route.weight, route.forced) = (7, 3, true);
    route.probe = Some(Probe { kind: ProbeKind::Echo, interval: Duration::from_millis(250), threshold: 9 });
    let object = NetRoute::of(&route, None);
    let back = object.spec.route(LeadingZeros::Decimal, None, object.is_forced(), Origin::Cli).unwrap();
    assert_eq!(back, route);
    let name = object.metadata.name.unwrap();
    assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c)), "{name}");
}

#[test]
fn a_node_is_selected_by_all_its_labels() {
    let labels = BTreeMap::from([("site".to_owned(), "a".to_owned()), ("x".to_owned(), "y".to_owned())]);
    let mut spec = spec("10.0.0.0/8", "192.168.20.1");
    assert!(spec.selects(&labels));
    spec.node_selector.insert("site".into(), "a".into());
    assert!(spec.selects(&labels));
    spec.node_selector.insert("zone".into(), "b".into());
    assert!(!spec.selects(&labels));
}

#[test]
fn the_crd_in_deploy_is_the_one_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds/netroutes.netroute.dev.yaml");
    let file: serde_norway::Value = serde_norway::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let code = serde_norway::to_value(NetRoute::crd()).unwrap();
    assert_eq!(file, code, "write it again with `netroute crds --folder deploy/crds`");
}

#[test]
fn the_crd_is_a_structural_schema() {
    let text = serde_json::to_string(&NetRoute::crd()).unwrap();
    assert!(!text.contains("\"additionalProperties\":false"), "the API server refuses it beside properties");
}
