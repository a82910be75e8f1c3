//! The way from nothing, or from what an earlier agent left, to running programs over full maps.
//!
//! Three steps that cannot be taken out of order: [`Loader::open`] gives maps (adopted or fresh),
//! the caller makes their content right, [`Loaded::switch_programs`] lets the programs run over
//! them. A packet therefore never meets a half-filled table, whatever was there before.

use std::path::{Path, PathBuf};

use aya::Ebpf;

use super::attachments::{Attachments, NicDevice, PodDevice};
use super::carry::Carry;
use super::definition::Found;
use super::error::{AttachError, LoadError};
use super::lock::Lock;
use super::pins::Pins;
use super::program::Source;
use super::sockets::SocketsError;
use super::{definition, preflight};
use crate::apply::flows::FlowTables;
use crate::apply::{KernelStore, StoreError};
use crate::compile::image::Limits;
use crate::config::SocketGroup;
use crate::explain::LiveMaps;
use crate::observe::counters::Counters;

/// What to load, and where to.
pub struct Loader {
    pins: Pins,
    source: Source,
}

impl Loader {
    /// `object` is the compiled BPF object, `bpffs` the agent's folder on the BPF file system.
    pub fn new(object: &'static [u8], bpffs: &Path, limits: Limits) -> Self {
        Self { pins: Pins::new(bpffs), source: Source { object, limits, filters: false } }
    }

    /// Attaches to TC by clsact filters, as on kernels before Linux 6.6, even where TCX links are
    /// to be had: for nodes whose other TC programs are filters too and must keep their order.
    #[must_use]
    pub fn with_filters(mut self) -> Self {
        self.source.filters = true;
        self
    }

    /// Takes the folder, and adopts the pinned maps if they are what object and limits ask for; else
    /// makes a set beside them, while traffic goes on over the old one. The set shares with the old one
    /// what needs no other capacity, and begins with the old content in the rest; after a change of
    /// layout it is empty.
    ///
    /// # Errors
    /// Before anything is created: no rights, no BTF, no BPF file system, another agent.
    pub fn open(self) -> Result<Loaded, LoadError> {
        let Self { pins, source } = self;
        preflight::check(pins.root())?;
        let wanted = definition::wanted(source.object, &source.limits)?;
        let lock = Lock::acquire(pins.root())?;
        pins.prepare()?;
        let (maps, carry) = match definition::found(&pins.maps(), &wanted)? {
            Found::Maps { resized } if resized.is_empty() => (pins.maps(), None),
            Found::Maps { resized } => {
                pins.make_fresh_maps()?;
                let carry = Carry::new(pins.maps(), pins.fresh_maps(), definition::anew(&resized));
                (pins.fresh_maps(), Some(carry))
            }
            Found::Others => {
                pins.make_fresh_maps()?;
                (pins.fresh_maps(), None)
            }
        };
        let adopted = maps == pins.maps();
        let classifiers = fill(&source, &maps, carry.as_ref()).inspect_err(|_| pins.drop_fresh_maps())?;
        Ok(Loaded { adopted, pins, source, maps, carry, classifiers, lock, sockets: None })
    }
}

/// Makes the maps that lack, and fills them from those in use.
fn fill(source: &Source, maps: &Path, carry: Option<&Carry>) -> Result<Ebpf, LoadError> {
    carry.map_or(Ok(()), Carry::share)?;
    let classifiers = source.classifiers(maps)?;
    carry.map_or(Ok(()), Carry::fill)?;
    Ok(classifiers)
}

/// Maps that are there, and programs that do not run over them yet.
pub struct Loaded {
    /// All maps are those of an earlier agent, with their content and counters.
    pub adopted: bool,
    pins: Pins,
    source: Source,
    maps: PathBuf,
    /// From the set in use, if that is another one.
    carry: Option<Carry>,
    classifiers: Ebpf,
    lock: Lock,
    sockets: Option<SocketGroup>,
}

/// What [`Loaded::switch_programs`] came to.
pub struct Switched {
    pub attachments: Attachments,
    /// Interfaces that could not be served, each with its reason.
    pub refused: Vec<AttachError>,
    /// Why sockets are not, though they should be.
    pub sockets_refused: Option<SocketsError>,
}

impl Loaded {
    /// Serves the sockets of these processes too.
    #[must_use]
    pub fn with_sockets(mut self, group: Option<SocketGroup>) -> Self {
        self.sockets = group;
        self
    }

    /// The maps, to read and to write.
    pub fn store(&self) -> Result<KernelStore, StoreError> {
        KernelStore::open(&self.maps)
    }

    /// The counters, to read.
    pub fn counters(&self) -> Result<Counters, StoreError> {
        Counters::open(&self.maps)
    }

    /// The maps that packets are judged by, to read entry by entry.
    pub fn live_maps(&self) -> Result<LiveMaps, StoreError> {
        LiveMaps::open(&self.maps)
    }

    /// The flow tables, to read and to clear of what is over.
    pub fn flows(&self) -> Result<FlowTables, StoreError> {
        FlowTables::open(&self.maps)
    }

    /// Runs the programs on exactly these interfaces: replaces what an earlier agent left there,
    /// attaches where nothing was, and takes our programs off all others. Call it when the maps
    /// hold what they should.
    ///
    /// # Errors
    /// Only what concerns all interfaces; trouble with one is in [`Switched::refused`].
    pub fn switch_programs(self, nics: &[NicDevice], pods: &[PodDevice]) -> Result<Switched, LoadError> {
        let Self { adopted: _, pins, source, maps, carry, classifiers, lock, sockets } = self;
        let mut attachments = Attachments::new(pins, source, maps, classifiers, lock);
        // Verifying takes long. What is switched before the others are ready would run over other maps than they.
        let programs: Vec<_> = nics.iter().map(|nic| attachments.load_nic(nic)).collect();
        if let Some(carry) = &carry {
            carry.refresh();
        }
        let mut refused = Vec::new();
        for (nic, program) in nics.iter().zip(programs) {
            refused.extend(attachments.switch_nic(nic, |_| program).err());
        }
        for pod in pods {
            refused.extend(attachments.attach_pod(pod).err());
        }
        let sockets_refused = attachments.serve_sockets(sockets.as_ref()).err();
        attachments.detach_others()?;
        if let Some(carry) = &carry {
            carry.complete();
        }
        attachments.promote()?;
        Ok(Switched { attachments, refused, sockets_refused })
    }
}
