//! Single changes of a [`KernelState`], and the difference between two states. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Address, KernelRoute, KernelState, Link, Neighbour, NeighbourKey};

/// One step from one kernel state to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// New or changed.
    Link(Link),
    /// With its addresses, its neighbours, and the routes that led nowhere else.
    LinkGone(u32),
    /// New, or one whose flags changed.
    Address(Address),
    AddressGone {
        ifindex: u32,
        address: IpNet,
    },
    Neighbour(NeighbourKey, Neighbour),
    NeighbourGone(NeighbourKey),
    /// Exactly this route is now there. A replaced one follows as `RouteGone`.
    Route(KernelRoute),
    /// Exactly this route is no longer there.
    RouteGone(KernelRoute),
    /// One of the agent's own routes (`RTPROT_NETROUTE`) was written, not by the agent's mirror.
    OwnRoute(KernelRoute),
    /// One of the agent's own routes was removed, not by the agent's mirror.
    OwnRouteGone(KernelRoute),
}

impl KernelState {
    /// Takes the change in; true if it made a difference. The agent's own routes are not part of
    /// the state, so their changes never do.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Link(link) => set(&mut self.links, link.index, link),
            Change::LinkGone(ifindex) => self.remove_link(ifindex),
            Change::Address(address) => self.set_address(address),
            Change::AddressGone { ifindex, address } => self.remove_address(ifindex, address),
            Change::Neighbour(key, neighbour) => set(&mut self.neighbours, key, neighbour),
            Change::NeighbourGone(key) => self.neighbours.remove(&key).is_some(),
            Change::Route(route) => self.routes.insert(route),
            Change::RouteGone(route) => self.routes.remove(&route),
            Change::OwnRoute(_) | Change::OwnRouteGone(_) => false,
        }
    }

    fn remove_link(&mut self, ifindex: u32) -> bool {
        let known = self.links.remove(&ifindex).is_some();
        self.addresses.retain(|address| address.ifindex != ifindex);
        self.neighbours.retain(|key, _| key.ifindex != ifindex);
        self.routes.retain(|route| {
            route.next_hops.is_empty() || route.next_hops.iter().any(|hop| hop.ifindex != ifindex)
        });
        known
    }

    fn set_address(&mut self, address: Address) -> bool {
        if self.addresses.contains(&address) {
            return false;
        }
        self.remove_address(address.ifindex, address.address);
        self.addresses.insert(address)
    }

    fn remove_address(&mut self, ifindex: u32, address: IpNet) -> bool {
        let before = self.addresses.len();
        self.addresses.retain(|held| held.ifindex != ifindex || held.address != address);
        self.addresses.len() != before
    }
}

fn set<K: Ord, V: PartialEq + Clone>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    let changed = map.get(&key) != Some(&value);
    if changed {
        map.insert(key, value);
    }
    changed
}

/// The changes that lead from `old` to `new`: additions first, so that a replaced route is never
/// missing in between; links that are gone last, when nothing refers to them any more.
#[must_use]
pub fn difference(old: &KernelState, new: &KernelState) -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(fresh(&old.links, &new.links).map(|(_, link)| Change::Link(link.clone())));
    changes.extend(new.addresses.difference(&old.addresses).cloned().map(Change::Address));
    changes
        .extend(fresh(&old.neighbours, &new.neighbours).map(|(key, value)| Change::Neighbour(*key, *value)));
    changes.extend(new.routes.difference(&old.routes).cloned().map(Change::Route));
    changes.extend(old.routes.difference(&new.routes).cloned().map(Change::RouteGone));
    changes.extend(missing(&old.neighbours, &new.neighbours).map(|key| Change::NeighbourGone(*key)));
    let kept: BTreeSet<_> = new.addresses.iter().map(|held| (held.ifindex, held.address)).collect();
    let lost =
        old.addresses.iter().map(|held| (held.ifindex, held.address)).filter(|key| !kept.contains(key));
    changes.extend(lost.map(|(ifindex, address)| Change::AddressGone { ifindex, address }));
    changes.extend(missing(&old.links, &new.links).map(|ifindex| Change::LinkGone(*ifindex)));
    changes
}

fn fresh<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    new.iter().filter(|(key, value)| old.get(key) != Some(value))
}

fn missing<'a, K: Ord, V>(old: &'a BTreeMap<K, V>, new: &'a BTreeMap<K, V>) -> impl Iterator<Item = &'a K> {
    old.keys().filter(|key| !new.contains_key(key))
}

#[cfg(test)]
mod tests {
    use super::super::{KernelNextHop, KernelRouteKind, NeighbourState};
    use super::*;

    fn link(index: u32) -> Link {
        Link { mac: Some([2, 0, 0, 0, 0, 1]), ..Link::named(index, &format!("eth{index}")) }
    }

    fn address(ifindex: u32, text: &str, usable: bool) -> Address {
        Address { ifindex, address: text.parse().expect("address"), permanent: true, usable }
    }

    fn route(destination: &str, hops: &[u32]) -> KernelRoute {
        let hop = |&ifindex: &u32| KernelNextHop { ifindex, gateway: None, weight: 1, dead: false };
        KernelRoute {
            table: 254,
            destination: destination.parse().expect("prefix"),
            kind: KernelRouteKind::Unicast,
            metric: 0,
            protocol: 2,
            next_hops: hops.iter().map(hop).collect(),
        }
    }

    fn state() -> KernelState {
        let mut state = KernelState::default();
        for index in [1, 2] {
            state.apply(Change::Link(link(index)));
        }
        state.apply(Change::Address(address(2, "10.0.0.1/24", true)));
        let key = NeighbourKey { ifindex: 2, address: "10.0.0.2".parse().expect("address") };
        state.apply(Change::Neighbour(key, Neighbour { mac: None, state: NeighbourState::Incomplete }));
        state.apply(Change::Route(route("10.0.0.0/24", &[2])));
        state.apply(Change::Route(route("10.1.0.0/24", &[1, 2])));
        state
    }

    #[test]
    fn the_same_change_twice_makes_no_difference() {
        let mut state = state();
        assert!(!state.apply(Change::Link(link(1))));
        assert!(!state.apply(Change::Address(address(2, "10.0.0.1/24", true))));
        assert!(!state.apply(Change::Route(route("10.0.0.0/24", &[2]))));
        assert!(!state.apply(Change::OwnRouteGone(route("10.0.0.0/24", &[2]))));
    }

    #[test]
    fn an_address_that_changes_its_flags_is_one_address() {
        let mut state = state();
        assert!(state.apply(Change::Address(address(2, "10.0.0.1/24", false))));
        assert_eq!(state.addresses.iter().collect::<Vec<_>>(), [&address(2, "10.0.0.1/24", false)]);
    }

    #[test]
    fn a_link_takes_what_hangs_on_it_alone_with_it() {
        let mut state = state();
        assert!(state.apply(Change::LinkGone(2)));
        assert!(state.addresses.is_empty() && state.neighbours.is_empty());
        assert_eq!(state.routes.iter().collect::<Vec<_>>(), [&route("10.1.0.0/24", &[1, 2])]);
    }

    #[test]
    fn the_difference_leads_from_old_to_new() {
        let old = state();
        let mut new = state();
        new.apply(Change::LinkGone(2));
        new.apply(Change::Link(Link { carrier: false, ..link(1) }));
        new.apply(Change::Link(link(3)));
        new.apply(Change::Address(address(3, "10.3.0.1/24", false)));
        new.apply(Change::Route(route("10.3.0.0/24", &[3])));
        for (from, to) in [(&old, &new), (&new, &old), (&KernelState::default(), &new)] {
            let mut walked = from.clone();
            for change in difference(from, to) {
                assert!(walked.apply(change.clone()), "{change:?} made no difference");
            }
            assert_eq!(&walked, to);
        }
        assert!(difference(&new, &new).is_empty());
    }
}
