//! The steps of Services: what a front end names is there before it and goes after it, and one write
//! of a front end takes it from one set of endpoints to the next (S22).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use netroute_common::layout::flow::{Masquerade, PeerKey, Timers};
use netroute_common::layout::service::{Backend, FrontEnd, FrontEndKey, SourceRange};

use super::Step;
use super::diff::{changed, gone};
use crate::compile::services::image::{ServiceImage, is_resting, unmapped};

/// One write to a map of Services; of `SetBlock`, several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceStep {
    SetBackend {
        id: u32,
        backend: Backend,
    },
    /// An index of `BACKENDS` in each slot from `first` on: as many writes.
    SetBlock {
        first: u32,
        backends: Arc<[u32]>,
    },
    SetSourceRange {
        length: u8,
        range: SourceRange,
    },
    SetMasquerade {
        ifindex: u32,
        masquerade: Masquerade,
    },
    SetTimers {
        timers: Timers,
    },
    /// Zeroes a counter before a new Service port takes it.
    ResetServiceStats {
        service: u32,
    },
    SetFrontEnd {
        key: FrontEndKey,
        front_end: FrontEnd,
    },
    RemoveFrontEnd {
        key: FrontEndKey,
    },
    RemoveSourceRange {
        length: u8,
        range: SourceRange,
    },
    /// Nothing is written: a packet under way may still read the block.
    FreeBlock {
        first: u32,
    },
    /// Overwrites with zeroes, but for the generation.
    RestBackend {
        id: u32,
        generation: u32,
    },
    RemoveMasquerade {
        ifindex: u32,
    },
    SetPeer {
        key: PeerKey,
        next_hop: u32,
    },
    RemovePeer {
        key: PeerKey,
    },
    /// Overwrites with zeroes.
    ClearTimers,
}

/// Everything that is new or other than it was.
pub(super) fn additions<'a>(
    installed: &'a ServiceImage,
    wanted: &'a ServiceImage,
) -> impl Iterator<Item = Step> + 'a {
    let timers = wanted.timers.filter(|timers| installed.timers != Some(*timers));
    let masquerade = changed(&installed.masquerade, &wanted.masquerade)
        .map(|(&ifindex, &masquerade)| ServiceStep::SetMasquerade { ifindex, masquerade });
    let peers = changed(&installed.peers, &wanted.peers)
        .map(|(&key, &next_hop)| ServiceStep::SetPeer { key, next_hop });
    let backends = changed(&installed.backends, &wanted.backends)
        .filter(|(_, backend)| !is_resting(backend))
        .map(|(&id, &backend)| ServiceStep::SetBackend { id, backend });
    let blocks = changed(&installed.blocks, &wanted.blocks)
        .map(|(&first, backends)| ServiceStep::SetBlock { first, backends: backends.clone() });
    let ranges = wanted
        .source_ranges
        .difference(&installed.source_ranges)
        .map(|&(length, range)| ServiceStep::SetSourceRange { length, range });
    let held = services(installed);
    let new = services(wanted).into_iter().filter(move |service| !held.contains(service));
    let counters = new.map(|service| ServiceStep::ResetServiceStats { service });
    let front_ends = changed(&installed.front_ends, &wanted.front_ends)
        .map(|(&key, &front_end)| ServiceStep::SetFrontEnd { key, front_end });
    let timers = timers.map(|timers| ServiceStep::SetTimers { timers });
    let named = backends.chain(blocks).chain(ranges).chain(counters);
    timers.into_iter().chain(masquerade).chain(peers).chain(named).chain(front_ends).map(Step::Service)
}

/// Everything that is no more.
pub(super) fn removals<'a>(
    installed: &'a ServiceImage,
    wanted: &'a ServiceImage,
) -> impl Iterator<Item = Step> + 'a {
    let front_ends =
        gone(&installed.front_ends, &wanted.front_ends).map(|&key| ServiceStep::RemoveFrontEnd { key });
    let ranges = installed
        .source_ranges
        .difference(&wanted.source_ranges)
        .map(|&(length, range)| ServiceStep::RemoveSourceRange { length, range });
    let blocks = gone(&installed.blocks, &wanted.blocks).map(|&first| ServiceStep::FreeBlock { first });
    let resting = changed(&installed.backends, &wanted.backends)
        .filter(|(_, backend)| is_resting(backend))
        .map(|(&id, backend)| ServiceStep::RestBackend { id, generation: backend.generation });
    let unused =
        gone(&installed.backends, &wanted.backends).map(|&id| ServiceStep::RestBackend { id, generation: 0 });
    let masquerade = gone(&installed.masquerade, &wanted.masquerade)
        .map(|&ifindex| ServiceStep::RemoveMasquerade { ifindex });
    let peers = gone(&installed.peers, &wanted.peers).map(|&key| ServiceStep::RemovePeer { key });
    let timers = (installed.timers.is_some() && wanted.timers.is_none()).then_some(ServiceStep::ClearTimers);
    front_ends
        .chain(ranges)
        .chain(blocks)
        .chain(resting)
        .chain(unused)
        .chain(masquerade)
        .chain(peers)
        .chain(timers)
        .map(Step::Service)
}

/// The numbers of all Service ports; addresses have none.
fn services(image: &ServiceImage) -> BTreeSet<u32> {
    image.front_ends.values().map(|front_end| front_end.service).filter(|service| *service != 0).collect()
}

impl ServiceStep {
    /// Does to an image what the step does to the maps.
    pub(super) fn apply_to(&self, image: &mut ServiceImage) {
        match *self {
            Self::SetBackend { id, backend } => drop(image.backends.insert(id, backend)),
            Self::RestBackend { id, generation: 0 } => drop(image.backends.remove(&id)),
            Self::RestBackend { id, generation } => {
                image.backends.insert(id, Backend { generation, ..Backend::default() });
            }
            Self::SetBlock { first, ref backends } => drop(image.blocks.insert(first, backends.clone())),
            Self::FreeBlock { first } => drop(image.blocks.remove(&first)),
            Self::SetFrontEnd { key, front_end } => drop(image.front_ends.insert(key, front_end)),
            Self::RemoveFrontEnd { key } => drop(image.front_ends.remove(&key)),
            Self::SetSourceRange { length, range } => drop(image.source_ranges.insert((length, range))),
            Self::RemoveSourceRange { length, range } => drop(image.source_ranges.remove(&(length, range))),
            Self::SetMasquerade { ifindex, masquerade } => drop(image.masquerade.insert(ifindex, masquerade)),
            Self::RemoveMasquerade { ifindex } => drop(image.masquerade.remove(&ifindex)),
            Self::SetPeer { key, next_hop } => drop(image.peers.insert(key, next_hop)),
            Self::RemovePeer { key } => drop(image.peers.remove(&key)),
            Self::SetTimers { timers } => image.timers = Some(timers),
            Self::ClearTimers => image.timers = None,
            Self::ResetServiceStats { .. } => {}
        }
    }
}

impl fmt::Display for ServiceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetBackend { id, backend } => {
                write!(f, "set BACKENDS {id} to {} port {}", unmapped(backend.address), backend.port)
            }
            Self::RestBackend { id, .. } => write!(f, "clear BACKENDS {id}"),
            Self::SetBlock { first, backends } => {
                write!(f, "set SLOTS {first} and {} more", backends.len() - 1)
            }
            Self::FreeBlock { first } => write!(f, "free SLOTS {first}"),
            Self::SetFrontEnd { key, front_end } => {
                write!(f, "set FRONTENDS {} to {} slots", shown(key), front_end.size)
            }
            Self::RemoveFrontEnd { key } => write!(f, "remove FRONTENDS {}", shown(key)),
            Self::SetSourceRange { length, range } => {
                write!(f, "set SOURCE_RANGES {} length {length}", unmapped(range.address))
            }
            Self::RemoveSourceRange { length, range } => {
                write!(f, "remove SOURCE_RANGES {} length {length}", unmapped(range.address))
            }
            Self::SetMasquerade { ifindex, .. } => write!(f, "set MASQUERADE {ifindex}"),
            Self::RemoveMasquerade { ifindex } => write!(f, "remove MASQUERADE {ifindex}"),
            Self::SetPeer { key, next_hop } => {
                write!(f, "set PEERS {:02x?} at {} to next hop {next_hop}", key.mac, key.ifindex)
            }
            Self::RemovePeer { key } => write!(f, "remove PEERS {:02x?} at {}", key.mac, key.ifindex),
            Self::SetTimers { .. } => write!(f, "set TIMERS"),
            Self::ClearTimers => write!(f, "clear TIMERS"),
            Self::ResetServiceStats { service } => write!(f, "reset SERVICE_STATS {service}"),
        }
    }
}

fn shown(key: &FrontEndKey) -> String {
    let FrontEndKey { address, port, protocol, scope } = *key;
    format!("{} port {port} protocol {protocol} scope {scope}", unmapped(address))
}
