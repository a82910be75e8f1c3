//! Numbers of Service ports: slots of `SERVICE_STATS`, and their names in `AFFINITY`, `SOURCE_RANGES` and
//! flows (S21).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use netroute_common::layout::service::FrontEndKey;

use super::image::ServiceImage;
use super::selection::{FrontEndSpec, Kind, ServicePort};

/// The first number of a Service port; 0 is of the addresses themselves.
const FIRST: u32 = 1;

/// The front ends of each Service port.
pub(super) type Ports<'a> = BTreeMap<&'a ServicePort, Vec<(FrontEndKey, &'a FrontEndSpec)>>;

/// Which Service port has which number, and which numbers rest. `Default` is what is known after a start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceIds {
    pub ids: BTreeMap<ServicePort, u32>,
    /// Numbers whose Service port is gone, the one that rests longest first.
    resting: VecDeque<u32>,
}

impl ServiceIds {
    /// Numbers for these ports, below `limit`: those they have; else those that their front ends have in
    /// the maps, if nobody remembers whose those are; else ones never used; else of those that rest, the
    /// one that does so longest. Never one that flows carry. Ports are left out when numbers run out.
    pub(super) fn next(
        &self,
        ports: &Ports<'_>,
        installed: &ServiceImage,
        carried: &BTreeSet<u32>,
        limit: u32,
    ) -> Self {
        let range = FIRST..limit;
        let stays = |(port, id): &(&ServicePort, &u32)| ports.contains_key(port) && range.contains(id);
        let kept = self.ids.iter().filter(stays);
        let mut ids: BTreeMap<ServicePort, u32> = kept.map(|(port, id)| (port.clone(), *id)).collect();
        self.recognise(&mut ids, ports, installed, limit);

        let given: BTreeSet<u32> = ids.values().copied().collect();
        let held: BTreeSet<u32> = installed.front_ends.values().map(|front_end| front_end.service).collect();
        let rested: BTreeSet<u32> = self.resting.iter().copied().collect();
        let left: BTreeSet<u32> = self.ids.values().chain(&held).copied().collect();
        let left = left.into_iter().filter(|id| !rested.contains(id));
        let resting = self.resting.iter().copied().chain(left);
        let resting: Vec<u32> = resting.filter(|id| range.contains(id) && !given.contains(id)).collect();

        let known: BTreeSet<u32> = given.iter().chain(&resting).copied().collect();
        let unused = range.clone().filter(|id| !known.contains(id));
        let free = unused.chain(resting.iter().copied().filter(|id| !held.contains(id)));
        let mut free = free.filter(|id| !carried.contains(id));
        for port in ports.keys() {
            if !ids.contains_key(*port)
                && let Some(id) = free.next()
            {
                ids.insert((*port).clone(), id);
            }
        }
        let given: BTreeSet<u32> = ids.values().copied().collect();
        Self { ids, resting: resting.iter().copied().filter(|id| !given.contains(id)).collect() }
    }

    /// After a start the maps alone tell which number was whose. A ClusterIP is asked first: it stays
    /// with its Service, where other addresses may have moved on meanwhile.
    fn recognise(
        &self,
        ids: &mut BTreeMap<ServicePort, u32>,
        ports: &Ports<'_>,
        installed: &ServiceImage,
        limit: u32,
    ) {
        let remembered = self.ids.values().chain(&self.resting);
        let mut taken: BTreeSet<u32> = remembered.chain(ids.values()).copied().collect();
        for cluster_ip in [true, false] {
            for (port, front_ends) in ports {
                if ids.contains_key(*port) {
                    continue;
                }
                let asked =
                    front_ends.iter().filter(|(_, spec)| (spec.kind == Kind::ClusterIp) == cluster_ip);
                let held = asked.filter_map(|(key, _)| installed.front_ends.get(key));
                let mut numbers = held.map(|front_end| front_end.service);
                let number = numbers.find(|id| (FIRST..limit).contains(id) && !taken.contains(id));
                if let Some(id) = number {
                    taken.insert(id);
                    ids.insert((*port).clone(), id);
                }
            }
        }
    }
}
