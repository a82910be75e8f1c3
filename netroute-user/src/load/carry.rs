//! From the set of maps in use to one with other capacities: what stays as it is is shared, the rest is
//! made anew and gets what the old maps hold.
//!
//! Programs of both sets run side by side only while they are switched, hook after hook. What the old ones
//! write meanwhile comes over in the end, unless the new ones know better.

use std::collections::BTreeSet;
use std::path::PathBuf;

use aya::maps::MapData;
use tracing::{info, warn};

use super::definition::names;
use super::error::LoadError;
use crate::apply::takeover::{self, Present};
use crate::apply::{KernelStore, MapStore, StoreError};
use crate::error::chain;

pub(super) struct Carry {
    from: PathBuf,
    to: PathBuf,
    /// The maps that are not shared.
    anew: BTreeSet<&'static str>,
}

impl Carry {
    pub(super) fn new(from: PathBuf, to: PathBuf, anew: BTreeSet<&'static str>) -> Self {
        Self { from, to, anew }
    }

    /// Puts the maps that stay into the new set too. Before the others are made.
    pub(super) fn share(&self) -> Result<(), LoadError> {
        for name in names().filter(|name| !self.anew.contains(name)) {
            let path = self.from.join(name);
            let map = MapData::from_pin(&path)
                .map_err(|source| LoadError::PinnedMap { path, source: source.into() })?;
            let path = self.to.join(name);
            map.pin(&path).map_err(|source| LoadError::PinMap { path, source: source.into() })?;
        }
        Ok(())
    }

    /// Fills the new maps from the old ones.
    pub(super) fn fill(&self) -> Result<(), LoadError> {
        let failed = |source: StoreError| LoadError::CarryOver(Box::new(source));
        let former = KernelStore::open(&self.from).and_then(|store| store.read()).map_err(failed)?;
        let mut store = KernelStore::open(&self.to).map_err(failed)?;
        let left = takeover::image(&former, &mut store).map_err(failed)?;
        if left > 0 {
            info!(left, "entries of routes and Services did not fit into the new maps as they were");
        }
        for name in &self.anew {
            takeover::counters(name, &self.from, &self.to).map_err(failed)?;
        }
        self.entries(Present::Replaced, "carried over");
        Ok(())
    }

    /// What the data plane wrote while the maps were filled.
    pub(super) fn refresh(&self) {
        self.entries(Present::Replaced, "carried over again");
    }

    /// What it wrote while the programs were switched.
    pub(super) fn complete(&self) {
        self.entries(Present::Kept, "carried over after the switch");
    }

    /// A table that cannot be copied keeps nothing else from going on.
    fn entries(&self, present: Present, what: &'static str) {
        for &map in &self.anew {
            match takeover::entries(map, &self.from, &self.to, present) {
                Ok(carried) if carried.left > 0 => {
                    warn!(map, entries = carried.entries, left = carried.left, "{what}; not all fit");
                }
                Ok(carried) if carried.entries > 0 => info!(map, entries = carried.entries, "{what}"),
                Ok(_) => {}
                Err(error) => warn!(map, error = %chain(&error), "not {what}"),
            }
        }
    }
}
