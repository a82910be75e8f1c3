use super::*;
use crate::compile::services::MOST_ENDPOINTS;
use crate::desired::service::IpMode;

/// Every Service gets one local endpoint.
fn world(services: impl IntoIterator<Item = Service>) -> World {
    let services: Vec<Service> = services.into_iter().collect();
    let names: Vec<String> = services.iter().map(|service| service.key.name.clone()).collect();
    World::of(services, names.iter().map(|name| slice(name, name, vec![endpoint("10.244.1.10", HERE)])))
}

fn with_node_port(name: &str, cluster_ip: &str, created: Option<i64>) -> Service {
    let ports = vec![port("http", Protocol::Tcp, 80, Some(30080))];
    Service { kind: ServiceType::NodePort, created, ports, ..service(name, cluster_ip) }
}

/// Whose the node port is, and who is told that it is taken.
fn holder(services: [Service; 2]) -> (String, Vec<(&'static str, String)>) {
    let names = services.clone().map(|service| service.key.name);
    let selection = world(services).select();
    let holder = selection.at("10.128.44.11", 30080, Scope::External).service.name.clone();
    let told = names.iter().flat_map(|name| selection.conditions_of(name)).collect();
    assert_eq!(selection.endpoints("10.96.0.1", 80), ["10.244.1.10:8080*"]);
    assert_eq!(selection.endpoints("10.96.0.2", 80), ["10.244.1.10:8080*"], "the other ClusterIP works");
    (holder, told)
}

#[test]
fn of_two_with_one_node_port_the_older_has_it() {
    let taken = |by: &str| {
        let text = format!("the node port 30080/TCP is that of default/{by}, which is older");
        vec![("NodePortTaken", text)]
    };
    let a = |created| with_node_port("a", "10.96.0.1", created);
    let b = |created| with_node_port("b", "10.96.0.2", created);
    assert_eq!(holder([a(Some(200)), b(Some(100))]), ("b".to_owned(), taken("b")));
    assert_eq!(holder([a(Some(100)), b(Some(100))]), ("a".to_owned(), taken("a")), "by name then");
    assert_eq!(holder([a(None), b(Some(100))]), ("b".to_owned(), taken("b")), "no age is no merit");
}

#[test]
fn a_node_port_of_another_protocol_is_another() {
    let mut udp = with_node_port("b", "10.96.0.2", None);
    udp.ports = vec![port("http", Protocol::Udp, 80, Some(30080))];
    let selection = world([with_node_port("a", "10.96.0.1", None), udp]).select();
    let lines: Vec<_> = selection.outside().into_iter().filter(|line| line.contains("11:30080")).collect();
    let expected = ["10.128.44.11:30080/TCP of a", "10.128.44.11:30080/UDP of b"];
    assert_eq!(lines[..2], expected.map(ToOwned::to_owned));
}

#[test]
fn a_node_port_outside_of_the_range_is_not_served() {
    let mut world = world([with_node_port("a", "10.96.0.1", None)]);
    world.settings().node_port_range = 31000..=31999;
    let selection = world.select();
    assert_eq!(selection.outside(), ["10.96.0.1:80/TCP of a"]);
    let text = "the node port 30080 is outside of 31000 to 31999".to_owned();
    assert_eq!(selection.conditions_of("a"), [("NodePortRange", text)]);
}

#[test]
fn a_node_port_service_without_a_node_port_says_so() {
    let web = Service { kind: ServiceType::NodePort, ..service("a", "10.96.0.1") };
    let told = world([web]).select().conditions_of("a");
    assert_eq!(told, [("NoNodePort", "port 80/TCP has no node port".to_owned())]);
    let balanced = Service { kind: ServiceType::LoadBalancer, ..service("a", "10.96.0.1") };
    assert_eq!(world([balanced]).select().conditions_of("a"), [], "a balancer may go without");
}

#[test]
fn of_two_with_one_external_ip_the_older_has_the_port() {
    let external_ips = BTreeSet::from([ip("192.0.2.7")]);
    let external = |name: &str, cluster_ip: &str, created| Service {
        external_ips: external_ips.clone(),
        created: Some(created),
        ..service(name, cluster_ip)
    };
    let mut other_port = external("c", "10.96.0.3", 300);
    other_port.ports = vec![port("http", Protocol::Tcp, 81, None)];
    let services = [external("a", "10.96.0.1", 200), external("b", "10.96.0.2", 100), other_port];
    let mut world = world(services);
    world.settings().external_ip_cidrs = vec!["192.0.2.0/28".parse().expect("prefix")];
    let selection = world.select();
    let lines: Vec<_> =
        selection.outside().into_iter().filter(|line| line.starts_with("192.0.2.7")).collect();
    assert_eq!(lines, ["192.0.2.7:80/TCP of b", "192.0.2.7:81/TCP of c"]);
    let text = "192.0.2.7:80/TCP is served for default/b already".to_owned();
    assert_eq!(selection.conditions_of("a"), [("AddressTaken", text)]);
    assert_eq!(selection.conditions.len(), 1);
}

#[test]
fn s16_no_external_ip_takes_a_cluster_ip_away() {
    let external_ips = BTreeSet::from([ip("10.96.0.2")]);
    let thief = Service { external_ips, created: Some(1), ..service("a", "10.96.0.1") };
    let victim = Service { created: Some(2), ..service("b", "10.96.0.2") };
    let mut world = world([thief, victim]);
    world.settings().external_ip_cidrs = vec!["0.0.0.0/0".parse().expect("prefix")];
    let selection = world.select();
    assert_eq!(selection.outside(), ["10.96.0.1:80/TCP of a", "10.96.0.2:80/TCP of b"]);
    assert_eq!(selection.conditions_of("a")[0].0, "AddressTaken");
}

#[test]
fn one_service_may_have_an_address_twice() {
    let web = Service {
        kind: ServiceType::LoadBalancer,
        load_balancer: BTreeMap::from([(ip("192.0.2.7"), IpMode::Vip)]),
        external_ips: BTreeSet::from([ip("192.0.2.7")]),
        ..service("a", "10.96.0.1")
    };
    let mut world = world([web]);
    world.settings().external_ip_cidrs = vec!["192.0.2.0/28".parse().expect("prefix")];
    let selection = world.select();
    assert_eq!(selection.at("192.0.2.7", 80, Scope::External).kind, Kind::LoadBalancer);
    assert_eq!(selection.conditions, BTreeMap::new());
}

#[test]
fn a_health_check_port_that_is_taken_is_not_served_twice() {
    let health = |name: &str, cluster_ip: &str, port| Service {
        kind: ServiceType::LoadBalancer,
        external_policy: TrafficPolicy::Local,
        health_check_port: Some(port),
        ..service(name, cluster_ip)
    };
    let services = [
        with_node_port("a", "10.96.0.1", None),
        health("b", "10.96.0.2", 30080),
        health("c", "10.96.0.3", 30081),
        health("d", "10.96.0.4", 30081),
    ];
    let selection = world(services).select();
    assert_eq!(selection.health_ports, BTreeMap::from([(30081, (key("c"), 1))]));
    let taken =
        |port, by: &str| vec![("HealthPortTaken", format!("the health check port {port} is taken by {by}"))];
    assert_eq!(selection.conditions_of("b"), taken(30080, "default/a"));
    assert_eq!(selection.conditions_of("d"), taken(30081, "default/c"));
}

#[test]
fn s9_addresses_and_endpoints_of_a_wrong_family_are_left_out() {
    let mut web = Service { kind: ServiceType::LoadBalancer, ..service("a", "10.96.0.1") };
    web.load_balancer = ["10.128.44.32", "fd16:3::32"].map(|address| (ip(address), IpMode::Vip)).into();
    let endpoints = vec![endpoint("10.244.1.10", HERE), endpoint("fd00:244::10", HERE)];
    let selection = World::of([web], [slice("a-1", "a", endpoints)]).select();
    assert_eq!(selection.outside(), ["10.96.0.1:80/TCP of a", "10.128.44.32:80/TCP of a"]);
    assert_eq!(selection.endpoints("10.96.0.1", 80), ["10.244.1.10:8080*"]);
    let endpoint = "EndpointSlice default/a-1: the endpoint fd00:244::10 is not IPv4; it is left out";
    let address = "fd16:3::32: the Service has no IPv6 ClusterIP; the address is not served";
    assert_eq!(
        selection.conditions_of("a"),
        [("EndpointFamily", endpoint.to_owned()), ("AddressFamily", address.to_owned())]
    );
}

#[test]
fn a_slice_without_its_service_and_a_service_without_slices_say_so() {
    let lost = slice("b-1", "b", vec![endpoint("10.244.1.10", HERE)]);
    let selection = World::of([service("a", "10.96.0.1")], [lost]).select();
    let text = "no EndpointSlice names this Service: it has no endpoints".to_owned();
    assert_eq!(selection.conditions_of("a"), [("NoEndpointSlice", text)]);
    let text = "EndpointSlice default/b-1 names this Service, which is not there".to_owned();
    assert_eq!(selection.conditions_of("b"), [("NoService", text)]);
    assert_eq!(selection.at("10.96.0.1", 80, Scope::External).without, WithoutEndpoint::Reject);
}

#[test]
fn a_service_without_a_cluster_ip_says_so() {
    let web = Service { cluster_ips: BTreeSet::new(), ..service("a", "10.96.0.1") };
    let selection = world([web]).select();
    let text = "no ClusterIP: give one in spec.clusterIPs".to_owned();
    assert_eq!(selection.conditions_of("a"), [("NoClusterIP", text)]);
    assert_eq!(selection.front_ends.len(), 0);
}

#[test]
fn more_endpoints_than_can_be_used_leave_everything_else_working() {
    let pod = |n: u32| SliceEndpoint {
        address: IpAddr::from((0x0a80_0000 + n).to_be_bytes()),
        ..endpoint("10.244.1.10", HERE)
    };
    let part = |n: u32| {
        let endpoints = (n * 1000..(n + 1) * 1000).map(pod).collect();
        slice(&format!("a-{n}"), "a", endpoints)
    };
    let small = slice("b-1", "b", vec![endpoint("10.244.1.10", HERE)]);
    let services = [service("a", "10.96.0.1"), service("b", "10.96.0.2")];
    let selection = World::of(services, (0..100).map(part).chain([small])).select();
    let large = selection.endpoints("10.96.0.1", 80);
    assert_eq!((large.len(), large[0].as_str()), (MOST_ENDPOINTS, "10.128.0.0:8080*"));
    assert_eq!(selection.endpoints("10.96.0.2", 80), ["10.244.1.10:8080*"]);
    let text = format!("port 80/TCP: 100000 endpoints; the first {MOST_ENDPOINTS} are used");
    assert_eq!(selection.conditions_of("a"), [("TooManyEndpoints", text)]);
    assert_eq!(selection.conditions_of("b"), []);
}

#[test]
fn the_selection_does_not_depend_on_the_order_of_slices() {
    let pods = ["10.244.1.10", "10.244.2.10", "10.244.2.11"];
    let one = |pods: &[&str]| -> Selection {
        let slices = pods.iter().enumerate();
        let slices = slices.map(|(n, pod)| slice(&format!("a-{n}"), "a", vec![endpoint(pod, THERE)]));
        World::of([service("a", "10.96.0.1")], slices).select()
    };
    let reversed: Vec<_> = pods.iter().rev().copied().collect();
    assert_eq!(one(&pods), one(&reversed));
}
