//! Generator -> router -> sink, all packets real ones: what a packet costs until it has arrived.
//!
//! ```text
//!  generator gN ── eth0 10.1.0.1 [router N] 10.2.0.1 eth1 ── sN sink
//! ```
//! Every path has a router of its own, and all of them are measured in turn. One processor does all
//! of the work, so that the time per packet is the sum of what each station takes.

mod lane;
mod measure;
mod router;

use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use netroute_tests::namespace::enter;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::generator::{Flows, Generator};
use crate::sample::{Row, Section};
use crate::tables;
use lane::Scene;
use measure::{Path as OnePath, measure};
use router::Kind;

pub const SECTION: Section = Section { name: "path", run };

/// Established flows at a time.
const FLOWS: Flows = Flows::Established(4096);
/// Addresses that packets of a path with that many flows go to.
const DESTINATIONS: usize = 4096;
const FEW_ROUTES: usize = 10;

fn run(object: &Path) -> Result<Vec<Row>> {
    // Interfaces, programs and pins go with the thread, however it ends.
    thread::scope(|scope| {
        let measuring = scope.spawn(|| {
            own_surroundings()?;
            measure_all(object)
        });
        measuring.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn measure_all(object: &Path) -> Result<Vec<Row>> {
    let mut scene = Scene::new(Generator::load(object)?, object)?;
    let prefixes = tables::prefixes4(FEW_ROUTES);
    let to = tables::destinations4(&prefixes, DESTINATIONS);
    let traffic = scene.generator.traffic(&to, FLOWS)?;
    let mut paths = Vec::new();
    let mut failed = Vec::new();
    for kind in Kind::ALL {
        let (id, title) = kind.names();
        match scene.lane(kind, &prefixes) {
            Ok(lane) => paths.push(OnePath { id: id.into(), title: title.into(), lane, traffic }),
            Err(error) => failed.push(Row::not_measured(id, title, &error)),
        }
    }
    let mut rows = measure(&mut scene, &paths)?;
    rows.extend(failed);
    Ok(rows)
}

/// Moves the calling thread into namespaces of its own, with a BPF file system that nobody else sees.
fn own_surroundings() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace (are you root?)")?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), nothing).context("a BPF file system")?;
    enter()?;
    Ok(())
}

const BPFFS: &str = "/sys/fs/bpf";
