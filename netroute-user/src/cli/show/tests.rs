use super::*;
use crate::api::types::{ApplyView, CountsView, FlowState, MapView};

fn fits(text: &str) {
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn next_hops_fit_eighty_columns() {
    let next_hop = NextHopView {
        id: 8,
        interface: "Port3".into(),
        address: Some("192.168.20.1".parse().unwrap()),
        metrics: vec![100, 200],
        routes: 3,
        neighbour: "reachable".into(),
        mac: Some("02:00:00:00:00:01".into()),
        alive: false,
        reason: "no carrier on Port3".into(),
        packets: 1500,
        bytes: 9,
    };
    let text = next_hop_table(&[next_hop], false);
    fits(&text);
    assert_eq!(
        text,
        "ADDRESS       INTERFACE  METRIC   ROUTES  NEIGHBOUR  ALIVE  PACKETS  BYTES\n\
         192.168.20.1  Port3      100,200       3  reachable  no        1.5k     9B\n    \
         no carrier on Port3\n"
    );
}

#[test]
fn drops_are_explained_and_have_rates_when_watched() {
    let view = |packets| DropsView {
        hook: "xdp-nic".into(),
        reason: "neighbour-unresolved".into(),
        verdict: "pass".into(),
        packets,
        bytes: 2048,
        explanation: " Neighbour on a connected network not resolved yet.".into(),
    };
    let text = drops_table(&[view(7), DropsView { reason: "never".into(), ..view(0) }], None, false);
    fits(&text);
    assert_eq!(
        text,
        "HOOK     REASON                VERDICT  PACKETS  BYTES\n\
         xdp-nic  neighbour-unresolved  pass           7  2.0Ki\n    \
         Neighbour on a connected network not resolved yet.\n"
    );
    let key = ("xdp-nic".to_owned(), "neighbour-unresolved".to_owned());
    let rates = rates(&[view(1007)], &BTreeMap::from([(key, 7)]), Duration::from_millis(500));
    assert!(drops_table(&[view(1007)], Some(rates), false).ends_with("2.0k\n"));
}

#[test]
fn status_reads_well() {
    let view = StatusView {
        health: Health::Degraded,
        node_name: "worker-1".into(),
        version: "0.1.0".into(),
        abi: 1,
        uptime_seconds: 3_700,
        interfaces: vec![InterfaceView {
            alias: "Port3".into(),
            device: Some("eth1".into()),
            ifindex: Some(3),
            role: "external".into(),
            carrier: true,
            xdp: AttachMode::Generic,
            tc: true,
            reason: "the driver has no native XDP".into(),
        }],
        programs: vec![ProgramView {
            name: "xdp_nic".into(),
            id: 41,
            tag: "0011223344556677".into(),
            interface: "Port3".into(),
        }],
        maps: vec![MapView { name: "ROUTES4".into(), used: 10, max: 40, bytes: 4096 }],
        flows: vec![FlowTableView {
            map: "FLOWS4".into(),
            family: "IPv4".into(),
            translated: [].into(),
            states: [(FlowState::Established, 10), (FlowState::Reset, 2)].into(),
            capacity: 65_536,
        }],
        map_bytes: 5 << 20,
        counts: CountsView {
            routes: 3,
            active: 2,
            down: 1,
            next_hops: 4,
            failovers: 5,
            service_ports: 7,
            refused_service_ports: 1,
            ..CountsView::default()
        },
        last_apply: Some(ApplyView { duration_micros: 1_234, steps: 6, seconds_ago: 61 }),
        problems: vec!["a.yaml:3: NetRoute x: …".into()],
    };
    let text = status_text(&view, false);
    fits(&text);
    assert_eq!(
        text,
        "health     degraded\nnode       worker-1\nagent      0.1.0, map layouts 1, up 1h 1m\n\
         routes     3 (2 active, 1 down)\nnext hops  4, 5 failovers\n\
         services   7 served, 1 refused\nflows      FLOWS4 12/65536\n\
         applied    6 map writes in 1.234 ms, 1m 1s ago\nmaps       5.0Mi of memory\n\n\
         INTERFACE  DEVICE  ROLE      CARRIER  XDP      TC\n\
         Port3      eth1    external  yes      generic  yes\n    the driver has no native XDP\n\n\
         MAP      USED  MAX  FILL  MEMORY\nROUTES4    10   40   25%   4.0Ki\n\n\
         PROGRAM  ID  TAG               INTERFACE\nxdp_nic  41  0011223344556677  Port3\n\n\
         problems\n    a.yaml:3: NetRoute x: …\n"
    );
}
