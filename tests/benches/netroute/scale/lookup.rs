//! What a lookup costs when each packet goes elsewhere: in the product's tables and in the
//! kernel's FIB.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::EbpfLoader;
use aya::maps::MapError;
use ipnet::Ipv4Net;
use netroute_common::abi;
use netroute_common::verdict::Hook;
use netroute_user::apply::{KernelStore, StoreError, apply};
use netroute_user::compile::image::Image;
use netroute_user::plan::diff;

use super::Size;
use crate::fib::{self, Router};
use crate::packet;
use crate::probe::{self, Flows, Kind, Probe};
use crate::sample::{Outcome, Row, Unit, median, quick};
use crate::stage::{Stage, Way, blocks};
use crate::tables;

const ROUNDS: usize = 21;
/// Long enough for caches to hold what they can hold of a table.
const SAMPLE: Duration = Duration::from_millis(10);
/// Their ways through a large table are many times what the caches hold.
const FLOWS: usize = 1 << 18;

pub(super) fn measure(object: &Path, size: Size, prefixes: &[Ipv4Net]) -> Result<Vec<Row>> {
    let Size { routes, name } = size;
    let flows = if routes < 100_000 { 1 << 14 } else { FLOWS };
    let flows = Flows::V4(tables::destinations4(prefixes, flows));
    let stage = Stage::build()?;
    let before = |program: &'static str, action| -> Result<Probe> {
        let own = probe::load(&mut probe::small(), object, &[program])?;
        let fd = own.program(program).context("no program")?.fd()?;
        Probe::restored(object, fd, Kind::Xdp, &flows, action)
    };
    let floor = before("lookup_floor", probe::XDP_TX)?;
    let restore = before("floor_return", probe::XDP_PASS)?;
    let route = table(object, &stage, prefixes, &flows)?;
    let bed = stage.bed(prefixes, &[], Way::Out)?;
    let fd = bed.program_fd(Hook::XdpNic)?;
    let forward = Probe::restored(object, fd, Kind::Xdp, &flows, probe::XDP_REDIRECT)?;
    let router = Router::build(prefixes)?;
    let fib = fib::probe(object, &router, "lookup_fib4", &flows)?;
    let fib_forward = fib::probe(object, &router, "fib_forward", &flows)?;
    let bare = probe::load(&mut probe::small(), object, &["floor_return"])?;
    let frame = packet::frame4(tables::NOWHERE4)?;
    let bare = Probe::own(bare, "floor_return", Kind::Xdp, frame, probe::XDP_PASS)?;
    let named = [
        ("lookup.floor", "destination read, no lookup", floor),
        ("lookup.route4", "lookup in the IPv4 tables", route),
        ("lookup.fib4", "lookup in the kernel's FIB", fib),
        ("random.return", "XDP, returns at once", bare),
        ("random.restore", "making a packet new + return at once", restore),
        ("random.route4", "XDP to another NIC", forward),
        ("random.fib4", "XDP by bpf_fib_lookup", fib_forward),
    ];
    let (names, probes): (Vec<_>, Vec<_>) =
        named.into_iter().map(|(id, what, probe)| ((id, what), probe)).unzip();
    let samples = probe::interleaved(&probes, if quick() { 3 } else { ROUNDS }, SAMPLE)?;
    // The lookups have a floor of their own, which makes packets new as they do.
    let restore = median(&samples[4]) - median(&samples[3]);
    let row = |((id, what), samples): ((&str, &str), Vec<f64>)| {
        let cost = if matches!(id, "random.route4" | "random.fib4") { restore } else { 0.0 };
        Row {
            id: format!("{id}.{name}"),
            title: format!("IPv4, {name} routes, random destinations, {what}"),
            unit: Unit::NanosecondsPerPacket,
            outcome: Outcome::Measured(samples.into_iter().map(|sample| sample - cost).collect()),
        }
    };
    Ok(names.into_iter().zip(samples).map(row).collect())
}

/// The lookup alone, over the product's maps, filled by the agent's own code.
fn table(path: &Path, stage: &Stage, prefixes: &[Ipv4Net], flows: &Flows) -> Result<Probe> {
    const PROGRAM: &str = "lookup_route4";
    let mut loader = EbpfLoader::new();
    let capacity = u32::try_from(prefixes.len())?.max(64);
    for (map, entries) in [
        (abi::MAP_ROUTES4, capacity),
        (abi::MAP_BLOCKS4, blocks(prefixes.len())),
        (abi::MAP_ROUTES6, 64),
        (abi::MAP_GROUPS, 64),
        (abi::MAP_NEXTHOPS, 64),
        (abi::MAP_NEXTHOP_STATS, 64),
        (abi::MAP_ROUTE_STATS, 1024),
    ] {
        loader.map_max_entries(map, entries);
    }
    let mut object = probe::load(&mut loader, path, &[PROGRAM])?;
    let mut store = KernelStore::from_maps(|map| {
        let source = || Box::new(MapError::InvalidName { name: map.to_owned() });
        object.take_map(map).ok_or_else(|| StoreError::Map { map, operation: "find", source: source() })
    })?;
    apply(&diff(&Image::default(), &stage.image(prefixes, &[], Way::Out)), &mut store)?;
    let program = object.program(PROGRAM).context("no program")?;
    Probe::restored(path, program.fd()?, Kind::Xdp, flows, probe::XDP_TX)
}
