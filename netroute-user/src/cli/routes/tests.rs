use super::*;

fn view(destination: &str, next_hop: &str, metric: u32, state: State, reason: &str) -> RouteView {
    RouteView {
        destination: destination.parse().unwrap(),
        next_hop: Some(next_hop.parse().unwrap()),
        interface: "Port3".into(),
        metric,
        weight: 1,
        state,
        reason: reason.into(),
        origin: "cli".into(),
        packets: 12_345_678,
        bytes: 1_500_000_000,
    }
}

#[test]
fn a_list_fits_eighty_columns() {
    let routes = [
        view("192.168.20.0/24", "192.168.20.1", 100, State::Active, ""),
        view(
            "192.168.120.128/28",
            "192.168.120.111",
            65_535,
            State::Pending,
            "waits for Port3 (eth1): no such device",
        ),
    ];
    let text = list(&routes, false, false);
    assert_eq!(
        text,
        "DESTINATION         NEXTHOP          INTERFACE  METRIC  STATE    PACKETS  BYTES\n\
         192.168.20.0/24     192.168.20.1     Port3         100  active       12M  1.4Gi\n\
         192.168.120.128/28  192.168.120.111  Port3       65535  pending      12M  1.4Gi\n    \
             waits for Port3 (eth1): no such device\n"
    );
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(list(&routes, false, true).contains("\x1b[32mactive\x1b[0m"));
}

#[test]
fn r8_the_whole_table_shows_each_routes_origin() {
    let kernel = RouteView {
        next_hop: None,
        origin: "kernel".into(),
        packets: 0,
        ..view("10.0.0.0/8", "10.0.0.1", 0, State::Active, "unicast")
    };
    assert_eq!(
        list(&[kernel, view("192.168.20.0/24", "192.168.20.1", 100, State::Active, "")], true, false),
        "DESTINATION      NEXTHOP       INTERFACE  METRIC  STATE   PACKETS  ORIGIN  REASON\n\
         10.0.0.0/8       -             Port3           0  active        0  kernel  unicast\n\
         192.168.20.0/24  192.168.20.1  Port3         100  active      12M  cli\n"
    );
}

#[test]
fn the_get_cmdlet_answers_in_powershells_shape() {
    let routes = [
        view("192.168.20.0/24", "192.168.20.1", 100, State::Active, ""),
        view("2001:db8::/32", "fe80::1", 200, State::Down, "no carrier"),
    ];
    assert_eq!(
        powershell(&routes),
        "InterfaceAlias    : Port3\nDestinationPrefix : 192.168.20.0/24\nNextHop           : 192.168.20.1\n\
         RouteMetric       : 100\nState             : Active\nReason            :\n\n\
         InterfaceAlias    : Port3\nDestinationPrefix : 2001:db8::/32\nNextHop           : fe80::1\n\
         RouteMetric       : 200\nState             : Down\nReason            : no carrier\n"
    );
}

#[test]
fn route_get_reads_like_ip_route_get() {
    let view = RouteGetView {
        address: "192.168.20.7".parse().unwrap(),
        prefix: Some("192.168.20.0/24".parse().unwrap()),
        next_hop: Some("192.168.20.1".parse().unwrap()),
        interface: Some("Port3".into()),
        mac: Some("02:00:00:00:00:01".into()),
        origin: "cli".into(),
        path: Way::Fast,
        reason: "forwarded".into(),
        explanation: " Sent to the next hop of its route.".into(),
    };
    assert_eq!(
        got(&view),
        "192.168.20.7 via 192.168.20.1 dev Port3 lladdr 02:00:00:00:00:01\n    prefix 192.168.20.0/24 (cli)\n    \
         path fast: forwarded: Sent to the next hop of its route.\n"
    );
}
