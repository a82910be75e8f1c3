//! Running a program on a packet in memory (`BPF_PROG_TEST_RUN`): for vectors, differential tests
//! and benchmarks. The programs use maps of their own that nobody else sees.

use std::time::Duration;

use aya::maps::{Map, MapData, MapError};
use aya::programs::{ProgramFd, SchedClassifier, Xdp};
use aya::{Ebpf, TestRun as _, TestRunOptions};
use netroute_common::abi;
use netroute_common::layout::config::Nic;
use netroute_common::verdict::Hook;

use super::error::LoadError;
use super::program::Source;
use super::{definition, memory};
use crate::apply::flows::{Entry, FlowTables};
use crate::apply::{KernelStore, StoreError, maps};
use crate::compile::image::Limits;
use crate::observe::counters::Counters;

/// All three programs, loaded and attached to nothing.
pub struct TestBed {
    object: Ebpf,
    pub store: KernelStore,
    pub counters: Counters,
    pub flows: FlowTables,
}

/// What one run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The program's return value (`XDP_*`, `TC_ACT_*`).
    pub action: u32,
    /// The frame as the program left it.
    pub packet: Vec<u8>,
    /// Per run, on average over the repetitions.
    pub duration: Duration,
}

/// What a TC program sees beside the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkbContext {
    /// Interface the packet came in on; it must exist in the current network namespace. 0 = `lo`.
    pub ifindex: u32,
    /// Payload bytes of one segment; 0 if the packet is not GSO.
    pub gso_size: u32,
    pub gso_segments: u32,
}

/// Could not set up or run.
#[derive(Debug, thiserror::Error)]
pub enum TestRunError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the kernel refused the test run of `{program}`")]
    Run { program: &'static str, source: aya::programs::ProgramError },
}

/// `struct __sk_buff` up to and with `hwtstamp` (`linux/bpf.h`, Linux 5.16); zero at the end is
/// accepted by kernels that know less of it.
const SKB_CONTEXT_LEN: usize = 192;
const IFINDEX_AT: usize = 40;
const GSO_SEGS_AT: usize = 164;
const GSO_SIZE_AT: usize = 176;
/// Room for what a program may put in front of the frame.
const HEADROOM: usize = 256;

impl TestBed {
    /// Loads the programs of `object`, with the constants of `nic`.
    pub fn load(object: &'static [u8], limits: Limits, nic: &Nic) -> Result<Self, TestRunError> {
        let object = Source { object, limits, filters: false }.private(nic)?;
        let open = |name: &'static str| {
            Map::from_map_data(reopened(&object, name)?).map_err(|source| failed(name, source))
        };
        let store = KernelStore::from_maps(open)?;
        let counters = Counters::from_maps(open)?;
        let flows = FlowTables::from_maps(open)?;
        Ok(Self { object, store, counters, flows })
    }

    /// One direction of a flow, as if packets had made it.
    pub fn enter_flow(&mut self, entry: &Entry) -> Result<(), StoreError> {
        self.flows.insert(entry)
    }

    /// Runs the XDP program.
    pub fn xdp(&self, packet: &[u8], repeat: u32) -> Result<Outcome, TestRunError> {
        let program: &Xdp = self.program(abi::PROGRAM_XDP_NIC)?;
        run(abi::PROGRAM_XDP_NIC, packet, repeat, None, |options| program.test_run(options))
    }

    /// Runs one of the TC programs.
    pub fn tc(
        &self,
        hook: Hook,
        packet: &[u8],
        context: SkbContext,
        repeat: u32,
    ) -> Result<Outcome, TestRunError> {
        let name = abi::program(hook);
        let program: &SchedClassifier = self.program(name)?;
        let context = context.bytes();
        run(name, packet, repeat, Some(&context), |options| program.test_run(options))
    }

    /// The program of a hook, for another program to call.
    pub fn program_fd(&self, hook: Hook) -> Result<&ProgramFd, LoadError> {
        let name = abi::program(hook);
        let program = self.object.program(name).ok_or(LoadError::Missing { what: "program", name })?;
        program.fd().map_err(|source| LoadError::Program { name, source: source.into() })
    }

    /// Bytes of kernel memory that the maps take now, all together.
    pub fn memory(&self) -> Result<u64, TestRunError> {
        let mut sum = 0;
        for name in definition::names() {
            sum += memory::bytes(&reopened(&self.object, name)?)?;
        }
        Ok(sum)
    }

    fn program<'a, P>(&'a self, name: &'static str) -> Result<&'a P, LoadError>
    where
        &'a P: TryFrom<&'a aya::programs::Program, Error = aya::programs::ProgramError>,
    {
        let program = self.object.program(name).ok_or(LoadError::Missing { what: "program", name })?;
        program
            .try_into()
            .map_err(|source: aya::programs::ProgramError| LoadError::Program { name, source: source.into() })
    }
}

/// A map of the object once more, for another owner.
fn reopened(object: &Ebpf, name: &'static str) -> Result<MapData, StoreError> {
    let map = object.map(name).ok_or(MapError::ElementNotFound);
    let id = map.and_then(maps::info).map(|info| info.id());
    id.and_then(MapData::from_id).map_err(|source| failed(name, source))
}

fn failed(map: &'static str, source: MapError) -> StoreError {
    StoreError::Map { map, operation: "open", source: source.into() }
}

impl SkbContext {
    fn bytes(self) -> [u8; SKB_CONTEXT_LEN] {
        let mut bytes = [0; SKB_CONTEXT_LEN];
        for (at, value) in
            [(IFINDEX_AT, self.ifindex), (GSO_SEGS_AT, self.gso_segments), (GSO_SIZE_AT, self.gso_size)]
        {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        bytes
    }
}

fn run(
    program: &'static str,
    packet: &[u8],
    repeat: u32,
    context: Option<&[u8]>,
    test_run: impl FnOnce(TestRunOptions<'_>) -> Result<aya::TestRunResult, aya::programs::ProgramError>,
) -> Result<Outcome, TestRunError> {
    let mut out = vec![0; packet.len() + HEADROOM];
    let mut options = TestRunOptions::new();
    options.data_in = Some(packet);
    options.data_out = Some(&mut out);
    options.ctx_in = context;
    options.repeat = repeat;
    let result = test_run(options).map_err(|source| TestRunError::Run { program, source })?;
    out.truncate(usize::try_from(result.data_size_out).unwrap_or(usize::MAX));
    Ok(Outcome { action: result.return_value, packet: out, duration: result.duration })
}
