//! Maps of other capacities: what stays is the same map, what does not gets its entries from the old one.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use aya::maps::{HashMap, Map, MapData, MapInfo};
use netroute_common::abi;
use netroute_common::layout::flow::{Flow, FlowKey4, STATE_CLOSING, STATE_ESTABLISHED};
use netroute_common::layout::service::{Address, Affinity, AffinityKey, Backend};
use netroute_tests::namespace::enter;
use netroute_user::apply::{MapStore, apply};
use netroute_user::compile::image::{Image, Limits};
use netroute_user::plan::diff;

use super::wire::{Folder, limits, switched};

fn pinned(folder: &Folder, set: &str, map: &str) -> PathBuf {
    folder.path.join(abi::PIN_FOLDER).join(set).join(map)
}

fn id(path: &Path) -> Result<u32> {
    Ok(MapInfo::from_pin(path)?.id())
}

fn table<K: aya::Pod, V: aya::Pod>(path: &Path) -> Result<HashMap<MapData, K, V>> {
    Ok(HashMap::try_from(Map::from_map_data(MapData::from_pin(path)?)?)?)
}

fn key(number: u16) -> FlowKey4 {
    FlowKey4 { source_port: number, protocol: 6, ..FlowKey4::default() }
}

fn flow(state: u8, seen: u64) -> Flow {
    Flow { state, seen, touched: seen, protocol: 6, ..Flow::default() }
}

/// The entries of both directions: the client's packets are rewritten to go to port 8080, and the last packet was
/// an answer.
fn pair(number: u16, state: u8, touched: u64) -> [(FlowKey4, Flow); 2] {
    let answers = FlowKey4 { source_port: 8080, destination_port: number, ..key(0) };
    [
        (key(number), Flow { source_port: number, destination_port: 8080, ..flow(state, touched) }),
        (answers, Flow { destination_port: number, seen: touched + 1000, ..flow(state, touched) }),
    ]
}

/// An agent that fills its maps and goes.
fn run(folder: &Folder, limits: Limits, image: &Image) -> Result<()> {
    let loaded = folder.open(limits)?;
    let mut store = loaded.store()?;
    apply(&diff(&store.read()?, image), &mut store)?;
    drop(switched(loaded, &[], &[])?);
    Ok(())
}

#[test]
fn s18_only_maps_of_another_capacity_are_made_anew() -> Result<()> {
    enter()?;
    let folder = Folder::new();
    let mut image = Image::default();
    let address = Address::v4([10, 244, 1, 5]);
    image.services.backends.insert(3, Backend { address, port: 80, generation: 7, flags: 0 });
    run(&folder, limits(), &image)?;
    let map = |name: &str| pinned(&folder, "maps", name);
    table::<FlowKey4, Flow>(&map(abi::MAP_FLOWS4))?.insert(key(1), flow(STATE_ESTABLISHED, 1), 0)?;
    let ids = |names: &[&str]| names.iter().map(|name| id(&map(name))).collect::<Result<Vec<_>>>();
    let others = [abi::MAP_FLOWS4, abi::MAP_SOCKETS, abi::MAP_BACKENDS, abi::MAP_VERDICTS];
    let (before, routes) = (ids(&others)?, id(&map(abi::MAP_ROUTES4))?);
    run(&folder, Limits { routes4: 2048, ..limits() }, &image)?;
    ensure!(ids(&others)? == before, "made anew without need");
    ensure!(id(&map(abi::MAP_ROUTES4))? != routes);

    let loaded = folder.open(Limits { backends: 100, ..limits() })?;
    ensure!(loaded.store()?.read()?.services.backends == image.services.backends, "numbers begin anew");
    ensure!(table::<FlowKey4, Flow>(&pinned(&folder, "maps_new", abi::MAP_FLOWS4))?.get(&key(1), 0).is_ok());
    Ok(())
}

#[test]
fn s18_flows_move_to_a_smaller_table_established_ones_first() -> Result<()> {
    enter()?;
    let folder = Folder::new();
    let image = Image::default();
    run(&folder, limits(), &image)?;
    let old = pinned(&folder, "maps", abi::MAP_FLOWS4);
    let mut flows = table::<FlowKey4, Flow>(&old)?;
    for number in 1..=20 {
        let state = if number % 2 == 0 { STATE_ESTABLISHED } else { STATE_CLOSING };
        for (key, flow) in pair(number, state, number.into()) {
            flows.insert(key, flow, 0)?;
        }
    }
    let client = AffinityKey { service: 5, ..AffinityKey::default() };
    let chosen = Affinity { backend: 3, generation: 7, used: 1 };
    table(&pinned(&folder, "maps", abi::MAP_AFFINITY))?.insert(client, chosen, 0)?;

    let loaded = folder.open(Limits { flows4: 12, affinity: 64, ..limits() })?;
    let new = table::<FlowKey4, Flow>(&pinned(&folder, "maps_new", abi::MAP_FLOWS4))?;
    let of_client =
        |key: FlowKey4| if key.source_port == 8080 { key.destination_port } else { key.source_port };
    let mut kept = new.keys().map(|key| Ok(of_client(key?))).collect::<Result<Vec<u16>>>()?;
    kept.sort_unstable();
    ensure!(kept == [14, 14, 16, 16, 18, 18, 20, 20], "{kept:?}");

    // What comes while the maps are filled is not lost; what was there stays up to date.
    for (key, flow) in pair(21, STATE_ESTABLISHED, 99).into_iter().chain(pair(18, STATE_ESTABLISHED, 99)) {
        flows.insert(key, flow, 0)?;
    }
    drop(switched(loaded, &[], &[])?);
    for (key, flow) in pair(21, STATE_ESTABLISHED, 99).into_iter().chain(pair(18, STATE_ESTABLISHED, 99)) {
        ensure!(new.get(&key, 0)? == flow);
    }
    ensure!(new.keys().count() == 10, "room was made for what came");
    let affinity = table::<AffinityKey, Affinity>(&pinned(&folder, "maps", abi::MAP_AFFINITY))?;
    ensure!(affinity.get(&client, 0)? == chosen);
    Ok(())
}
