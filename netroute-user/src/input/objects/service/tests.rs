use super::*;
use crate::input::yaml::documents;

/// A Service with `spec` as its YAML flow mapping; more top-level keys may follow in `rest`.
fn read(spec: &str, rest: &str) -> Result<Service, String> {
    let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{{spec}}}\n{rest}\n");
    let object: core::Service = documents(&text)[0].parse().expect("a Service");
    service(&object).map_err(|error| error.to_string())
}

fn labelled(label: &str, spec: &str) -> Service {
    let metadata = ObjectMeta {
        labels: Some(BTreeMap::from([(label.to_owned(), String::new())])),
        ..ObjectMeta::default()
    };
    let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{{spec}}}\n");
    let object: core::Service = documents(&text)[0].parse().expect("a Service");
    service(&core::Service { metadata, ..object }).expect("good")
}

fn ips(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().expect("address")).collect()
}

const PORTS: &str = "ports: [{port: 80}]";

#[test]
fn what_is_not_written_has_the_api_servers_default() {
    let web = read(&format!("clusterIP: 10.96.0.10, {PORTS}"), "").unwrap();
    let port = ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: None };
    assert_eq!(web.key.to_string(), "default/web");
    let least = Service::named(web.key.clone());
    assert_eq!(web, Service { cluster_ips: ips(&["10.96.0.10"]), ports: vec![port], ..least });
}

#[test]
fn r3_leading_zeros_are_decimal_in_every_address() {
    let spec = "type: LoadBalancer, clusterIPs: [10.096.0.010], externalIPs: [192.000.2.007], \
                loadBalancerSourceRanges: [198.51.100.064/26]";
    let status = "status: {loadBalancer: {ingress: [{ip: 10.128.044.032}]}}";
    let web = read(&format!("{spec}, {PORTS}"), status).unwrap();
    assert_eq!(web.cluster_ips, ips(&["10.96.0.10"]));
    assert_eq!(web.external_ips, ips(&["192.0.2.7"]));
    assert_eq!(web.load_balancer.keys().copied().collect::<BTreeSet<_>>(), ips(&["10.128.44.32"]));
    assert_eq!(web.source_ranges, ["198.51.100.64/26".parse().unwrap()]);
}

#[test]
fn s7_the_mode_of_a_balancers_address_is_read() {
    let status = "status: {loadBalancer: {ingress: [{ip: 10.128.44.32}, {ip: 10.128.44.33, ipMode: VIP}, \
                  {ip: 10.128.44.34, ipMode: Proxy}, {hostname: lb.example}]}}";
    let web = read(&format!("type: LoadBalancer, {PORTS}"), status).unwrap();
    let modes: Vec<_> = web.load_balancer.values().copied().collect();
    assert_eq!(modes, [IpMode::Vip, IpMode::Vip, IpMode::Proxy]);
}

#[test]
fn s9_one_cluster_ip_of_each_family() {
    let both =
        read(&format!("clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10, \"fd00:96::10\"], {PORTS}"), "");
    assert_eq!(both.unwrap().cluster_ips, ips(&["10.96.0.10", "fd00:96::10"]));
    let twice = read(&format!("clusterIPs: [10.96.0.10, 10.96.0.11], {PORTS}"), "").unwrap_err();
    assert_eq!(twice, "spec.clusterIPs[1]: a second address of the same family");
    assert_eq!(read(&format!("clusterIP: \"\", {PORTS}"), "").unwrap().cluster_ips, ips(&[]));
}

#[test]
fn s11_services_of_others_are_told_apart() {
    let skipped = |spec: &str| read(spec, "").unwrap().skipped;
    assert_eq!(skipped("clusterIP: None"), Some(Skipped::Headless));
    assert_eq!(skipped("clusterIPs: [None]"), Some(Skipped::Headless));
    assert_eq!(skipped("type: ExternalName, externalName: db.example"), Some(Skipped::ExternalName));
    let spec = "clusterIP: 10.96.0.10";
    assert_eq!(labelled("service.kubernetes.io/headless", spec).skipped, Some(Skipped::Headless));
    let other = labelled("service.kubernetes.io/service-proxy-name", spec);
    assert_eq!((other.skipped, other.cluster_ips), (Some(Skipped::OtherProxy), ips(&["10.96.0.10"])));
}

#[test]
fn s12_affinity_lasts_three_hours_if_nothing_else_is_said() {
    let affinity = |spec: &str| read(&format!("{spec}, {PORTS}"), "").map(|web| web.affinity);
    assert_eq!(affinity("sessionAffinity: None"), Ok(None));
    assert_eq!(affinity("sessionAffinity: ClientIP"), Ok(Some(Duration::from_secs(10_800))));
    let with = |seconds: &str| {
        affinity(&format!(
            "sessionAffinity: ClientIP, sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}"
        ))
    };
    assert_eq!(with("60"), Ok(Some(Duration::from_secs(60))));
    assert_eq!(
        with("0"),
        Err("spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is outside 1 to 86400".to_owned())
    );
}

#[test]
fn s14_a_source_range_with_host_bits_is_its_network() {
    let web = read(&format!("loadBalancerSourceRanges: [\" 198.51.100.7/24\"], {PORTS}"), "").unwrap();
    assert_eq!(web.source_ranges, ["198.51.100.0/24".parse().unwrap()]);
}

/// Each spec with the beginning of what is said about it.
fn refused(cases: &[(&str, &str)]) {
    for (spec, expected) in cases {
        let message = read(spec, "").unwrap_err();
        assert!(message.starts_with(expected), "{spec}\n got {message}\nwant {expected}");
    }
}

#[test]
fn ports_that_cannot_be_used_are_refused_with_their_field() {
    refused(&[
        ("clusterIP: 10.96.0.10", "spec.ports: is missing; list at least one"),
        ("ports: [{port: 0}]", "spec.ports[0].port: 0 is outside 1 to 65535"),
        ("ports: [{port: 65536}]", "spec.ports[0].port: 65536 is outside 1 to 65535"),
        ("ports: [{port: 80, nodePort: -1}]", "spec.ports[0].nodePort: -1 is outside 1 to 65535"),
        (
            "ports: [{port: 80, protocol: tcp}]",
            "spec.ports[0].protocol: unknown value \"tcp\"; did you mean \"TCP\"?",
        ),
        ("ports: [{name: a, port: 80}, {port: 81}]", "spec.ports[1].name: is missing; where there are"),
        ("ports: [{name: a, port: 80}, {name: a, port: 81}]", "spec.ports[1].name: another port has"),
        ("ports: [{name: a, port: 80}, {name: b, port: 80}]", "spec.ports[1].port: another port has"),
        (
            "ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30080}]",
            "spec.ports[1].nodePort: another port has the same node port",
        ),
        ("healthCheckNodePort: 70000", "spec.healthCheckNodePort: 70000 is outside 1 to 65535"),
    ]);
}

#[test]
fn addresses_that_cannot_be_used_are_refused_with_their_field() {
    let ports = "ports: [{port: 80}]";
    for (spec, expected) in [
        ("clusterIP: web", "spec.clusterIP: \"web\" is not an IP address"),
        ("clusterIP: 127.0.0.1", "spec.clusterIP: 127.0.0.1 is loopback"),
        ("externalIPs: [224.0.0.1]", "spec.externalIPs[0]: 224.0.0.1 is multicast"),
        ("externalIPs: [\"::ffff:10.0.0.1\"]", "spec.externalIPs[0]: ::ffff:10.0.0.1 is an IPv4-mapped"),
        ("loadBalancerSourceRanges: [10.0.0.0/33]", "spec.loadBalancerSourceRanges[0]: 10.0.0.0/33: the"),
    ] {
        refused(&[(&format!("{spec}, {ports}"), expected)]);
    }
}

#[test]
fn words_that_are_not_known_are_refused_with_their_field() {
    refused(&[
        ("type: Ingress", "spec.type: unknown value \"Ingress\"; known are: ClusterIP,"),
        ("type: Loadbalancer", "spec.type: unknown value \"Loadbalancer\"; did you mean \"LoadBalancer\"?"),
        ("externalTrafficPolicy: Near", "spec.externalTrafficPolicy: unknown value \"Near\""),
        ("internalTrafficPolicy: local", "spec.internalTrafficPolicy: unknown value \"local\"; did you"),
        ("sessionAffinity: Cookie", "spec.sessionAffinity: unknown value \"Cookie\"; known are: None,"),
    ]);
    let status = "status: {loadBalancer: {ingress: [{ip: 10.0.0.1, ipMode: Vip}]}}";
    let message = read("ports: [{port: 80}]", status).unwrap_err();
    assert!(message.starts_with("status.loadBalancer.ingress[0].ipMode: unknown value \"Vip\""), "{message}");
}

#[test]
fn the_age_is_read() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, \
                creationTimestamp: \"1970-01-02T00:00:01Z\"}\nspec: {ports: [{port: 80}]}\n";
    let object: core::Service = documents(text)[0].parse().unwrap();
    let web = service(&object).unwrap();
    assert_eq!((web.key.to_string(), web.created), ("shop/web".to_owned(), Some(86_401)));
}
