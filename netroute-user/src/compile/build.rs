//! Puts the table together: candidates per prefix, tiers, groups, and what it means for each route.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net};
use netroute_common::layout::route::{
    FIRST_FREE_ID, FIRST_OWN_STATS, KIND_KERNEL, KIND_LOCAL, KIND_NOT_FORWARDED, KIND_SERVICE,
    KIND_UNRESOLVED, MAX_MEMBERS, Member, Route, UNCOUNTED, fixed_id,
};

use super::budget::Budget;
use super::candidate::{Candidate, LOCAL, SERVICE, by_metric, members, standby_reason};
use super::group::group_of;
use super::health::Health;
use super::ids::{Blocks, GroupIdentity, Ids};
use super::image::Image;
use super::interfaces::Interfaces;
use super::mirror::{self, FibKey, FibNextHop};
use super::next_hops::NextHops;
use super::place::{self, Refused};
use super::special::{NOT_FORWARDED4, NOT_FORWARDED6};
use super::status::{State, Status};
use super::table::{self, Entry, Table};
use super::{Compiled, Gateway, Inputs, egress, services};
use crate::desired::route::{CustomRoute, Probe, RouteKey};
use crate::kernel::{KernelNextHop, KernelRoute, KernelRouteKind, Link};

pub(super) struct Builder<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) interfaces: Interfaces,
    pub(super) next_hops: NextHops<'a>,
    group_ids: Ids<GroupIdentity>,
    stats: Blocks,
    image: Image,
    /// Trees of many are made faster from lists than entry by entry; of equal keys the last counts.
    routes4: Vec<(Ipv4Net, Route)>,
    fib: Vec<(FibKey, FibNextHop)>,
    statuses: Vec<(RouteKey, Status)>,
    pub(super) keep: BTreeSet<Gateway>,
    pub(super) probes: BTreeMap<Gateway, Probe>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(inputs: &'a Inputs<'a>) -> Self {
        let interfaces = Interfaces::resolve(inputs.desired, inputs.kernel);
        let installed = inputs.installed;
        let groups = installed.groups.iter().filter(|(id, _)| **id >= FIRST_FREE_ID);
        let blocks = installed.routes4.values().chain(installed.routes6.values()).filter_map(|route| {
            let length = installed.groups.get(&route.group)?.len;
            (route.stats != UNCOUNTED).then_some((route.stats, length))
        });
        Self {
            next_hops: NextHops::new(inputs, &interfaces),
            interfaces,
            group_ids: Ids::new(
                FIRST_FREE_ID..inputs.limits.groups,
                groups.map(|(id, group)| (group.into(), *id)),
            ),
            stats: Blocks::new(inputs.limits.route_stats, FIRST_OWN_STATS, blocks),
            image: Image::default(),
            routes4: Vec::new(),
            fib: Vec::new(),
            statuses: Vec::with_capacity(inputs.desired.routes.len()),
            keep: BTreeSet::new(),
            probes: BTreeMap::new(),
            inputs,
        }
    }

    pub(super) fn run(mut self) -> Compiled {
        let mut table = table::from_kernel(self.inputs.kernel);
        table::mark_services(&mut table, self.inputs.selection);
        for Refused { key, state, reason } in place::place(self.inputs, &self.interfaces, &mut table) {
            self.status(key, state, reason);
        }
        self.fixed_entries();
        let mut budget = Budget::new(self.inputs.limits, &table);
        for (prefix, entry) in &table {
            if entry.is_given() || budget.take(prefix) {
                self.entry(*prefix, entry);
            } else {
                self.refuse(entry, &Budget::reason(prefix, self.inputs.limits));
            }
        }
        self.hosts(&table, &mut budget);
        let ways = self.ways();
        self.image.routes4 = self.routes4.into_iter().collect();
        self.image.build_strides(self.inputs.limits, self.inputs.installed);
        let (next_hops, ports) = self.next_hops.finish();
        self.image.next_hops = next_hops;
        self.image.ports = ports;
        let (image, services) = services::build::build(self.inputs, &self.interfaces);
        self.image.services =
            services::image::ServiceImage { peers: services::peers::peers(&self.image.next_hops), ..image };
        let egress;
        (self.image.egress, egress) = egress::build(self.inputs, &self.interfaces, &ways);
        Compiled {
            image: self.image,
            fib: mirror::collect(self.fib),
            statuses: self.statuses.into_iter().collect(),
            keep: self.keep,
            probes: self.probes,
            services,
            egress,
        }
    }

    fn fixed_entries(&mut self) {
        for kind in KIND_LOCAL..=KIND_SERVICE {
            let group = group_of(&[Member {
                next_hop: fixed_id(kind),
                tier: 0,
                weight: 1,
                inverse: Member::inverse_of(1),
            }]);
            self.image.groups.insert(fixed_id(kind), group);
        }
        let route = Route { group: fixed_id(KIND_NOT_FORWARDED), stats: UNCOUNTED };
        self.routes4.extend(NOT_FORWARDED4.map(|prefix| (prefix, route)));
        self.image.routes6.extend(NOT_FORWARDED6.map(|prefix| (prefix, route)));
    }

    /// One prefix: its candidates in order, as a group, as FIB entries, as statuses.
    fn entry(&mut self, prefix: IpNet, entry: &Entry<'a>) {
        let mut candidates: Vec<Candidate<'a>> = Vec::new();
        for (route, link) in &entry.custom {
            candidates.extend(self.custom_candidate(route, link));
        }
        if let Some(route) = entry.kernel {
            candidates.extend(self.kernel_candidates(prefix, route));
        }
        // At the node's own addresses the data plane asks for front ends anyway.
        if let Some(kind) = entry.service
            && candidates.iter().all(|candidate| candidate.rank != LOCAL)
        {
            candidates.push(Candidate { rank: SERVICE, ..fixed(kind, 0) });
        }
        // Stable: a custom route stays before a kernel route of its metric.
        candidates.sort_by_key(|candidate| candidate.rank);
        for excess in candidates.iter().skip(MAX_MEMBERS).filter_map(|candidate| candidate.custom) {
            self.status(excess, State::Invalid, format!("{prefix} has more than {MAX_MEMBERS} next hops"));
        }
        candidates.truncate(MAX_MEMBERS);
        if candidates.is_empty() {
            return;
        }
        let members = members(&candidates);
        if let Some(first) = candidates.first().filter(|first| first.rank == SERVICE) {
            // The fixed group itself, without what stands behind it: the data plane knows it by its number.
            self.insert(prefix, Route { group: first.next_hop, stats: UNCOUNTED });
            self.judge(&candidates, &members, UNCOUNTED);
            return;
        }
        let Some(group) = self.group(&members) else {
            let reason =
                format!("the group table is full: raise limits.groups (now {})", self.inputs.limits.groups);
            self.refuse(entry, &reason);
            return;
        };
        let counted = candidates.iter().any(|candidate| candidate.custom.is_some());
        let stats = if counted { self.stats_of(prefix, members.len()) } else { UNCOUNTED };
        self.insert(prefix, Route { group, stats });
        self.judge(&candidates, &members, stats);
    }

    fn custom_candidate(&mut self, route: &'a CustomRoute, link: &Link) -> Option<Candidate<'a>> {
        let key = &route.key;
        let gateway = Gateway { ifindex: link.index, address: key.next_hop };
        self.keep.insert(gateway);
        if let Some(probe) = route.probe {
            self.probes.entry(gateway).or_insert(probe);
        }
        let Some(resolved) = self.next_hops.neighbour(link, key.next_hop) else {
            self.status(key, State::Invalid, self.no_next_hop(link));
            return None;
        };
        if !matches!(resolved.health, Health::Down(_)) {
            let fib_key = FibKey { destination: key.destination, metric: route.metric };
            let next_hop = FibNextHop { ifindex: link.index, gateway: key.next_hop, weight: route.weight };
            self.fib.push((fib_key, next_hop));
        }
        Some(Candidate {
            rank: by_metric(route.metric),
            next_hop: resolved.id,
            weight: route.weight,
            health: Some(resolved.health),
            custom: Some(key),
        })
    }

    /// Why there is no next hop on the link.
    pub(super) fn no_next_hop(&self, link: &Link) -> String {
        match link.mac {
            None => format!("{} is not an Ethernet interface", link.name),
            Some(_) => format!(
                "the next-hop table is full: raise limits.nextHops (now {})",
                self.inputs.limits.next_hops
            ),
        }
    }

    fn kernel_candidates(&mut self, prefix: IpNet, route: &KernelRoute) -> Vec<Candidate<'a>> {
        let fixed = |kind: u8| fixed(kind, route.metric);
        match route.kind {
            KernelRouteKind::Local => vec![Candidate { rank: LOCAL, ..fixed(KIND_LOCAL) }],
            KernelRouteKind::Broadcast | KernelRouteKind::Anycast | KernelRouteKind::Multicast => {
                vec![Candidate { rank: LOCAL, ..fixed(KIND_NOT_FORWARDED) }]
            }
            KernelRouteKind::Unicast => {
                let mut candidates = Vec::new();
                for next_hop in &route.next_hops {
                    let mut candidate = fixed(KIND_KERNEL);
                    match self.kernel_next_hop(prefix, next_hop) {
                        Way::NextHop(id, health) => {
                            candidate.next_hop = id;
                            candidate.health = Some(health);
                            candidate.weight = u8::try_from(next_hop.weight).unwrap_or(u8::MAX).max(1);
                        }
                        Way::Fixed(kind) => candidate.next_hop = fixed_id(kind),
                    }
                    candidates.push(candidate);
                }
                candidates
            }
            _ => vec![fixed(KIND_KERNEL)],
        }
    }

    /// How the fast path follows a next hop of a kernel route, if it does.
    fn kernel_next_hop(&mut self, prefix: IpNet, next_hop: &KernelNextHop) -> Way {
        let Some(link) = self.inputs.kernel.links.get(&next_hop.ifindex) else {
            return Way::Fixed(KIND_KERNEL);
        };
        let is_host = prefix.prefix_len() == prefix.max_prefix_len();
        let resolved = match next_hop.gateway {
            Some(gateway) if self.interfaces.is_nic(link.index) => {
                self.keep.insert(Gateway { ifindex: link.index, address: gateway });
                self.next_hops.neighbour(link, gateway)
            }
            None if is_host && self.interfaces.is_pod(link.index) => {
                self.keep.insert(Gateway { ifindex: link.index, address: prefix.addr() });
                self.next_hops.pod(link, prefix.addr())
            }
            None if is_host && self.interfaces.is_nic(link.index) => {
                self.next_hops.neighbour(link, prefix.addr())
            }
            None if self.interfaces.is_nic(link.index) => return Way::Fixed(KIND_UNRESOLVED),
            _ => return Way::Fixed(KIND_KERNEL),
        };
        // No room for it: the kernel sends it on, out of the same interface.
        let full = if self.interfaces.is_nic(link.index) { KIND_UNRESOLVED } else { KIND_KERNEL };
        resolved.map_or(Way::Fixed(full), |resolved| Way::NextHop(resolved.id, resolved.health))
    }

    /// Neighbours on connected networks: one host route each, so that the answer is complete.
    fn hosts(&mut self, table: &Table<'a>, budget: &mut Budget) {
        let kernel = self.inputs.kernel;
        for (key, neighbour) in &kernel.neighbours {
            let host = IpNet::from(key.address);
            let Some(link) = kernel.links.get(&key.ifindex) else { continue };
            let connected = |entry: &Entry<'_>| {
                entry.custom.is_empty()
                    && entry.service.is_none()
                    && entry.kernel.is_some_and(|route| table::connected_to(route, link.index))
            };
            let wanted = neighbour.mac.is_some()
                && self.interfaces.is_nic(link.index)
                && !super::special::contains(&host)
                && !table.contains_key(&host)
                && table::covering(table, host).is_some_and(connected);
            if !wanted || !budget.take(&host) {
                continue;
            }
            let Some(resolved) = self.next_hops.neighbour(link, key.address) else { continue };
            let member = Member { next_hop: resolved.id, tier: 0, weight: 1, inverse: Member::inverse_of(1) };
            if let Some(group) = self.group(&[member]) {
                self.insert(host, Route { group, stats: UNCOUNTED });
            }
        }
    }

    /// The group of these members; a group of one fixed member is the fixed group itself.
    pub(super) fn group(&mut self, members: &[Member]) -> Option<u32> {
        if let [only] = members
            && only.next_hop < FIRST_FREE_ID
        {
            return Some(only.next_hop);
        }
        let group = group_of(members);
        let id = self.group_ids.get(&GroupIdentity::from(&group))?;
        self.image.groups.entry(id).or_insert(group);
        Some(id)
    }

    /// The counters the prefix has already, if they still fit, or new ones.
    fn stats_of(&mut self, prefix: IpNet, length: usize) -> u32 {
        let Image { routes4, routes6, groups, .. } = self.inputs.installed;
        let installed = match prefix {
            IpNet::V4(prefix) => routes4.get(&prefix),
            IpNet::V6(prefix) => routes6.get(&prefix),
        };
        let fits =
            |route: &&Route| groups.get(&route.group).is_some_and(|group| group.len as usize == length);
        // After the limit was lowered the maps may still hold more.
        let within =
            |route: &&Route| route.stats.saturating_add(length as u32) <= self.inputs.limits.route_stats;
        let kept = installed.filter(|route| route.stats != UNCOUNTED).filter(fits).filter(within);
        let taken = kept.map(|route| route.stats).or_else(|| self.stats.take(length as u32));
        taken.unwrap_or(UNCOUNTED)
    }

    /// Says of each custom route of one prefix what became of it.
    fn judge(&mut self, candidates: &[Candidate<'a>], members: &[Member], stats: u32) {
        let alive = |candidate: &Candidate<'_>| matches!(candidate.health, None | Some(Health::Alive { .. }));
        let used = candidates.iter().find(|candidate| alive(candidate));
        for (place, candidate) in candidates.iter().enumerate().take(members.len()) {
            let Some(key) = candidate.custom else { continue };
            let (state, reason) = match &candidate.health {
                Some(Health::Down(reason)) => (State::Down, reason.clone()),
                Some(Health::Held { .. }) => {
                    (State::Standby, "back after a failure, hold time not over".to_owned())
                }
                Some(Health::Resolving) => {
                    (State::Pending, format!("resolving {} on {}", key.next_hop, key.interface))
                }
                _ => match used {
                    Some(used) if used.rank != candidate.rank => (State::Standby, standby_reason(used)),
                    _ => (State::Active, String::new()),
                },
            };
            let slot = (stats != UNCOUNTED).then_some(stats + place as u32);
            self.statuses.push((key.clone(), Status { state, reason, stats: slot }));
        }
    }

    fn insert(&mut self, prefix: IpNet, route: Route) {
        match prefix {
            IpNet::V4(prefix) => self.routes4.push((prefix, route)),
            IpNet::V6(prefix) => drop(self.image.routes6.insert(prefix, route)),
        }
    }

    fn refuse(&mut self, entry: &Entry<'a>, reason: &str) {
        for (route, _) in &entry.custom {
            self.status(&route.key, State::Invalid, reason.to_owned());
        }
    }

    fn status(&mut self, key: &RouteKey, state: State, reason: String) {
        self.statuses.push((key.clone(), Status { state, reason, stats: None }));
    }
}

/// What is always answered alike.
fn fixed<'a>(kind: u8, metric: u32) -> Candidate<'a> {
    Candidate { rank: by_metric(metric), next_hop: fixed_id(kind), weight: 1, health: None, custom: None }
}

/// What a kernel next hop is to the fast path.
enum Way {
    NextHop(u32, Health),
    Fixed(u8),
}
