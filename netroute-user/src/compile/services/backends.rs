//! Numbers of backends, each with the generation that flows are stamped with (S18, S21).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use netroute_common::layout::service::{BACKEND_LOCAL, Backend};

use super::image::{ServiceImage, is_resting, mapped};
use super::installed::{Identity, Installed};
use super::selection::Endpoint;

/// The first index of `BACKENDS` that is given out: a slot of zero names none.
const FIRST: u32 = 1;

/// Hands out indices of `BACKENDS`. One that is given up rests with a generation of its own, that no
/// flow can be stamped with; the one that rests longest is used again when no unused one is left.
pub(super) struct Backends<'a> {
    image: &'a ServiceImage,
    installed: &'a Installed,
    entries: BTreeMap<u32, Backend>,
    given: BTreeMap<Identity, u32>,
    free: VecDeque<u32>,
    /// Of all that changes in this compilation: larger than any before, since what rests keeps its own.
    generation: u32,
}

impl<'a> Backends<'a> {
    pub(super) fn new(image: &'a ServiceImage, installed: &'a Installed, limit: u32) -> Self {
        let largest = image.backends.values().map(|backend| backend.generation).max().unwrap_or(0);
        let in_use: BTreeSet<u32> = installed.backends.values().copied().collect();
        let unused = (FIRST..limit).filter(|id| !image.backends.contains_key(id) && !in_use.contains(id));
        let resting =
            image.backends.iter().filter(|(id, _)| !in_use.contains(id) && (FIRST..limit).contains(id));
        let resting: BTreeSet<_> = resting.map(|(id, backend)| (backend.generation, *id)).collect();
        Self {
            image,
            installed,
            entries: BTreeMap::new(),
            given: BTreeMap::new(),
            free: unused.chain(resting.into_iter().map(|(_, id)| id)).collect(),
            generation: largest.saturating_add(1),
        }
    }

    /// Whether there are numbers for all of these.
    pub(super) fn fits<'e>(&self, service: u32, endpoints: impl Iterator<Item = &'e Endpoint>) -> bool {
        endpoints.filter(|endpoint| self.number(service, endpoint).is_none()).count() <= self.free.len()
    }

    /// The number that the endpoint has already.
    pub(super) fn number(&self, service: u32, endpoint: &Endpoint) -> Option<u32> {
        let identity = (service, mapped(endpoint.address), endpoint.port);
        self.given.get(&identity).or_else(|| self.installed.backends.get(&identity)).copied()
    }

    /// Its number, now used; `None` if there is none left.
    pub(super) fn take(&mut self, service: u32, endpoint: &Endpoint) -> Option<u32> {
        let kept = self.number(service, endpoint);
        let id = kept.or_else(|| self.free.pop_front())?;
        let generation = match self.image.backends.get(&id) {
            Some(backend) if kept.is_some() => backend.generation,
            _ => self.generation,
        };
        let address = mapped(endpoint.address);
        let flags = if endpoint.local { BACKEND_LOCAL } else { 0 };
        self.given.insert((service, address, endpoint.port), id);
        self.entries.insert(id, Backend { address, port: endpoint.port, flags, generation });
        Some(id)
    }

    /// All entries, those that rest included.
    pub(super) fn finish(mut self) -> BTreeMap<u32, Backend> {
        for (id, backend) in &self.image.backends {
            let rests = Backend { generation: self.generation, ..Backend::default() };
            let rests = if is_resting(backend) { *backend } else { rests };
            self.entries.entry(*id).or_insert(rests);
        }
        self.entries
    }
}
