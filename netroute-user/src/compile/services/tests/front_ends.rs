use std::time::Duration;

use super::*;
use crate::desired::service::{IpMode, Skipped};
use crate::kernel::{Address, KernelState, Link};

/// A LoadBalancer Service `web` with every kind of front end.
fn balanced() -> Service {
    Service {
        kind: ServiceType::LoadBalancer,
        ports: vec![port("http", Protocol::Tcp, 80, Some(30080))],
        external_ips: BTreeSet::from([ip("192.0.2.7")]),
        load_balancer: BTreeMap::from([(ip("10.128.44.32"), IpMode::Vip)]),
        ..service("web", "10.96.0.10")
    }
}

/// One address and port of each kind.
const KINDS: [(&str, u16, Kind); 4] = [
    ("10.96.0.10", 80, Kind::ClusterIp),
    ("10.128.44.11", 30080, Kind::NodePort),
    ("10.128.44.32", 80, Kind::LoadBalancer),
    ("192.0.2.7", 80, Kind::ExternalIp),
];

fn world(service: Service, endpoints: Vec<SliceEndpoint>) -> World {
    let mut world = World::of([service], [slice("web-1", "web", endpoints)]);
    world.settings().external_ip_cidrs = vec!["192.0.2.0/28".parse().expect("prefix")];
    world
}

#[test]
fn s3_without_an_endpoint_every_kind_of_front_end_rejects() {
    for policy in [TrafficPolicy::Cluster, TrafficPolicy::Local] {
        let web = Service { internal_policy: policy, external_policy: policy, ..balanced() };
        let selection = world(web, vec![not_ready("10.244.1.10", HERE)]).select();
        assert_eq!(selection.front_ends.len(), 10, "two more are node ports of 172.16.3.11");
        for (address, port, kind) in KINDS {
            for scope in BOTH {
                let spec = selection.at(address, port, scope);
                assert_eq!((spec.kind, spec.without), (kind, WithoutEndpoint::Reject), "{address} {scope:?}");
                assert_eq!(shown(spec), [""; 0]);
            }
        }
    }
}

#[test]
fn s4_policy_local_without_a_local_endpoint_drops() {
    let local = TrafficPolicy::Local;
    let web = Service { internal_policy: local, external_policy: local, ..balanced() };
    let selection = world(web, vec![endpoint("10.244.2.10", THERE)]).select();
    for (address, port, _) in KINDS {
        let spec = selection.at(address, port, Scope::External);
        assert_eq!((shown(spec).len(), spec.without), (0, WithoutEndpoint::Drop), "{address}");
    }
    let inside = selection.at("10.96.0.10", 80, Scope::Internal);
    assert_eq!((shown(inside).len(), inside.without), (0, WithoutEndpoint::Drop));
}

#[test]
fn s5_pods_and_the_node_reach_a_local_service_through_the_cluster_wide_set() {
    let web = Service { external_policy: TrafficPolicy::Local, ..balanced() };
    let endpoints = vec![endpoint("10.244.1.10", HERE), endpoint("10.244.2.10", THERE)];
    let selection = world(web, endpoints).select();
    for (address, port, kind) in KINDS {
        let outside = shown(selection.at(address, port, Scope::External));
        let inside = shown(selection.at(address, port, Scope::Internal));
        assert_eq!(inside, ["10.244.1.10:8080*", "10.244.2.10:8080"], "{address}");
        let expected = if kind == Kind::ClusterIp { &inside[..] } else { &inside[..1] };
        assert_eq!(outside, expected, "{address}");
    }
}

#[test]
fn s5_inside_the_internal_policy_decides_about_cluster_ips_only() {
    let web = Service { internal_policy: TrafficPolicy::Local, ..balanced() };
    let endpoints = vec![endpoint("10.244.1.10", HERE), endpoint("10.244.2.10", THERE)];
    let selection = world(web, endpoints).select();
    for (address, port, kind) in KINDS {
        let expected = if kind == Kind::ClusterIp { 1 } else { 2 };
        for scope in BOTH {
            assert_eq!(shown(selection.at(address, port, scope)).len(), expected, "{address} {scope:?}");
        }
    }
}

#[test]
fn s6_service_ranges_are_those_of_the_configuration() {
    let mut world = world(balanced(), vec![]);
    let shown = |selection: &Selection| selection.cidrs.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&world.select()), ["10.96.0.0/12"]);
    world.settings().service_cidrs.insert("fd00:96::/112".parse().expect("prefix"));
    assert_eq!(shown(&world.select()), ["10.96.0.0/12", "fd00:96::/112"]);
}

#[test]
fn s7_an_address_of_a_balancer_in_mode_proxy_is_not_captured() {
    let mut web = balanced();
    web.load_balancer.insert(ip("10.128.44.33"), IpMode::Proxy);
    let selection = world(web, vec![]).select();
    let captured: Vec<_> = selection.addresses.keys().map(ToString::to_string).collect();
    assert_eq!(captured, ["10.96.0.10", "10.128.44.32", "192.0.2.7"]);
    assert!(!selection.outside().iter().any(|line| line.starts_with("10.128.44.33")));
}

#[test]
fn s8_a_balancers_address_answers_echo() {
    let selection = world(balanced(), vec![]).select();
    let addresses = [("10.96.0.10", false), ("10.128.44.32", true), ("192.0.2.7", false)];
    assert_eq!(selection.addresses, addresses.map(|(address, echo)| (ip(address), echo)).into());
    for (address, port, kind) in KINDS {
        let spec = selection.at(address, port, Scope::External);
        assert_eq!(spec.echo, kind == Kind::LoadBalancer, "{address}");
    }
}

#[test]
fn s8_what_is_a_nodes_own_address_stays_the_nodes() {
    let mut web = balanced();
    let nodes = ["10.128.44.11", "10.128.44.12"].map(|address| (ip(address), IpMode::Vip));
    web.load_balancer = nodes.into();
    let selection = world(web, vec![endpoint("10.244.1.10", HERE)]).select();
    assert_eq!(selection.endpoints("10.128.44.11", 80), ["10.244.1.10:8080*"]);
    assert!(!selection.at("10.128.44.11", 80, Scope::External).echo);
    let routed: Vec<_> = selection.addresses.keys().map(ToString::to_string).collect();
    assert_eq!(routed, ["10.96.0.10", "192.0.2.7"]);
}

#[test]
fn s11_services_of_others_are_left_alone() {
    let skipped =
        |name: &str, address: &str, skipped| Service { skipped: Some(skipped), ..service(name, address) };
    let services = [
        skipped("mesh", "10.96.0.20", Skipped::OtherProxy),
        skipped("db", "10.96.0.21", Skipped::Headless),
        skipped("far", "10.96.0.22", Skipped::ExternalName),
    ];
    let slices = ["mesh", "db"].map(|name| slice(name, name, vec![endpoint("10.244.1.10", HERE)]));
    let selection = World::of(services, slices).select();
    assert_eq!(selection.outside(), [""; 0]);
    assert_eq!(selection.addresses, BTreeMap::new());
    assert_eq!(selection.foreign, BTreeSet::from([ip("10.96.0.20")]));
    assert_eq!(selection.conditions, BTreeMap::new());
}

#[test]
fn s12_affinity_is_that_of_the_service_at_each_of_its_front_ends() {
    let affinity = Some(Duration::from_secs(600));
    let selection = world(Service { affinity, ..balanced() }, vec![]).select();
    assert!(selection.front_ends.values().all(|spec| spec.affinity == affinity));
    let names: BTreeSet<_> = selection.front_ends.values().map(|spec| &spec.service).collect();
    let service = ServicePort {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        protocol: Protocol::Tcp,
        port: 80,
    };
    assert_eq!(names, BTreeSet::from([&service]), "one name for all, that of the Service's port");
}

#[test]
fn s13_node_ports_answer_on_the_nodes_own_addresses_but_loopback() {
    let mut web = Service { kind: ServiceType::NodePort, external_ips: BTreeSet::new(), ..balanced() };
    web.cluster_ips.insert(ip("fd00:96::10"));
    let mut world = world(web, vec![]);
    let node_ports = |selection: &Selection| -> Vec<String> {
        let lines = selection.outside().into_iter().filter(|line| line.contains(":30080/TCP of web"));
        lines.collect()
    };
    let all = node_ports(&world.select());
    let expected = ["10.128.44.11", "172.16.3.11", "fd16:3::11"];
    assert_eq!(all, expected.map(|address| format!("{address}:30080/TCP of web")));
    world.settings().node_port_cidrs =
        ["127.0.0.0/8", "172.16.0.0/12"].map(|range| range.parse().expect("prefix")).to_vec();
    assert_eq!(node_ports(&world.select()), ["172.16.3.11:30080/TCP of web"]);
}

#[test]
fn s13_node_ports_do_not_answer_on_addresses_that_mean_one_link() {
    let mut web = Service { kind: ServiceType::NodePort, ..balanced() };
    web.cluster_ips.insert(ip("fd00:96::10"));
    let mut world = world(web, vec![]);
    let lines = |world: &World| world.select().outside();
    let before = lines(&world);
    world.addresses.all.extend(["169.254.1.1", "fe80::1", "febf::1", "10.244.1.1", "fd00:244::1"].map(ip));
    world.addresses.of_pods = ["10.244.1.1", "fd00:244::1", "fe80::1"].map(ip).into();
    assert_eq!(lines(&world), before);
    world.settings().node_port_cidrs =
        ["169.254.0.0/16", "fe80::/10", "10.244.0.0/16"].map(|range| range.parse().expect("prefix")).to_vec();
    let configured = lines(&world);
    assert!(!configured.iter().any(|line| line.contains(":30080/")), "{configured:?}");
}

#[test]
fn s13_an_address_of_a_nic_stays_one_where_pods_interfaces_have_it_too() {
    let address = |ifindex, address: &str| Address {
        ifindex,
        address: address.parse().expect("prefix"),
        permanent: true,
        usable: true,
    };
    let kernel = KernelState {
        links: [(2, "eth0"), (3, "cali1"), (4, "cali2")]
            .map(|(index, name)| (index, Link::named(index, name)))
            .into(),
        addresses: BTreeSet::from([
            address(2, "10.128.44.11/24"),
            address(3, "10.128.44.11/32"),
            address(3, "10.244.1.1/32"),
            address(4, "10.244.1.1/32"),
        ]),
        ..KernelState::default()
    };
    let desired = Desired { pod_interfaces: vec!["cali*".to_owned()], ..Desired::default() };
    let NodeAddresses { all, of_pods } = NodeAddresses::of(&desired, &kernel);
    assert_eq!(all, ["10.128.44.11", "10.244.1.1"].map(ip).into());
    assert_eq!(of_pods, ["10.244.1.1"].map(ip).into());
}

#[test]
fn s13_a_family_without_a_cluster_ip_has_no_node_ports() {
    let web = Service { kind: ServiceType::NodePort, ..balanced() };
    let selection = world(web, vec![]).select();
    assert!(!selection.outside().iter().any(|line| line.starts_with("fd16")), "{:?}", selection.outside());
}

#[test]
fn s14_source_ranges_are_for_the_balancers_address_only() {
    let ranges = vec!["198.51.100.0/24".parse().expect("prefix")];
    let selection = world(Service { source_ranges: ranges.clone(), ..balanced() }, vec![]).select();
    for (address, port, kind) in KINDS {
        for scope in BOTH {
            let expected = if kind == Kind::LoadBalancer { &ranges[..] } else { &[] };
            assert_eq!(selection.at(address, port, scope).source_ranges, expected, "{address}");
        }
    }
}

#[test]
fn s15_the_health_check_port_counts_local_ready_pods() {
    let health = |policy| Service {
        external_policy: policy,
        health_check_port: Some(31000),
        cluster_ips: BTreeSet::from([ip("10.96.0.10"), ip("fd00:96::10")]),
        ..balanced()
    };
    let ports = |world: &World| world.select().health_ports;
    let four = vec![
        endpoint("10.244.1.10", HERE),
        endpoint("10.244.1.11", HERE),
        terminating("10.244.1.12", HERE),
        endpoint("10.244.2.10", THERE),
    ];
    let six = slice("web-6", "web", vec![endpoint("fd00:244::10", HERE)]);
    let both = World::of([health(TrafficPolicy::Local)], [slice("web-4", "web", four.clone()), six]);
    assert_eq!(ports(&both), BTreeMap::from([(31000, (key("web"), 2))]), "a pod has both families");
    let going = world(health(TrafficPolicy::Local), vec![terminating("10.244.1.12", HERE)]);
    assert_eq!(ports(&going), BTreeMap::from([(31000, (key("web"), 0))]));
    assert_eq!(ports(&world(health(TrafficPolicy::Cluster), four)), BTreeMap::new());
}

#[test]
fn s16_external_ips_are_taken_from_allowed_ranges_only() {
    let mut world = world(balanced(), vec![endpoint("10.244.1.10", HERE)]);
    assert_eq!(world.select().endpoints("192.0.2.7", 80), ["10.244.1.10:8080*"]);
    world.settings().external_ip_cidrs.clear();
    let selection = world.select();
    assert!(!selection.addresses.contains_key(&ip("192.0.2.7")));
    assert!(!selection.outside().iter().any(|line| line.starts_with("192.0.2.7")));
    let text = "the external IP 192.0.2.7 is in no range of externalIPs.allow of the agent's configuration";
    assert_eq!(selection.conditions_of("web"), [("ExternalIPNotAllowed", text.to_owned())]);
    assert_eq!(selection.endpoints("10.128.44.32", 80), ["10.244.1.10:8080*"], "the others go on");
}

#[test]
fn s17_clients_are_masqueraded_only_where_the_answer_would_go_astray() {
    let masquerade = |policy| {
        let selection = world(Service { external_policy: policy, ..balanced() }, vec![]).select();
        KINDS.map(|(address, port, _)| BOTH.map(|scope| selection.at(address, port, scope).masquerade))
    };
    // External and Internal, for ClusterIP, NodePort, LoadBalancer and ExternalIp.
    let cluster = [[true, false], [true, true], [true, false], [true, false]];
    let local = [[true, false], [false, true], [false, false], [false, false]];
    assert_eq!(masquerade(TrafficPolicy::Cluster), cluster);
    assert_eq!(masquerade(TrafficPolicy::Local), local);
}
