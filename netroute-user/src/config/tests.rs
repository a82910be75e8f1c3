use netroute_common::layout::flow::Timers;

use super::*;
use crate::desired::interface::{DeviceRef, Role};
use crate::desired::route::ProbeKind;

const MINIMAL: &str = "interfaces:\n  - {alias: Port3, device: eth1, role: external}\n";

fn parse(text: &str) -> Result<AgentConfig, String> {
    AgentConfig::parse(text, Path::new("agent.yaml")).map_err(|problem| problem.to_string())
}

fn refusal(text: &str) -> String {
    parse(text).expect_err("must be refused")
}

#[test]
fn the_example_names_the_defaults_and_is_valid() {
    let example = include_str!("../../../examples/agent.yaml");
    let config = parse(example).unwrap();
    let defaults = parse(MINIMAL).unwrap();
    assert_eq!(config.interfaces.len(), 2);
    assert_eq!(config.limits, defaults.limits);
    assert_eq!(config.metrics, defaults.metrics);
    assert_eq!((config.nat, defaults.nat), (Nat::DEFAULT, Nat::DEFAULT));
    assert_eq!(config.hold_time, defaults.hold_time);
    assert_eq!(config.probe, defaults.probe);
    assert_eq!(config.pod_interfaces, defaults.pod_interfaces);
    assert_eq!(config.node_ports, defaults.node_ports);
    assert_eq!(config.external_ips, defaults.external_ips);
    assert_eq!(config.default_egress, defaults.default_egress);
    assert_eq!((config.anti_spoofing, defaults.anti_spoofing), (true, true));
    assert_eq!(config.sockets, Some(SocketGroup::At("/sys/fs/cgroup".into())));
    assert_eq!(
        (&config.manifests, &config.state_dir, &config.bpffs, &config.socket),
        (&defaults.manifests, &defaults.state_dir, &defaults.bpffs, &defaults.socket)
    );
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.manifests, Path::new("/etc/netroute/manifests"));
    assert_eq!(config.state_dir, Path::new("/var/lib/netroute"));
    assert_eq!(config.bpffs, Path::new("/sys/fs/bpf/netroute"));
    assert_eq!(config.socket, Path::new("/run/netroute/netroute.sock"));
    assert_eq!(config.metrics.unwrap().to_string(), "127.0.0.1:9464");
    assert_eq!(config.hold_time, Duration::from_secs(3));
    assert_eq!(config.probe, None);
    assert_eq!(config.sockets, Some(SocketGroup::Root));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.node_labels["kubernetes.io/hostname"], config.node_name);
}

#[test]
fn unknown_keys_name_line_and_the_nearest_key() {
    assert_eq!(
        refusal(&format!("{MINIMAL}stateDri: /x\n")),
        "agent.yaml:3: unknown key \"stateDri\"; did you mean \"stateDir\"?"
    );
    assert_eq!(
        refusal("interfaces:\n  - alias: Port3\n    devcie: eth1\n    role: external\n"),
        "agent.yaml:3: interfaces[0]: unknown key \"devcie\"; did you mean \"device\"?"
    );
    assert!(
        refusal(&format!("{MINIMAL}limits:\n  routes: 7\n")).starts_with("agent.yaml:4: limits: unknown key")
    );
}

#[test]
fn every_required_key_is_asked_for() {
    assert_eq!(refusal("nodeName: x\n"), "agent.yaml:1: the key \"interfaces\" is missing");
    assert!(refusal("interfaces: []\n").starts_with("agent.yaml:1: interfaces: is empty"));
    assert!(refusal("# nothing\n").contains("the file is empty"));
}

#[test]
fn aliases_are_unique_without_regard_to_case() {
    let text = format!("{MINIMAL}  - {{alias: PORT3, device: eth0, role: internal}}\n");
    let message = refusal(&text);
    assert!(
        message.starts_with("agent.yaml:3: interfaces[1].alias: the alias \"PORT3\" is already taken"),
        "{message}"
    );
    assert!(message.contains("eth1"), "{message}");
}

#[test]
fn a_device_has_one_alias_and_no_alias_is_another_device() {
    let twice = refusal(&format!("{MINIMAL}  - {{alias: Port4, device: eth1, role: internal}}\n"));
    assert!(twice.starts_with("agent.yaml:3: interfaces[1].device: the device eth1 already has"), "{twice}");
    let crossed = refusal(&format!("{MINIMAL}  - {{alias: eth1, device: eth0, role: internal}}\n"));
    assert!(crossed.contains("choose another alias"), "{crossed}");
}

#[test]
fn devices_are_names_or_macs() {
    let device = |text: &str| parse(&MINIMAL.replace("eth1", text)).map(|c| c.interfaces[0].device.clone());
    let mac = DeviceRef::Mac([0, 0x15, 0x5d, 1, 2, 0xff]);
    assert_eq!(device("\"00:15:5D:01:02:ff\"").unwrap(), mac);
    assert_eq!(device("00-15-5d-01-02-FF").unwrap(), mac);
    assert_eq!(device("enp0s31f6-altname").unwrap(), DeviceRef::Name("enp0s31f6-altname".into()));
    assert!(device("\"\"").unwrap_err().contains("interfaces[0].device: the device is empty"));
    assert!(device("a/b").is_err());
    assert!(device("\"ff:ff:ff:ff:ff:ff\"").unwrap_err().contains("multicast"));
    assert!(device("\"00:15:5d:01:02\"").is_err());
    assert!(refusal(&MINIMAL.replace("Port3", "\"\"")).contains("the alias is empty"));
}

#[test]
fn sockets_are_switched_off_by_null() {
    let sockets = |text: &str| parse(&format!("{MINIMAL}sockets: {text}\n")).map(|config| config.sockets);
    assert_eq!(sockets("null"), Ok(None));
    assert_eq!(sockets("{}"), Ok(Some(SocketGroup::Root)));
    assert_eq!(sockets("{cgroup: /sys/fs/cgroup/x}"), Ok(Some(SocketGroup::At("/sys/fs/cgroup/x".into()))));
    let relative = sockets("{cgroup: x}").unwrap_err();
    assert_eq!(relative, "agent.yaml:3: sockets.cgroup: \"x\" must be an absolute path");
    assert!(sockets("{cgruop: /x}").unwrap_err().contains("did you mean \"cgroup\"?"));
}

#[test]
fn n6_n7_timeouts_and_ports_are_what_is_written_and_no_less_than_the_rfcs_say() {
    let nat = |text: &str| parse(&format!("{MINIMAL}nat: {text}\n")).map(|config| config.nat);
    let timeouts = "{tcpOpening: 5m, tcpEstablished: 3h, tcpClosing: 6m, tcpReset: 7m, udpOpening: 130s, \
                    udpEstablished: 2m}";
    let Nat { timers, first_port, ports } =
        nat(&format!("{{ports: 62000-62999, timeouts: {timeouts}}}")).unwrap();
    let expected = Timers {
        tcp_opening: 300,
        tcp_established: 10_800,
        tcp_closing: 360,
        tcp_reset: 420,
        udp_opening: 130,
        udp_established: 120,
    };
    assert_eq!((timers, first_port, ports), (expected, 62_000, 1_000));
    for (text, expected) in [
        ("{ports: 62000}", "nat.ports: \"62000\" is not FIRST-LAST, two ports like 61000-65535"),
        ("{ports: 1023-2000}", "nat.ports: 1023 is below 1024, a well-known port"),
        ("{ports: 32767-40000}", "nat.ports: 32767-40000 has ports of nodePorts.range, 30000-32767"),
        ("{timeouts: {tcpEstablished: 2h}}", "nat.timeouts.tcpEstablished: 2h is outside 7440s to 168h"),
        ("{timeouts: {tcpOpening: 239s}}", "nat.timeouts.tcpOpening: 239s is outside 240s to 168h"),
        ("{timeouts: {tcpClosing: 1s}}", "nat.timeouts.tcpClosing: 1s is outside 240s to 168h"),
        ("{timeouts: {tcpReset: 1s}}", "nat.timeouts.tcpReset: 1s is outside 240s to 168h"),
        ("{timeouts: {udpOpening: 1m}}", "nat.timeouts.udpOpening: 1m is outside 120s to 168h"),
        ("{timeouts: {udpEstablished: 169h}}", "nat.timeouts.udpEstablished: 169h is outside 120s to 168h"),
        (
            "{timeouts: {udpOpening: 120500ms}}",
            "nat.timeouts.udpOpening: 120500ms is no whole number of seconds",
        ),
        ("{timeouts: {udpOpening: long}}", "nat.timeouts.udpOpening: \"long\" is not a duration"),
    ] {
        let refused = nat(text).unwrap_err();
        assert!(refused.starts_with(&format!("agent.yaml:3: {expected}")), "{refused}");
    }
}

#[test]
fn the_kubernetes_source_is_refused_by_name() {
    assert_eq!(
        refusal(&format!("{MINIMAL}source:\n  kubernetes: {{}}\n")),
        "agent.yaml:4: source.kubernetes: not in this version; use source: {manifests: DIRECTORY}"
    );
}

#[test]
fn values_out_of_range_are_refused_with_their_line() {
    for (text, expected) in [
        ("limits: {routes4: 0}", "agent.yaml:3: limits.routes4: 0 is outside 1 to 16777216"),
        ("limits: {frontEnds: 0}", "agent.yaml:3: limits.frontEnds: 0 is outside 1 to 16777216"),
        ("limits: {slots: 16777217}", "agent.yaml:3: limits.slots: 16777217 is outside 1 to 16777216"),
        ("limits: {egress: 4}", "agent.yaml:3: limits.egress: 4 is outside 16 to 16777216"),
        ("limits: {snat: 0}", "agent.yaml:3: limits.snat: 0 is outside 1 to 16777216"),
        ("defaultEgress: Drop", "agent.yaml:3: defaultEgress: unknown value \"Drop\"; "),
        (
            "defaultEgress: allow",
            "agent.yaml:3: defaultEgress: unknown value \"allow\"; did you mean \"Allow\"?",
        ),
        ("limits: {nextHops: 4}", "agent.yaml:3: limits.nextHops: 4 is outside 16 to 16777216"),
        ("metrics: {address: here}", "agent.yaml:3: metrics.address: \"here\" is not ADDRESS:PORT"),
        ("failover: {holdTime: 3}", "agent.yaml:3: failover.holdTime: "),
        ("failover: {holdTime: 25h}", "agent.yaml:3: failover.holdTime: 25h is longer than 24h"),
        (
            "failover: {holdTime: 18446744073709551615ms}",
            "agent.yaml:3: failover.holdTime: 18446744073709551615ms is longer",
        ),
        ("failover: {holdTime: soon}", "agent.yaml:3: failover.holdTime: \"soon\" is not a duration"),
        ("probe: {kind: echo, interval: 1ms}", "agent.yaml:3: probe: probe.interval: 1ms is outside"),
        ("probe: {kind: ecko}", "agent.yaml:3: probe.kind: unknown value \"ecko\"; did you mean \"echo\"?"),
        ("stateDir: state", "agent.yaml:3: stateDir: \"state\" must be an absolute path"),
        (
            "podInterfaces: [\"cali*\", \"*\"]",
            "agent.yaml:3: podInterfaces[1]: \"*\" would match every device",
        ),
        (
            "clusterCidrs: {pods: [10.244.0.1/16]}",
            "agent.yaml:3: clusterCidrs.pods[0]: 10.244.0.1/16 has host bits",
        ),
        (
            "nodePorts: {range: 32767-30000}",
            "agent.yaml:3: nodePorts.range: \"32767-30000\" is not FIRST-LAST",
        ),
        ("nodePorts: {range: 0-10}", "agent.yaml:3: nodePorts.range: \"0-10\" is not FIRST-LAST"),
        ("nodePorts: {addresses: [10.0.0.300]}", "agent.yaml:3: nodePorts.addresses[0]: \"10.0.0.300\" is"),
        ("nodePorts: {ports: 1-2}", "agent.yaml:3: nodePorts: unknown key \"ports\""),
        ("externalIPs: {allow: [192.0.2.0/33]}", "agent.yaml:3: externalIPs.allow[0]: 192.0.2.0/33: the"),
        ("externalIps: {}", "agent.yaml:3: unknown key \"externalIps\"; did you mean \"externalIPs\"?"),
        ("nodeName: \"\"", "agent.yaml:3: nodeName: is empty"),
        ("interfaces: []", "agent.yaml:1: the key \"interfaces\" is there twice"),
    ] {
        let message = refusal(&format!("{MINIMAL}{text}\n"));
        assert!(message.starts_with(expected), "{text}\n got {message}\nwant {expected}");
    }
}

#[test]
fn what_is_set_is_taken() {
    let config = parse(&format!(
        "{MINIMAL}metrics: null\nprobe: {{kind: neighbour, interval: 200ms, threshold: 2}}\n\
         nodeName: w1\nnodeLabels: {{a: b}}\nfailover: {{holdTime: 0s}}\nlimits: {{routes4: 7}}\n"
    ))
    .unwrap();
    assert_eq!(config.metrics, None);
    let probe = Probe { kind: ProbeKind::Neighbour, interval: Duration::from_millis(200), threshold: 2 };
    assert_eq!(config.probe, Some(probe));
    assert_eq!((config.node_name.as_str(), config.node_labels["a"].as_str()), ("w1", "b"));
    assert_eq!(config.limits, Limits { routes4: 7, ..Limits::default() });
    assert_eq!(config.interfaces[0].role, Role::External);
    assert_eq!(config.hold_time, Duration::ZERO);
}

#[test]
fn s13_and_s16_what_services_may_take_is_configured() {
    let config = parse(&format!(
        "{MINIMAL}nodePorts: {{addresses: [10.128.44.0/24, \"fd16:3::/64\"], range: 31000-31999}}\n\
         externalIPs: {{allow: [192.0.2.0/28]}}\n"
    ))
    .unwrap();
    let written: Vec<String> = config.node_ports.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(written, ["10.128.44.0/24", "fd16:3::/64"]);
    assert_eq!(config.node_ports.range, 31000..=31999);
    assert_eq!(config.external_ips, ["192.0.2.0/28".parse().unwrap()]);
    let defaults = parse(MINIMAL).unwrap();
    assert_eq!(defaults.node_ports, NodePorts { addresses: vec![], range: 30000..=32767 });
    assert_eq!(defaults.external_ips, []);
}

#[test]
fn e4_what_no_policy_selects_is_configured() {
    let egress = |text: &str| parse(&format!("{MINIMAL}{text}")).unwrap().default_egress;
    assert_eq!(egress(""), DefaultEgress::Allow);
    assert_eq!(egress("defaultEgress: Masquerade\n"), DefaultEgress::Masquerade);
    assert_eq!(egress("defaultEgress: Deny\n"), DefaultEgress::Deny);
    let limits = "limits: {sources: 5, egress: 20, egressRules: 21, egressPolicies: 22, snat: 6}\n";
    let Limits { sources, egress, egress_rules, egress_policies, snat, .. } =
        parse(&format!("{MINIMAL}{limits}")).unwrap().limits;
    assert_eq!([sources, egress, egress_rules, egress_policies, snat], [5, 20, 21, 22, 6]);
}
