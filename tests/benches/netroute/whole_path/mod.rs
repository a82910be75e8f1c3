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
mod services;

use std::path::Path;
use std::rc::Rc;
use std::thread;

use anyhow::{Context, Result};
use netroute_tests::namespace::enter;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::baseline::Tool;
use crate::baseline_rules::{self, PODS};
use crate::generator::{Flows, Generator, Traffic};
use crate::sample::{Outcome, Row, Section, Unit, quick};
use crate::tables;
use lane::{Lane, Scene};
use measure::{Path as OnePath, measure};
use router::Kind;

pub const SECTION: Section = Section { name: "path", run: |object| apart(|| routers(object)) };
pub const SERVICES: Section = Section { name: "services", run: |object| apart(|| services(object)) };
pub const TABLES: Section = Section { name: "tables", run: |object| apart(|| route_tables(object)) };

/// Established flows at a time.
const FLOWS: Flows = Flows::Established(4096);
/// Addresses that packets of a path with that many flows go to.
const DESTINATIONS: usize = 4096;
const FEW_ROUTES: usize = 10;
/// More than any cache holds the way to.
const RANDOM_DESTINATIONS: usize = 1 << 18;
const TABLE_SIZES: [usize; 4] = [10, 1_000, 100_000, 1_000_000];
const SERVICES_SIZES: [u32; 4] = [1, 100, 1_000, 5_000];

/// Runs in a thread with surroundings of its own: interfaces, programs, pins and mounts go with it,
/// however it ends.
pub fn apart(measure: impl FnOnce() -> Result<Vec<Row>> + Send) -> Result<Vec<Row>> {
    thread::scope(|scope| {
        let measuring = scope.spawn(|| {
            own_surroundings()?;
            measure()
        });
        measuring.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn routers(object: &Path) -> Result<Vec<Row>> {
    let mut scene = Scene::new(Generator::load(object)?, object)?;
    let prefixes = tables::prefixes4(FEW_ROUTES);
    let to = tables::destinations4(&prefixes, DESTINATIONS);
    let traffic = scene.generator.traffic(&to, FLOWS)?;
    let mut paths = Paths::default();
    for (kind, id, title) in Kind::ROUTERS {
        let lane = scene.lane(kind, &prefixes);
        paths.add(lane.map(Rc::new), id.into(), title.into(), &[("", traffic, false)]);
    }
    paths.measure(&mut scene)
}

/// As many routes as there are, random destinations.
fn route_tables(object: &Path) -> Result<Vec<Row>> {
    let mut scene = Scene::new(Generator::load(object)?, object)?;
    let mut paths = Paths::default();
    for routes in TABLE_SIZES.into_iter().filter(|routes| !quick() || *routes <= 1_000) {
        let prefixes = tables::prefixes4(routes);
        let to = tables::destinations4(&prefixes, RANDOM_DESTINATIONS);
        let traffic = scene.generator.traffic(&to, Flows::New)?;
        for (kind, name, title) in
            [(Kind::Xdp, "xdp", "netroute, XDP"), (Kind::Kernel, "kernel", "the kernel")]
        {
            let lane = scene.lane(kind, &prefixes);
            let title = format!("{title}: {routes} routes, random destinations");
            paths.add(lane.map(Rc::new), format!("path.{name}.{routes}"), title, &[("", traffic, false)]);
        }
    }
    paths.measure(&mut scene)
}

/// kube-proxy's ways to a Service.
fn services(object: &Path) -> Result<Vec<Row>> {
    let mut scene = Scene::new(Generator::load(object)?, object)?;
    let pods = [PODS.parse()?];
    let mut paths = Paths::default();
    for services in SERVICES_SIZES.into_iter().filter(|services| !quick() || *services <= 100) {
        let mut rng = fastrand::Rng::with_seed(services.into());
        let to: Vec<_> = (0..DESTINATIONS).map(|_| baseline_rules::service(rng.u32(..services))).collect();
        let established = scene.generator.traffic(&to, FLOWS)?;
        let new = scene.generator.traffic(&to, Flows::New)?;
        let traffic = [(".established", established, false), (".new", new, true)];
        for tool in Tool::ALL {
            let lane = scene.lane(Kind::Services(tool, services), &pods);
            let (id, title) = (tool.name(), format!("{}, {services} Services", tool.name()));
            paths.add(lane.map(Rc::new), format!("service.{id}.{services}"), title, &traffic);
        }
        let lane = scene.lane(Kind::Netroute(services), &pods);
        let (id, title) = (format!("service.netroute.{services}"), format!("netroute, {services} Services"));
        paths.add(lane.map(Rc::new), id, title, &untracked(traffic));
    }
    paths.measure(&mut scene)
}

/// The product's own flows stay: the oldest without an answer make room.
fn untracked(traffic: [(&str, Traffic, bool); 2]) -> [(&str, Traffic, bool); 2] {
    traffic.map(|(what, traffic, _)| (what, traffic, false))
}

#[derive(Default)]
struct Paths {
    ready: Vec<OnePath>,
    failed: Vec<Row>,
}

impl Paths {
    /// One row for each traffic on the lane: what its id ends with, and whether it is tracked.
    fn add(&mut self, lane: Result<Rc<Lane>>, id: String, title: String, all: &[(&str, Traffic, bool)]) {
        for &(what, traffic, tracked) in all {
            let id = format!("{id}{what}");
            let title = format!("{title}{}", what.replace('.', ", "));
            match &lane {
                Ok(lane) => self.ready.push(OnePath { id, title, lane: lane.clone(), traffic, tracked }),
                Err(error) => self.failed.push(not_measured(id, title, error)),
            }
        }
    }

    fn measure(self, scene: &mut Scene) -> Result<Vec<Row>> {
        let Self { ready, failed } = self;
        let mut rows = measure(scene, &ready)?;
        rows.extend(failed);
        Ok(rows)
    }
}

fn not_measured(id: String, title: String, error: &anyhow::Error) -> Row {
    Row { id, title, unit: Unit::NanosecondsPerPacket, outcome: Outcome::NotMeasured(format!("{error:#}")) }
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
