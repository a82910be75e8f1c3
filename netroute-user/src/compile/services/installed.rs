//! What an installed image says of Services once it is asked by Service number.

use std::collections::{BTreeMap, BTreeSet};

use netroute_common::layout::service::Address;

use super::image::{ServiceImage, is_resting};

/// What makes a backend itself: one endpoint of one Service port. Were it shared between Services, one
/// of them could not give an endpoint up while the other has it (S12, S18).
pub(super) type Identity = (u32, Address, u16);

/// The blocks and backends in use.
pub(super) struct Installed {
    /// Service number -> first slot and different backends, in order, of each of its blocks.
    blocks: BTreeMap<u32, Vec<(u32, Vec<u32>)>>,
    pub(super) backends: BTreeMap<Identity, u32>,
}

impl Installed {
    pub(super) fn new(image: &ServiceImage) -> Self {
        let in_use = image.front_ends.values().filter(|front_end| front_end.size > 0);
        let in_use: BTreeSet<_> = in_use.map(|front_end| (front_end.service, front_end.block)).collect();
        let mut found = Self { blocks: BTreeMap::new(), backends: BTreeMap::new() };
        for (service, first) in in_use {
            let Some(block) = image.blocks.get(&first) else { continue };
            let mut different = block.to_vec();
            different.sort_unstable();
            different.dedup();
            for id in &different {
                if let Some(backend) = image.backends.get(id).filter(|backend| !is_resting(backend)) {
                    found.backends.insert((service, backend.address, backend.port), *id);
                }
            }
            found.blocks.entry(service).or_default().push((first, different));
        }
        found
    }

    /// The block of this Service that has exactly these backends, given in order.
    pub(super) fn block(&self, service: u32, backends: &[u32]) -> Option<u32> {
        let blocks = self.blocks.get(&service)?;
        blocks.iter().find(|(_, different)| different == backends).map(|(first, _)| *first)
    }
}
