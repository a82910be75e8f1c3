//! The far end of the whole path: counts what arrives, and drops it.

use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{MapData, PerCpuArray};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};

pub struct Sink {
    object: Ebpf,
    arrived: PerCpuArray<MapData, u64>,
}

impl Sink {
    pub fn load(object: &Path) -> Result<Self> {
        let mut object = loader().load_file(object).context("cannot load the sink")?;
        let program: &mut Xdp = object.program_mut("sink").context("no sink")?.try_into()?;
        program.load()?;
        let arrived = object.take_map("ARRIVED").context("no map ARRIVED")?.try_into()?;
        Ok(Self { object, arrived })
    }

    /// Attaches to an interface of the calling thread's namespace, natively: else its peer could
    /// not be redirected to.
    pub fn attach(&mut self, ifindex: u32) -> Result<()> {
        let program: &mut Xdp = self.object.program_mut("sink").context("no sink")?.try_into()?;
        program.attach_to_if_index(ifindex, XdpMode::Driver).context("cannot attach the sink")?;
        Ok(())
    }

    /// Packets so far, on all interfaces.
    pub fn arrived(&self) -> Result<u64> {
        Ok(self.arrived.get(&0, 0)?.iter().sum())
    }
}

/// For programs of the benchmark's object that are not the generator, without its large map.
pub fn loader<'a>() -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("DESTINATIONS", 1);
    loader
}
