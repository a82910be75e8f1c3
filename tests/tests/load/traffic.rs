//! Programs under a stream of packets that nobody else would forward.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netroute_common::verdict::Reason;
use netroute_tests::namespace::output;
use netroute_user::apply::{MapStore, apply};
use netroute_user::compile::image::Limits;
use netroute_user::load::{Attachments, Loader, Mode, NicDevice, detach};
use netroute_user::plan::diff;

use crate::wire::{Folder, Wire, limits, object, switched, tc_mode, tc_programs, tcx_programs};

const TRIES: [&str; 3] = ["ROUTES6", "SOURCE_RANGES", "EGRESS"];

#[test]
fn programs_forward_and_count() -> Result<()> {
    let wire = Wire::new()?;
    let folder = Folder::new();
    let loaded = folder.open(limits())?;
    assert!(!loaded.adopted);
    let mut store = loaded.store()?;
    let counters = loaded.counters()?;
    apply(&diff(&store.read()?, &wire.image), &mut store)?;
    let attachments = switched(loaded, &Wire::nics()?, &[])?;
    let tc = tc_mode()?;
    let modes: Vec<Mode> = attachments.list().map(|attached| attached.mode).collect();
    assert_eq!(modes, [Mode::Native, tc, tc, Mode::Native, tc, tc]);
    let sent = wire.without_loss(|| {
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    })?;
    let forwarded = counters.verdict(wire.hook(), Reason::Forwarded)?;
    assert_eq!(forwarded.packets, sent);
    assert_eq!(counters.route(16)?, forwarded);
    assert_eq!(counters.next_hop(8)?.packets, sent);
    // Empty tries take nothing.
    let memory = attachments.map_memory()?;
    assert!(
        memory.iter().all(|map| map.capacity > 0 && (map.bytes > 0 || TRIES.contains(&map.map.as_str()))),
        "{memory:?}"
    );
    Ok(())
}

#[test]
fn n14_restarts_and_reloads_lose_nothing() -> Result<()> {
    let wire = Wire::new()?;
    let folder = Folder::new();
    drop(wire.agent(&folder, limits())?);
    let sent = wire.without_loss(|| {
        for larger in [0, 0, 512, 512, 0] {
            // Dropping closes every descriptor, as the death of the process does.
            let (adopted, attachments) =
                wire.agent(&folder, Limits { routes4: 1024 + larger, ..limits() })?;
            drop(attachments);
            let _ = adopted;
        }
        Ok(())
    })?;
    ensure!(sent > 100, "the stream was too short to prove anything: {sent}");
    Ok(())
}

/// The control for the test above: a moment without programs is seen.
#[test]
fn a_gap_would_be_noticed() -> Result<()> {
    let wire = Wire::new()?;
    let folder = Folder::new();
    drop(wire.agent(&folder, limits())?);
    let outcome = wire.without_loss(|| {
        detach(&folder.path)?;
        drop(wire.agent(&folder, limits())?);
        Ok(())
    });
    let error = outcome.err().context("the stream did not notice that nobody forwarded it")?.to_string();
    ensure!(error.starts_with("sent"), "{error}");
    Ok(())
}

#[test]
fn filters_serve_where_there_is_no_tcx() -> Result<()> {
    let mut wire = Wire::new()?;
    // XDP leaves this next hop to TC, so that it is the filter that forwards.
    wire.image.next_hops.values_mut().for_each(|next_hop| next_hop.xdp = 0);
    let folder = Folder::new();
    let start = |wanted: &[NicDevice]| -> Result<Attachments> {
        let loaded = Loader::new(object(), &folder.path, limits()).with_filters().open()?;
        let mut store = loaded.store()?;
        apply(&diff(&store.read()?, &wire.image), &mut store)?;
        switched(loaded, wanted, &[])
    };
    let filters = |name: &str| -> Result<usize> {
        Ok(output("tc", &["filter", "show", "dev", name, "ingress"])?.matches("direct-action").count())
    };
    let nics = Wire::nics()?;
    let first = start(&nics)?;
    assert!(first.list().any(|attached| attached.mode == Mode::Clsact));
    let unnamed: Vec<_> = first.programs().into_iter().filter(|running| running.tag.is_none()).collect();
    assert!(unnamed.is_empty(), "the kernel's ids of programs are known: {unnamed:?}");
    assert_eq!((filters("left")?, tcx_programs("left")?), (1, 0));
    drop(first);
    assert_eq!(filters("left")?, 1, "stays without its agent");
    wire.without_loss(|| {
        for _ in 0..3 {
            drop(start(&nics)?);
        }
        Ok(())
    })?;
    assert_eq!(filters("left")?, 1, "replaced in place");
    drop(start(&nics[1..])?);
    assert_eq!((filters("left")?, filters("right")?), (0, 1));
    detach(&folder.path)?;
    assert_eq!(filters("right")?, 0);
    Ok(())
}

#[test]
fn n14_an_upgrade_takes_over_from_another_layout_without_loss() -> Result<()> {
    let wire = Wire::new()?;
    let folder = Folder::new();
    drop(wire.agent(&folder, limits())?);
    // What an agent of another ABI version leaves: the same, under another number.
    std::fs::rename(folder.path.join("v4"), folder.path.join("v0"))?;
    wire.without_loss(|| {
        let (adopted, attachments) = wire.agent(&folder, limits())?;
        ensure!(!adopted, "maps of another layout");
        ensure!(attachments.list().count() == 6);
        Ok(())
    })?;
    assert!(!folder.path.join("v0").exists());
    assert_eq!(tc_programs("left")?, 1, "taken over, not doubled");
    assert_eq!(std::fs::read_dir(folder.path.join("v4/links"))?.count(), 6);
    Ok(())
}
