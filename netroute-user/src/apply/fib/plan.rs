//! From the routes that are there and the routes that are wanted to what must be written. Pure.

use std::collections::BTreeMap;

use crate::compile::mirror::{Fib, FibKey, FibNextHop};
use crate::kernel::{KernelRoute, KernelRouteKind};

/// Metric that the kernel gives an IPv6 route without one (`IP6_RT_PRIO_USER`).
const IPV6_DEFAULT_METRIC: u32 = 1024;
const TABLE_MAIN: u32 = 254;

/// What the kernel holds of ours, next hops in the order and shape of [`normal`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    pub routes: BTreeMap<FibKey, Vec<FibNextHop>>,
    /// Further versions of a route, left by an agent that ended while it replaced one.
    pub strays: Vec<(FibKey, Vec<FibNextHop>)>,
}

impl Installed {
    /// Takes in a route of the agent's protocol as read from the kernel.
    pub fn insert(&mut self, route: &KernelRoute) {
        let Some(hops) = hops(route) else { return };
        match self.routes.entry(key(route)) {
            std::collections::btree_map::Entry::Vacant(vacant) => drop(vacant.insert(hops)),
            std::collections::btree_map::Entry::Occupied(_) => self.strays.push((key(route), hops)),
        }
    }
}

/// What must be written, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub adds: Vec<(FibKey, Vec<FibNextHop>)>,
    /// With their new next hops.
    pub replaces: Vec<(FibKey, Vec<FibNextHop>)>,
    /// With the next hops they have.
    pub removes: Vec<(FibKey, Vec<FibNextHop>)>,
}

#[must_use]
pub fn plan(installed: &Installed, wanted: &Fib) -> Plan {
    let mut plan = Plan::default();
    let mut kept = std::collections::BTreeSet::new();
    for (key, hops) in wanted.iter().filter(|(_, hops)| !hops.is_empty()) {
        let (key, hops) = (normal_key(*key), normal(hops.clone()));
        match installed.routes.get(&key) {
            None => plan.adds.push((key, hops)),
            Some(held) if *held != hops => plan.replaces.push((key, hops)),
            Some(_) => {}
        }
        kept.insert(key);
    }
    let extra = installed.routes.iter().filter(|(key, _)| !kept.contains(key));
    plan.removes = extra.map(|(key, hops)| (*key, hops.clone())).collect();
    plan
}

/// The key of a route as read.
#[must_use]
pub fn key(route: &KernelRoute) -> FibKey {
    FibKey { destination: route.destination, metric: route.metric }
}

/// The next hops of a route as read; `None` if it is nothing the mirror writes.
#[must_use]
pub fn hops(route: &KernelRoute) -> Option<Vec<FibNextHop>> {
    if route.table != TABLE_MAIN || route.kind != KernelRouteKind::Unicast {
        return None;
    }
    let hop = |hop: &crate::kernel::KernelNextHop| {
        // An on-link route of our protocol is not ours in shape, but ours to remove.
        let gateway = hop.gateway.unwrap_or_else(|| match route.destination.addr() {
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        });
        FibNextHop { ifindex: hop.ifindex, gateway, weight: u8::try_from(hop.weight).unwrap_or(u8::MAX) }
    };
    Some(normal(route.next_hops.iter().map(hop).collect()))
}

fn normal_key(key: FibKey) -> FibKey {
    let unset = key.metric == 0 && key.destination.addr().is_ipv6();
    FibKey { metric: if unset { IPV6_DEFAULT_METRIC } else { key.metric }, ..key }
}

/// As the kernel tells them back: weights are 1 or more, and a single next hop has none.
fn normal(mut hops: Vec<FibNextHop>) -> Vec<FibNextHop> {
    let single = hops.len() == 1;
    for hop in &mut hops {
        hop.weight = if single { 1 } else { hop.weight.max(1) };
    }
    hops.sort_unstable();
    hops.dedup();
    hops
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::KernelNextHop;

    fn at(destination: &str, metric: u32) -> FibKey {
        FibKey { destination: destination.parse().expect("prefix"), metric }
    }

    fn via(gateway: &str, weight: u8) -> FibNextHop {
        FibNextHop { ifindex: 2, gateway: gateway.parse().expect("gateway"), weight }
    }

    fn installed(routes: &[(FibKey, Vec<FibNextHop>)]) -> Installed {
        Installed { routes: routes.iter().cloned().collect(), strays: Vec::new() }
    }

    #[test]
    fn equal_needs_nothing() {
        let held = installed(&[(at("10.0.0.0/8", 5), vec![via("10.9.0.1", 1)])]);
        let wanted = Fib::from([(at("10.0.0.0/8", 5), vec![via("10.9.0.1", 200)])]);
        assert_eq!(plan(&held, &wanted), Plan::default());
    }

    #[test]
    fn the_metric_is_part_of_the_route() {
        let held = installed(&[(at("10.0.0.0/8", 5), vec![via("10.9.0.1", 1)])]);
        let wanted = Fib::from([(at("10.0.0.0/8", 6), vec![via("10.9.0.1", 1)])]);
        let Plan { adds, replaces, removes } = plan(&held, &wanted);
        assert_eq!((adds.len(), replaces.len(), removes.len()), (1, 0, 1));
    }

    #[test]
    fn other_next_hops_replace() {
        let held = installed(&[(at("10.0.0.0/8", 5), vec![via("10.9.0.1", 1)])]);
        let both = vec![via("10.9.0.2", 0), via("10.9.0.1", 3)];
        let wanted = Fib::from([(at("10.0.0.0/8", 5), both)]);
        let Plan { replaces, .. } = plan(&held, &wanted);
        assert_eq!(replaces, [(at("10.0.0.0/8", 5), vec![via("10.9.0.1", 3), via("10.9.0.2", 1)])]);
    }

    #[test]
    fn an_ipv6_route_without_metric_is_found_again() {
        let held = installed(&[(at("2001:db8::/32", 1024), vec![via("fe80::1", 1)])]);
        let wanted = Fib::from([(at("2001:db8::/32", 0), vec![via("fe80::1", 1)])]);
        assert_eq!(plan(&held, &wanted), Plan::default());
    }

    #[test]
    fn a_second_version_is_a_stray() {
        let route = |gateway: &str| KernelRoute {
            table: 254,
            destination: "10.0.0.0/8".parse().expect("prefix"),
            kind: KernelRouteKind::Unicast,
            metric: 5,
            protocol: 78,
            next_hops: vec![KernelNextHop {
                ifindex: 2,
                gateway: Some(gateway.parse().expect("gateway")),
                weight: 1,
                dead: false,
            }],
        };
        let mut held = Installed::default();
        held.insert(&route("10.9.0.1"));
        held.insert(&route("10.9.0.2"));
        assert_eq!(held.routes[&at("10.0.0.0/8", 5)], [via("10.9.0.1", 1)]);
        assert_eq!(held.strays, [(at("10.0.0.0/8", 5), vec![via("10.9.0.2", 1)])]);
    }
}
