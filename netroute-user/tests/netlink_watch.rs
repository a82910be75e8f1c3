//! The watch against a live kernel.

mod netns;

use std::time::Instant;

use netns::{Observed, in_namespace, ip, ip_batch, veth, within};
use netroute_common::abi::RTPROT_NETROUTE;
use netroute_user::input::netlink::{Event, Options};
use netroute_user::kernel::{
    Change, KernelNextHop, KernelRoute, KernelRouteKind, KernelState, NeighbourState,
};

fn route<'a>(state: &'a KernelState, destination: &str) -> Option<&'a KernelRoute> {
    let destination = destination.parse().expect("prefix");
    state.routes.iter().find(|route| route.table == 254 && route.destination == destination)
}

#[test]
fn tells_what_is_there_and_then_each_change() {
    in_namespace(async || {
        veth("nic0", "far0");
        ip("link property add dev nic0 altname port3");
        ip("addr add 10.0.0.1/24 dev nic0");
        ip("-6 addr add 2001:db8::1/64 dev nic0 nodad");
        ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev nic0 nud permanent");
        ip("route add 10.1.0.0/16 via 10.0.0.2 metric 7");
        let mut seen = Observed::open(Options::default()).await;
        let a = seen.index("nic0");
        let link = &seen.state.links[&a];
        assert_eq!(
            (link.altnames.as_slice(), link.kind.as_deref()),
            (&["port3".to_owned()][..], Some("veth"))
        );
        assert!(link.up && link.carrier && link.mac.is_some() && !link.loopback);
        let expected = KernelRoute {
            table: 254,
            destination: "10.1.0.0/16".parse().expect("prefix"),
            kind: KernelRouteKind::Unicast,
            metric: 7,
            protocol: 3,
            next_hops: vec![KernelNextHop {
                ifindex: a,
                gateway: Some("10.0.0.2".parse().expect("address")),
                weight: 1,
                dead: false,
            }],
        };
        assert_eq!(route(&seen.state, "10.1.0.0/16"), Some(&expected));
        let local6 = seen
            .state
            .routes
            .iter()
            .find(|r| r.table == 255 && r.destination.to_string() == "2001:db8::1/128");
        assert_eq!(local6.map(|route| route.kind), Some(KernelRouteKind::Local));
        assert!(
            seen.state
                .routes
                .iter()
                .any(|r| r.kind == KernelRouteKind::Multicast && r.destination.to_string() == "ff00::/8")
        );
        let neighbour = seen.state.neighbours.values().find(|n| n.mac == Some([2, 0, 0, 0, 0, 2]));
        assert_eq!(neighbour.map(|n| n.state), Some(NeighbourState::Permanent));

        ip("route replace 10.1.0.0/16 via 10.0.0.3 metric 7");
        let gone = seen.change(|change| matches!(change, Change::RouteGone(_))).await;
        assert_eq!(gone, Change::RouteGone(expected));
        ip("addr del 10.0.0.1/24 dev nic0");
        seen.until(|state| state.addresses.iter().all(|a| a.address.to_string() != "10.0.0.1/24")).await;
        // The kernel removes these without a word.
        seen.until(|state| route(state, "10.1.0.0/16").is_none() && route(state, "10.0.0.0/24").is_none())
            .await;
        ip("link del nic0");
        seen.until(|state| state.links.values().all(|link| link.name == "lo")).await;
        assert!(seen.state.neighbours.is_empty());
    });
}

#[test]
fn r14_a_carrier_loss_arrives_at_once() {
    in_namespace(async || {
        veth("nic0", "far0");
        ip("addr add 10.0.0.1/24 dev nic0");
        let mut seen = Observed::open(Options::default()).await;
        let a = seen.index("nic0");
        ip("link set far0 down");
        let asked = Instant::now();
        seen.change(|change| matches!(change, Change::Link(link) if link.index == a && !link.carrier)).await;
        println!("carrier loss told {:?} after `ip` returned", asked.elapsed());
        assert!(!seen.state.links[&a].carrier && seen.state.links[&a].up);
        // The routes over it are marked dead without notification.
        seen.until(|state| route(state, "10.0.0.0/24").is_some_and(|r| r.next_hops.iter().all(|h| h.dead)))
            .await;
        ip("link set far0 up");
        seen.until(|state| state.links[&a].carrier).await;
        seen.until(|state| route(state, "10.0.0.0/24").is_some_and(|r| r.next_hops.iter().all(|h| !h.dead)))
            .await;
    });
}

#[test]
fn routes_of_a_link_that_goes_down_are_read_again() {
    in_namespace(async || {
        veth("nic0", "far0");
        ip("addr add 10.0.0.1/24 dev nic0");
        ip("route add 10.1.0.0/16 via 10.0.0.2");
        let mut seen = Observed::open(Options::default()).await;
        assert!(route(&seen.state, "10.1.0.0/16").is_some());
        ip("link set nic0 down");
        seen.until(|state| route(state, "10.1.0.0/16").is_none() && route(state, "10.0.0.0/24").is_none())
            .await;
        assert!(seen.state.addresses.iter().any(|address| address.address.to_string() == "10.0.0.1/24"));
    });
}

#[test]
fn an_overrun_is_followed_by_the_whole_state() {
    in_namespace(async || {
        veth("nic0", "far0");
        ip("addr add 10.0.0.1/24 dev nic0");
        let options = Options { receive_buffer: 4096, ..Options::default() };
        let mut seen = Observed::open(options).await;
        let lines: String = (0..4000)
            .map(|i| format!("route add 10.{}.{}.0/24 via 10.0.0.2\n", 16 + i / 250, i % 250))
            .collect();
        // Nothing is received meanwhile: this thread waits for `ip`.
        ip_batch(&lines);
        while !matches!(seen.next().await, Event::Synced(_)) {}
        seen.until(|state| {
            (0..4000).all(|i| route(state, &format!("10.{}.{}.0/24", 16 + i / 250, i % 250)).is_some())
        })
        .await;
    });
}

#[test]
fn r13_own_routes_are_told_apart() {
    in_namespace(async || {
        veth("nic0", "far0");
        ip("addr add 10.0.0.1/24 dev nic0");
        ip(&format!("route add 10.7.0.0/16 via 10.0.0.2 proto {RTPROT_NETROUTE}"));
        let mut seen = Observed::open(Options::default()).await;
        assert!(route(&seen.state, "10.7.0.0/16").is_none());
        ip("route del 10.7.0.0/16");
        let told = seen.change(|change| matches!(change, Change::OwnRouteGone(_))).await;
        let Change::OwnRouteGone(own) = told else { panic!("{told:?}") };
        assert_eq!(own.destination.to_string(), "10.7.0.0/16");
    });
}

#[test]
fn multipath_and_nexthop_objects_are_resolved() {
    in_namespace(async || {
        veth("nic0", "far0");
        veth("nic1", "far1");
        ip("addr add 10.0.0.1/24 dev nic0");
        ip("addr add 10.0.1.1/24 dev nic1");
        ip("-6 addr add 2001:db8:a::1/64 dev nic0 nodad");
        ip("-6 addr add 2001:db8:c::1/64 dev nic1 nodad");
        ip("route add 10.5.0.0/16 nexthop via 10.0.0.2 weight 3 nexthop via 10.0.1.2");
        ip("-6 route add 2001:db8:5::/48 nexthop via 2001:db8:a::2 nexthop via 2001:db8:c::2 weight 2");
        ip("nexthop add id 1 via 10.0.0.2 dev nic0");
        ip("route add 10.6.0.0/16 nhid 1");
        ip("route add 10.8.0.0/16 via inet6 2001:db8:a::2 dev nic0");
        let mut seen = Observed::open(Options::default()).await;
        let (a, c) = (seen.index("nic0"), seen.index("nic1"));
        let hops = |state: &KernelState, destination: &str| {
            let route = route(state, destination).expect("route");
            assert_eq!(route.kind, KernelRouteKind::Unicast);
            route.next_hops.iter().map(|hop| (hop.ifindex, hop.weight)).collect::<Vec<_>>()
        };
        assert_eq!(hops(&seen.state, "10.5.0.0/16"), [(a, 3), (c, 1)]);
        assert_eq!(hops(&seen.state, "2001:db8:5::/48"), [(a, 1), (c, 2)]);
        assert_eq!(hops(&seen.state, "10.6.0.0/16"), [(a, 1)]);
        assert_eq!(route(&seen.state, "10.8.0.0/16").map(|route| route.kind), Some(KernelRouteKind::Other));
        ip("nexthop replace id 1 via 10.0.1.2 dev nic1");
        seen.until(|state| hops(state, "10.6.0.0/16") == [(c, 1)]).await;
        ip("-6 route del 2001:db8:5::/48 via 2001:db8:a::2");
        seen.until(|state| hops(state, "2001:db8:5::/48").len() == 1).await;
    });
}

#[test]
fn the_xdp_ability_of_a_veth_follows_its_peer() {
    in_namespace(async || {
        veth("nic0", "far0");
        let mut seen = Observed::open(Options::default()).await;
        let a = seen.index("nic0");
        if seen.state.links[&a].xdp_transmit.is_none() {
            println!("SKIPPED: no netdev netlink family (Linux < 6.3)");
            return;
        }
        assert_eq!(seen.state.links[&a].xdp_transmit, Some(false));
        let output = std::process::Command::new("ethtool").args(["-K", "far0", "gro", "on"]).status();
        assert!(output.expect("ethtool is installed").success());
        within(seen.until(|state| state.links[&a].xdp_transmit == Some(true))).await;
    });
}
