//! Carrying out a plan, step by step, on whatever holds the maps. Knows no map API.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use netroute_common::abi;
use netroute_common::layout::route::UNCOUNTED;

use super::store_memory::map_of;
use crate::compile::egress::image::EgressImage;
use crate::compile::image::{Image, Limits};
use crate::compile::services::image::ServiceImage;
use crate::plan::{EgressStep, Plan, ServiceStep, Step};

/// Where the maps' content lives: the kernel, or memory in tests.
pub trait MapStore {
    /// One write to one map.
    fn write(&mut self, step: &Step) -> Result<(), StoreError>;

    /// All of the control maps' content.
    fn read(&self) -> Result<Image, StoreError>;
}

/// One map access that failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("map {map} is full ({capacity} entries): raise `{key}` in the agent's configuration")]
    Full { map: &'static str, capacity: u32, key: &'static str },
    #[error(
        "map {map} has no slot {slot} (its capacity is {capacity}): raise `{key}` in the agent's configuration"
    )]
    NoSlot { map: &'static str, slot: u32, capacity: u32, key: &'static str },
    #[error("{map} slot {slot}: no interface has the index {ifindex}")]
    NoInterface { map: &'static str, slot: u32, ifindex: u32 },
    #[error("cannot {operation} map {map}")]
    Map {
        map: &'static str,
        operation: &'static str,
        #[source]
        source: Box<aya::maps::MapError>,
    },
    #[error("write {number} was made to fail")]
    Injected { number: u64 },
}

/// The image does not fit into the maps; nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{needed} {what} do not fit into map {map} ({capacity} entries): raise `{key}` in the agent's configuration"
)]
pub struct CapacityError {
    pub what: &'static str,
    pub map: &'static str,
    pub needed: u64,
    pub capacity: u32,
    pub key: &'static str,
}

/// A plan that stopped half-way. What was written is consistent: every entry that is referred to
/// was written before what refers to it.
#[derive(Debug, thiserror::Error)]
#[error("stopped after {done} of {total} map writes")]
pub struct ApplyError {
    pub done: usize,
    pub total: usize,
    #[source]
    pub source: StoreError,
}

/// A plan that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    pub steps: usize,
    pub duration: Duration,
}

/// The configuration key that sets the capacity of a map.
pub(super) const fn limit_key(map: &'static str) -> &'static str {
    match map.as_bytes() {
        b"ROUTES4" => "limits.routes4",
        b"BLOCKS4" => "limits.blocks4",
        b"ROUTES6" => "limits.routes6",
        b"GROUPS" => "limits.groups",
        b"NEXTHOPS" | b"NEXTHOP_STATS" | b"PEERS" => "limits.nextHops",
        b"ROUTE_STATS" => "limits.routeStats",
        b"FRONTENDS" => "limits.frontEnds",
        b"SLOTS" => "limits.slots",
        b"BACKENDS" => "limits.backends",
        b"SOURCE_RANGES" => "limits.sourceRanges",
        b"SERVICE_STATS" => "limits.serviceStats",
        b"SOURCES" => "limits.sources",
        b"EGRESS" => "limits.egress",
        b"EGRESS_RULES" => "limits.egressRules",
        b"EGRESS_POLICIES" | b"EGRESS_STATS" => "limits.egressPolicies",
        b"SNAT" => "limits.snat",
        // Fixed: more NICs than this need another build.
        _ => "interfaces",
    }
}

/// Asks, before the first write, whether the image fits.
pub fn check_capacity(image: &Image, limits: &Limits) -> Result<(), CapacityError> {
    let Image { routes4, routes6, strides, groups, next_hops, ports, services, egress } = image;
    let entries = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let slots = |last: Option<&u32>| last.map_or(0, |last| u64::from(*last).saturating_add(1));
    let counters = routes4
        .values()
        .chain(routes6.values())
        .filter(|route| route.stats != UNCOUNTED)
        .map(|route| {
            let members = groups.get(&route.group).map_or(1, |group| group.len.max(1));
            u64::from(route.stats).saturating_add(u64::from(members))
        })
        .max()
        .unwrap_or(0);
    let ServiceImage { front_ends, blocks, backends, source_ranges, masquerade, peers, timers: _ } = services;
    let last_slot = blocks.last_key_value();
    let last_slot = last_slot.map_or(0, |(first, block)| u64::from(*first) + entries(block.len()));
    let numbers = front_ends.values().map(|front_end| u64::from(front_end.service) + 1).max().unwrap_or(0);
    let needs = [
        ("IPv4 routes", abi::MAP_ROUTES4, entries(routes4.len()), limits.routes4),
        ("blocks", abi::MAP_BLOCKS4, slots(strides.blocks.keys().next_back()), limits.blocks4),
        ("IPv6 routes", abi::MAP_ROUTES6, entries(routes6.len()), limits.routes6),
        ("next-hop groups", abi::MAP_GROUPS, slots(groups.keys().next_back()), limits.groups),
        ("next hops", abi::MAP_NEXTHOPS, slots(next_hops.keys().next_back()), limits.next_hops),
        ("route counters", abi::MAP_ROUTE_STATS, counters, limits.route_stats),
        ("ports", abi::MAP_PORTS, slots(ports.keys().next_back()), abi::MAX_PORTS),
        ("front ends", abi::MAP_FRONTENDS, entries(front_ends.len()), limits.front_ends),
        ("slots", abi::MAP_SLOTS, last_slot, limits.slots),
        ("backends", abi::MAP_BACKENDS, slots(backends.keys().next_back()), limits.backends),
        ("source ranges", abi::MAP_SOURCE_RANGES, entries(source_ranges.len()), limits.source_ranges),
        ("Service ports", abi::MAP_SERVICE_STATS, numbers, limits.service_stats),
        ("masqueraded interfaces", abi::MAP_MASQUERADE, entries(masquerade.len()), abi::MAX_MASQUERADE),
        ("peers", abi::MAP_PEERS, entries(peers.len()), limits.next_hops),
    ];
    let exceeded = needs
        .into_iter()
        .chain(egress_needs(egress, limits))
        .find(|(_, _, needed, capacity)| *needed > u64::from(*capacity));
    exceeded.map_or(Ok(()), |(what, map, needed, capacity)| {
        Err(CapacityError { what, map, needed, capacity, key: limit_key(map) })
    })
}

/// What is needed of a map: what, the map, how many entries, and how many there are.
type Need = (&'static str, &'static str, u64, u32);

fn egress_needs(egress: &EgressImage, limits: &Limits) -> [Need; 5] {
    let EgressImage { sources, destinations: _, rules, policies, snat } = egress;
    let entries = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let end = |last: Option<(u32, usize)>| last.map_or(0, |(first, len)| u64::from(first) + entries(len));
    let last_rules = rules.last_key_value().map(|(first, run)| (*first, run.len()));
    let last_snat = snat.last_key_value().map(|(first, run)| (*first, run.len()));
    let last_policy = policies.keys().next_back().map(|index| (*index, 1));
    [
        ("sources", abi::MAP_SOURCES, entries(sources.len()), limits.sources),
        ("egress destinations", abi::MAP_EGRESS, entries(egress.entries()), limits.egress),
        ("egress rules", abi::MAP_EGRESS_RULES, end(last_rules), limits.egress_rules),
        ("egress policies", abi::MAP_EGRESS_POLICIES, end(last_policy), limits.egress_policies),
        ("addresses of policies", abi::MAP_SNAT, end(last_snat), limits.snat),
    ]
}

/// Carries out the plan in its order. Where a table has no room for old and new entries side by side,
/// the plan's removals from that table are done first.
pub fn apply(plan: &Plan, store: &mut dyn MapStore) -> Result<Applied, ApplyError> {
    let started = Instant::now();
    let total = plan.steps.len();
    let mut done = 0;
    let mut freed = Freed::default();
    for (at, step) in plan.steps.iter().enumerate() {
        if freed.has(step) {
            continue;
        }
        match store.write(step) {
            Ok(()) => done += 1,
            Err(full @ StoreError::Full { .. }) => {
                let failed = |done, source| ApplyError { done, total, source };
                let removals = freed.take(step, &plan.steps[at..]);
                if removals.is_empty() {
                    return Err(failed(done, full));
                }
                for removal in removals {
                    store.write(removal).map_err(|source| failed(done, source))?;
                    done += 1;
                }
                store.write(step).map_err(|source| failed(done, source))?;
                done += 1;
            }
            Err(source) => return Err(ApplyError { done, total, source }),
        }
    }
    Ok(Applied { steps: done, duration: started.elapsed() })
}

/// The tables whose removals were done ahead of their turn.
#[derive(Default)]
struct Freed(BTreeSet<&'static str>);

impl Freed {
    /// Whether this removal was done already.
    fn has(&self, step: &Step) -> bool {
        removes(step) && self.0.contains(map_of(step))
    }

    /// The removals that make room for `step`, once.
    fn take<'a>(&mut self, step: &Step, rest: &'a [Step]) -> Vec<&'a Step> {
        let map = map_of(step);
        if !self.0.insert(map) {
            return Vec::new();
        }
        rest.iter().filter(|other| removes(other) && map_of(other) == map).collect()
    }
}

/// Whether the step makes room in a map that can be full. A source that is not known sends nothing; a
/// destination of egress policies that went first would leave its packets to what lies behind it.
const fn removes(step: &Step) -> bool {
    matches!(
        step,
        Step::RemoveRoute4 { .. }
            | Step::RemoveRoute6 { .. }
            | Step::Service(
                ServiceStep::RemoveFrontEnd { .. }
                    | ServiceStep::RemoveSourceRange { .. }
                    | ServiceStep::RemovePeer { .. }
            )
            | Step::Egress(EgressStep::RemoveSource { .. })
    )
}

#[cfg(test)]
mod tests {
    use netroute_common::layout::flow::PeerKey;
    use netroute_common::layout::route::{Group, Member, NextHop, Route};
    use netroute_common::layout::service::{FrontEnd, FrontEndKey, SourceRange};
    use zerocopy::FromZeros;

    use super::*;
    use crate::apply::MemoryStore;
    use crate::compile::services::image::mapped;
    use crate::plan::diff;

    const LIMITS: Limits = Limits {
        routes4: 4,
        blocks4: 4,
        routes6: 4,
        groups: 16,
        next_hops: 16,
        route_stats: 64,
        ..Limits::DEFAULT
    };

    /// `count` routes over one group of one next hop.
    fn image(count: u8, id: u32) -> Image {
        let next_hop = NextHop { ifindex: id, ..NextHop::new_zeroed() };
        let mut group = Group { len: 1, members: [Member::default(); 16] };
        group.members[0].next_hop = id;
        let route = |number| {
            let prefix = ipnet::Ipv4Net::new_assert([id as u8, number, 0, 0].into(), 16);
            (prefix, Route { group: id, stats: 0 })
        };
        Image {
            routes4: (0..count).map(route).collect(),
            groups: [(id, group)].into(),
            next_hops: [(id, next_hop)].into(),
            ports: [(id, id)].into(),
            ..Image::default()
        }
    }

    /// No entry refers to one that is not there.
    fn is_consistent(image: &Image) -> bool {
        image.routes4.values().all(|route| image.groups.contains_key(&route.group))
            && image.groups.values().all(|group| image.next_hops.contains_key(&group.members[0].next_hop))
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_key_to_raise() {
        assert_eq!(check_capacity(&image(4, 8), &LIMITS), Ok(()));
        let error = check_capacity(&image(5, 8), &LIMITS).unwrap_err();
        assert_eq!((error.map, error.needed, error.capacity, error.key), ("ROUTES4", 5, 4, "limits.routes4"));
        assert_eq!(check_capacity(&image(1, 16), &LIMITS).unwrap_err().key, "limits.groups");
        let mut counted = image(1, 8);
        counted.routes4.values_mut().for_each(|route| route.stats = 63);
        assert_eq!(check_capacity(&counted, &LIMITS), Ok(()));
        counted.groups.values_mut().for_each(|group| group.len = 2);
        assert_eq!(check_capacity(&counted, &LIMITS).unwrap_err().key, "limits.routeStats");
        counted.routes4.values_mut().for_each(|route| route.stats = UNCOUNTED);
        assert_eq!(check_capacity(&counted, &Limits { route_stats: 1, ..LIMITS }), Ok(()));
    }

    #[test]
    fn cut_short_anywhere_it_is_consistent_and_can_be_finished() {
        let (old, new) = (image(3, 8), image(4, 9));
        let total = diff(&old, &new).steps.len() as u64;
        for stop in 0..total {
            let mut store = MemoryStore::new(Limits { routes4: 16, ..LIMITS });
            apply(&diff(&Image::default(), &old), &mut store).unwrap();
            let before = store.writes();
            let mut store = store.failing_at(before + stop);
            let error = apply(&diff(&old, &new), &mut store).unwrap_err();
            assert_eq!(error.done as u64, stop);
            assert!(is_consistent(store.image()), "after {stop} of {total} steps");
            store.heal();
            apply(&diff(&store.read().unwrap(), &new), &mut store).unwrap();
            assert_eq!(store.image(), &new);
        }
    }

    #[test]
    fn room_is_made_only_where_it_lacks() {
        let (old, new) = (image(4, 8), image(4, 9));
        let mut store = MemoryStore::new(LIMITS);
        apply(&diff(&Image::default(), &old), &mut store).unwrap();
        let applied = apply(&diff(&old, &new), &mut store).unwrap();
        assert_eq!(store.image(), &new);
        assert_eq!(applied.steps, diff(&old, &new).steps.len(), "each step once");
        let error = apply(&diff(&new, &image(5, 9)), &mut store).unwrap_err();
        assert!(matches!(error.source, StoreError::Full { map: "ROUTES4", .. }));
        assert_eq!(store.image(), &new, "nothing changed");
    }

    #[test]
    fn front_ends_make_room_for_others_too() {
        let image = |number: u8| {
            let address = mapped([number; 4].into());
            let key = |port| FrontEndKey { address, port, ..FrontEndKey::default() };
            let mut image = Image::default();
            image.services.front_ends = (1..=3).map(|port| (key(port), FrontEnd::default())).collect();
            image.services.source_ranges = [(40, SourceRange { address, service: [0; 4] })].into();
            image
        };
        let mut store = MemoryStore::new(Limits { front_ends: 4, source_ranges: 1, ..LIMITS });
        apply(&diff(&Image::default(), &image(1)), &mut store).unwrap();
        apply(&diff(&image(1), &image(2)), &mut store).unwrap();
        assert_eq!(store.image(), &image(2));
        assert_eq!(store.writes_to("FRONTENDS"), 3 + 3 + 3);
    }

    #[test]
    fn n13_neighbours_may_all_change_their_macs_where_there_is_room_for_no_more() {
        let image = |number: u8| {
            let key = |last| PeerKey { ifindex: 2, mac: [2, 0, 0, 0, number, last], zero: 0 };
            let mut image = Image::default();
            image.services.peers = (1..=3).map(|last| (key(last), u32::from(last))).collect();
            image
        };
        let mut store = MemoryStore::new(Limits { next_hops: 4, ..LIMITS });
        apply(&diff(&Image::default(), &image(1)), &mut store).unwrap();
        apply(&diff(&image(1), &image(2)), &mut store).unwrap();
        assert_eq!(store.image(), &image(2));
        let mut store = MemoryStore::new(Limits { next_hops: 2, ..LIMITS });
        let error = apply(&diff(&Image::default(), &image(1)), &mut store).unwrap_err();
        assert!(matches!(error.source, StoreError::Full { map: "PEERS", key: "limits.nextHops", .. }));
    }

    #[test]
    fn r14_a_failover_is_one_write() {
        let mut store = MemoryStore::new(LIMITS);
        let up = image(4, 8);
        apply(&diff(&Image::default(), &up), &mut store).unwrap();
        let mut down = up.clone();
        down.next_hops.values_mut().for_each(|next_hop| next_hop.alive ^= 1);
        let before = store.writes();
        apply(&diff(&up, &down), &mut store).unwrap();
        assert_eq!((store.writes() - before, store.writes_to("NEXTHOPS")), (1, 2));
    }
}
