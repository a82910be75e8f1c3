//! Puts the image of Services together. A Service port is in it with all of its front ends or with none:
//! what does not fit is refused, and the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use netroute_common::layout::service::{
    FRONTEND_DROP, FRONTEND_ECHO, FRONTEND_MASQUERADE, FRONTEND_SOURCE_RANGES, FrontEnd, FrontEndKey,
    SCOPE_EXTERNAL, SCOPE_INTERNAL, SourceRange,
};

use super::Services;
use super::backends::Backends;
use super::ids::Ports;
use super::image::{ServiceImage, mapped};
use super::installed::Installed;
use super::maglev;
use super::masquerade::masquerade;
use super::refused::Refused;
use super::selection::{Endpoint, FrontEndAddress, FrontEndSpec, Scope, Selection, WithoutEndpoint};
use super::slots::Slots;
use crate::compile::Inputs;
use crate::compile::image::Limits;
use crate::compile::interfaces::Interfaces;
use crate::desired::service::Protocol;

const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_SCTP: u8 = 132;

/// The image of Services, and what it came to.
#[must_use]
pub fn build(inputs: &Inputs<'_>, interfaces: &Interfaces) -> (ServiceImage, Services) {
    let Inputs { selection, limits, .. } = *inputs;
    let before = &inputs.installed.services;
    let installed = Installed::new(before);
    let mut builder = Builder {
        limits,
        before,
        installed: &installed,
        addresses: addresses(selection),
        backends: Backends::new(before, &installed, limits.backends),
        slots: Slots::new(limits.slots, &before.blocks),
        image: ServiceImage {
            masquerade: masquerade(inputs, interfaces),
            timers: Some(inputs.nat.timers),
            ..ServiceImage::default()
        },
    };
    let ports = ports(selection);
    let ids = inputs.service_ids.next(&ports, before, inputs.carried, limits.service_stats);
    let mut refused = BTreeMap::new();
    let is_there = |keys: &[(FrontEndKey, &FrontEndSpec)]| {
        keys.iter().any(|(key, _)| before.front_ends.contains_key(key))
    };
    // Where room is short, what is there already stays.
    let (there, new): (Vec<_>, Vec<_>) = ports.iter().partition(|(_, front_ends)| is_there(front_ends));
    for (port, front_ends) in there.into_iter().chain(new) {
        let built = match ids.ids.get(*port) {
            Some(id) => builder.port(*id, front_ends),
            None => Err(Refused::ServiceStats { limit: limits.service_stats }),
        };
        if let Err(reason) = built {
            refused.insert((*port).clone(), reason);
        }
    }
    builder.other_addresses();
    (builder.finish(), Services { ids, refused, ..Services::default() })
}

struct Builder<'a> {
    limits: Limits,
    before: &'a ServiceImage,
    installed: &'a Installed,
    /// The entries that say of an address as a whole that it is a Service's.
    addresses: BTreeMap<FrontEndKey, FrontEnd>,
    backends: Backends<'a>,
    slots: Slots,
    image: ServiceImage,
}

/// Where the table of a set of endpoints lies.
enum Place {
    /// In a block that is there already.
    Kept {
        first: u32,
    },
    Fresh {
        first: u32,
        size: u32,
    },
}

type Endpoints = BTreeSet<Endpoint>;

impl Builder<'_> {
    /// The front ends of one Service port. Nothing is taken before all of it is known to fit, but for
    /// slots, which are free again in the next compilation.
    fn port(&mut self, service: u32, front_ends: &[(FrontEndKey, &FrontEndSpec)]) -> Result<(), Refused> {
        let ranges = front_ends.iter().flat_map(|(_, spec)| &spec.source_ranges);
        let ranges: BTreeSet<_> = ranges.map(|range| source_range(service, range)).collect();
        let addresses = self.addresses_of(front_ends);
        self.has_room(service, front_ends, addresses.len(), ranges.len())?;
        let sets: BTreeSet<&Endpoints> = front_ends.iter().map(|(_, spec)| &spec.endpoints).collect();
        let sets = sets.into_iter().filter(|endpoints| !endpoints.is_empty());
        let places: Result<Vec<(&Endpoints, Place)>, Refused> =
            sets.map(|endpoints| Ok((endpoints, self.place(service, endpoints)?))).collect();
        let mut blocks = BTreeMap::new();
        for (endpoints, place) in places? {
            blocks.insert(endpoints, self.block(service, endpoints, &place)?);
        }
        self.image.source_ranges.extend(ranges);
        self.image.front_ends.extend(addresses);
        for (key, spec) in front_ends {
            let (block, size) = blocks.get(&spec.endpoints).copied().unwrap_or_default();
            let affinity =
                spec.affinity.map_or(0, |kept| u32::try_from(kept.as_secs()).unwrap_or(u32::MAX).max(1));
            self.image
                .front_ends
                .insert(*key, FrontEnd { service, block, size, affinity, flags: flags(spec) });
        }
        Ok(())
    }

    fn has_room(
        &self,
        service: u32,
        front_ends: &[(FrontEndKey, &FrontEndSpec)],
        addresses: usize,
        ranges: usize,
    ) -> Result<(), Refused> {
        let Limits { front_ends: most_front_ends, source_ranges, backends, .. } = self.limits;
        if self.image.front_ends.len() + addresses + front_ends.len() > most_front_ends as usize {
            return Err(Refused::FrontEnds { limit: most_front_ends });
        }
        if self.image.source_ranges.len() + ranges > source_ranges as usize {
            return Err(Refused::SourceRanges { limit: source_ranges });
        }
        let endpoints: Endpoints = front_ends.iter().flat_map(|(_, spec)| &spec.endpoints).copied().collect();
        if !self.backends.fits(service, endpoints.iter()) {
            return Err(Refused::Backends { limit: backends });
        }
        Ok(())
    }

    /// The block that holds these endpoints, or room for one: never where the maps hold another (S22).
    /// Where there is little, a smaller one, whose shares are less equal.
    fn place(&mut self, service: u32, endpoints: &Endpoints) -> Result<Place, Refused> {
        let numbers = endpoints.iter().map(|endpoint| self.backends.number(service, endpoint));
        let numbers: Option<BTreeSet<u32>> = numbers.collect();
        let sorted = numbers.map(|numbers| numbers.into_iter().collect::<Vec<u32>>());
        if let Some(first) = sorted.and_then(|sorted| self.installed.block(service, &sorted)) {
            return Ok(Place::Kept { first });
        }
        let mut sizes = maglev::sizes(endpoints.len()).peekable();
        if sizes.peek().is_none() {
            return Err(Refused::Endpoints { endpoints: endpoints.len() });
        }
        let found = sizes.find_map(|size| Some((self.slots.take(size)?, size)));
        let (first, size) = found.ok_or(Refused::Slots { limit: self.limits.slots })?;
        Ok(Place::Fresh { first, size })
    }

    /// Takes the endpoints' backends and fills the block; first slot and size.
    fn block(&mut self, service: u32, endpoints: &Endpoints, place: &Place) -> Result<(u32, u32), Refused> {
        let full = Refused::Backends { limit: self.limits.backends };
        let numbers = endpoints.iter().map(|endpoint| self.backends.take(service, endpoint).ok_or(full));
        let numbers = numbers.collect::<Result<Vec<u32>, Refused>>()?;
        let (first, block) = match *place {
            Place::Kept { first } => (first, self.before.blocks.get(&first).cloned().unwrap_or_default()),
            Place::Fresh { first, size } => {
                let endpoints: Vec<Endpoint> = endpoints.iter().copied().collect();
                let table = maglev::table(&endpoints, size);
                (first, table.iter().map(|index| numbers[*index as usize]).collect::<Arc<[u32]>>())
            }
        };
        let size = u32::try_from(block.len()).unwrap_or(u32::MAX);
        self.image.blocks.insert(first, block);
        Ok((first, size))
    }

    /// Entries of the addresses of these front ends that are not in the image yet.
    fn addresses_of(&self, front_ends: &[(FrontEndKey, &FrontEndSpec)]) -> BTreeMap<FrontEndKey, FrontEnd> {
        let whole = front_ends.iter().map(|(key, _)| FrontEndKey { port: 0, protocol: 0, ..*key });
        let missing = whole.filter(|key| !self.image.front_ends.contains_key(key));
        missing.filter_map(|key| Some((key, *self.addresses.get(&key)?))).collect()
    }

    /// Addresses without a port that is served take what room is left: what comes to them is refused.
    fn other_addresses(&mut self) {
        for (key, front_end) in std::mem::take(&mut self.addresses) {
            let front_ends = &mut self.image.front_ends;
            if front_ends.contains_key(&key) || front_ends.len() < self.limits.front_ends as usize {
                front_ends.insert(key, front_end);
            }
        }
    }

    fn finish(mut self) -> ServiceImage {
        self.image.backends = self.backends.finish();
        self.image
    }
}

fn ports(selection: &Selection) -> Ports<'_> {
    let mut ports = Ports::new();
    for (address, spec) in &selection.front_ends {
        ports.entry(&spec.service).or_default().push((key(address), spec));
    }
    ports
}

/// The entries that say of an address as a whole that it is a Service's.
fn addresses(selection: &Selection) -> BTreeMap<FrontEndKey, FrontEnd> {
    let scopes = |(address, echo): (&IpAddr, &bool)| {
        let front_end = FrontEnd { flags: if *echo { FRONTEND_ECHO } else { 0 }, ..FrontEnd::default() };
        let key = FrontEndKey { address: mapped(*address), ..FrontEndKey::default() };
        [SCOPE_EXTERNAL, SCOPE_INTERNAL].map(|scope| (FrontEndKey { scope, ..key }, front_end))
    };
    selection.addresses.iter().flat_map(scopes).collect()
}

/// The key of a front end in the maps.
#[must_use]
pub fn key(front_end: &FrontEndAddress) -> FrontEndKey {
    let FrontEndAddress { address, port, protocol, scope } = *front_end;
    FrontEndKey {
        address: mapped(address),
        port,
        protocol: match protocol {
            Protocol::Tcp => IPPROTO_TCP,
            Protocol::Udp => IPPROTO_UDP,
            Protocol::Sctp => IPPROTO_SCTP,
        },
        scope: match scope {
            Scope::External => SCOPE_EXTERNAL,
            Scope::Internal => SCOPE_INTERNAL,
        },
    }
}

fn flags(spec: &FrontEndSpec) -> u32 {
    let flags = [
        (spec.without == WithoutEndpoint::Drop, FRONTEND_DROP),
        (spec.masquerade, FRONTEND_MASQUERADE),
        (!spec.source_ranges.is_empty(), FRONTEND_SOURCE_RANGES),
        (spec.echo, FRONTEND_ECHO),
    ];
    flags.into_iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag)
}

/// The key of a source range in the maps, with its length.
#[must_use]
pub fn source_range(service: u32, range: &IpNet) -> (u8, SourceRange) {
    // The Service's 32 bits, and of a mapped address the 96 before the IPv4 one.
    let before = if matches!(range, IpNet::V4(_)) { 32 + 96 } else { 32 };
    let address = mapped(range.network());
    (before + range.prefix_len(), SourceRange { service: service.to_be_bytes(), address })
}
