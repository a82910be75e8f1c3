//! What route notifications do to the state.

use super::*;
use crate::kernel::KernelNextHop;

fn hop(ifindex: u32, gateway: &str) -> KernelNextHop {
    let gateway = (!gateway.is_empty()).then(|| gateway.parse().expect("gateway"));
    KernelNextHop { ifindex, gateway, weight: 1, dead: false }
}

fn route(destination: &str, metric: u32, next_hops: &[KernelNextHop]) -> KernelRoute {
    KernelRoute {
        table: 254,
        destination: destination.parse().expect("prefix"),
        kind: KernelRouteKind::Unicast,
        metric,
        protocol: 3,
        next_hops: next_hops.to_vec(),
    }
}

fn with(routes: &[KernelRoute]) -> KernelState {
    KernelState { routes: routes.iter().cloned().collect(), ..KernelState::default() }
}

/// Absorbs one notice; the routes afterwards and whether a reread is asked for.
fn after(state: &mut KernelState, notice: Notice) -> (Vec<KernelRoute>, bool) {
    let absorbed = absorb(state, &mut XdpTransmit::new(), notice);
    (state.routes.iter().cloned().collect(), absorbed.reread)
}

#[test]
fn a_replaced_route_leaves_after_the_new_one_came() {
    let (old, new) = (route("10.0.0.0/8", 5, &[hop(2, "10.9.0.1")]), route("10.0.0.0/8", 5, &[hop(3, "")]));
    let mut state = with(&[old.clone(), route("10.0.0.0/8", 6, &[hop(2, "")])]);
    let notice = Notice::Route { route: new.clone(), replace: true };
    let absorbed = absorb(&mut state, &mut XdpTransmit::new(), notice);
    assert_eq!(absorbed.changes, [Change::Route(new), Change::RouteGone(old)]);
    assert_eq!(state.routes.len(), 2);
}

#[test]
fn a_replacement_among_several_is_read_again() {
    let [one, two] = [route("10.0.0.0/8", 5, &[hop(2, "")]), route("10.0.0.0/8", 5, &[hop(3, "")])];
    let mut state = with(&[one, two]);
    let notice = Notice::Route { route: route("10.0.0.0/8", 5, &[hop(4, "")]), replace: true };
    assert!(after(&mut state, notice).1);
}

#[test]
fn an_ipv6_route_gains_and_loses_a_next_hop() {
    let one = route("2001:db8::/32", 1024, &[hop(2, "fe80::1")]);
    let both = route("2001:db8::/32", 1024, &[hop(2, "fe80::1"), hop(3, "fe80::2")]);
    let mut state = with(std::slice::from_ref(&one));
    let grown = after(&mut state, Notice::Route { route: both.clone(), replace: false });
    assert_eq!(grown, (vec![both], false));
    let second = route("2001:db8::/32", 1024, &[hop(3, "fe80::2")]);
    assert_eq!(after(&mut state, Notice::RouteGone(second)), (vec![one], true));
}

#[test]
fn a_deletion_matches_whatever_the_flags() {
    let held = route("10.0.0.0/8", 0, &[KernelNextHop { dead: true, ..hop(2, "10.9.0.1") }]);
    let mut state = with(&[held]);
    let told = route("10.0.0.0/8", 0, &[hop(2, "10.9.0.1")]);
    assert_eq!(after(&mut state, Notice::RouteGone(told)), (vec![], false));
}

#[test]
fn on_link_routes_of_two_links_stay_apart() {
    let [one, two] = [route("fe80::/64", 256, &[hop(2, "")]), route("fe80::/64", 256, &[hop(3, "")])];
    let mut state = with(std::slice::from_ref(&one));
    after(&mut state, Notice::Route { route: two.clone(), replace: false });
    assert_eq!(state.routes.len(), 2);
    assert_eq!(after(&mut state, Notice::RouteGone(one)), (vec![two], false));
}

#[test]
fn own_routes_are_told_and_not_kept() {
    let own = route("10.0.0.0/8", 5, &[hop(2, "10.9.0.1")]);
    let mut state = KernelState::default();
    let absorbed = absorb(&mut state, &mut XdpTransmit::new(), Notice::OwnRouteGone(own.clone()));
    assert_eq!(absorbed.changes, [Change::OwnRouteGone(own)]);
    assert!(state.routes.is_empty());
}

#[test]
fn the_end_of_a_neighbour_never_announced_is_told() {
    let key = NeighbourKey { ifindex: 2, address: "10.0.0.2".parse().expect("address") };
    let (mut state, mut xdp) = (KernelState::default(), XdpTransmit::new());
    let absorbed = absorb(&mut state, &mut xdp, Notice::NeighbourGone(key));
    assert_eq!(absorbed.changes, [Change::NeighbourGone(key)]);
}
