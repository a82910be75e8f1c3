//! One program on one packet, repeated by the kernel (`BPF_PROG_TEST_RUN`).

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, ProgramArray};
use aya::programs::{ProgramFd, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use netroute_common::abi;
use netroute_common::verdict::Hook;
use netroute_user::load::testrun::{SkbContext, TestBed};
use nix::sched::{CloneFlags, setns};

use crate::packet;

pub const XDP_PASS: u32 = 2;
pub const XDP_TX: u32 = 3;
pub const XDP_REDIRECT: u32 = 4;
pub const TC_ACT_SHOT: u32 = 2;
pub const TC_ACT_UNSPEC: u32 = u32::MAX;
pub const TC_ACT_REDIRECT: u32 = 7;

/// `struct __sk_buff`, as far as this kernel may know it.
const SKB_CONTEXT_LEN: usize = 192;
const SKB_IFINDEX_AT: usize = 40;

/// What the packets of a probe are.
#[derive(Clone)]
pub enum Flows {
    V4(Vec<Ipv4Addr>),
    V6(Vec<Ipv6Addr>),
}

/// Which type of program it is, and the interface that its packets come in on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Xdp,
    Tc { ifindex: u32 },
}

/// What a repetition runs.
enum Target {
    /// A program of the benchmark's own object.
    Own { object: Ebpf, name: &'static str },
    /// A program of the product, without restoring: it must leave the packet as it is.
    Product { bed: Rc<TestBed>, hook: Hook },
}

pub struct Probe {
    target: Target,
    /// The network namespace in which it was made: the kernel takes interfaces and routes from the
    /// one of the caller.
    namespace: File,
    kind: Kind,
    frame: Vec<u8>,
    expected: u32,
}

/// What one sample came to.
pub struct Sample {
    /// Nanoseconds per packet.
    pub time: f64,
    /// The packet after the last repetition.
    pub frame: Vec<u8>,
}

impl Probe {
    /// A program of the benchmark's object as it is.
    pub fn own(object: Ebpf, name: &'static str, kind: Kind, frame: Vec<u8>, expected: u32) -> Result<Self> {
        Self::new(Target::Own { object, name }, kind, frame, expected)
    }

    /// A program of the product that passes the packet on unchanged.
    pub fn product(bed: &Rc<TestBed>, hook: Hook, kind: Kind, frame: Vec<u8>, expected: u32) -> Result<Self> {
        Self::new(Target::Product { bed: bed.clone(), hook }, kind, frame, expected)
    }

    fn new(target: Target, kind: Kind, frame: Vec<u8>, expected: u32) -> Result<Self> {
        let namespace = File::open("/proc/thread-self/ns/net")?;
        Ok(Self { target, namespace, kind, frame, expected })
    }

    /// Any program behind one that makes each packet new.
    pub fn restored(
        path: &Path,
        program: &ProgramFd,
        kind: Kind,
        flows: &Flows,
        expected: u32,
    ) -> Result<Self> {
        let (name, frame, count) = match (flows, kind) {
            (Flows::V4(all), Kind::Xdp) => ("restore4_xdp", packet::frame4(all[0])?, all.len()),
            (Flows::V4(all), Kind::Tc { .. }) => ("restore4_tc", packet::frame4(all[0])?, all.len()),
            (Flows::V6(all), Kind::Xdp) => ("restore6_xdp", packet::frame6(all[0])?, all.len()),
            (Flows::V6(all), Kind::Tc { .. }) => ("restore6_tc", packet::frame6(all[0])?, all.len()),
        };
        ensure!(count.is_power_of_two(), "{count} flows are no power of two");
        let count = u32::try_from(count)?;
        let mac: [u16; 3] = std::array::from_fn(|word| {
            u16::from_ne_bytes([packet::NIC_MAC[2 * word], packet::NIC_MAC[2 * word + 1]])
        });
        let mask = count - 1;
        let mut loader = small();
        loader.override_global("FLOW_MASK", &mask, true).override_global("FLOW_MAC", &mac, true);
        let map = if matches!(flows, Flows::V4(_)) { "DESTINATIONS4" } else { "DESTINATIONS6" };
        loader.map_max_entries(map, count);
        let mut object = load(&mut loader, path, &[name])?;
        let table = object.map_mut(map).context("no table of flows")?;
        match flows {
            Flows::V4(all) => {
                let mut table: Array<_, [u16; 4]> = table.try_into()?;
                for (index, destination) in (0..).zip(all) {
                    table.set(index, packet::flow4(*destination)?, 0)?;
                }
            }
            Flows::V6(all) => {
                let mut table: Array<_, [u16; 8]> = table.try_into()?;
                for (index, destination) in (0..).zip(all) {
                    table.set(index, packet::flow6(*destination), 0)?;
                }
            }
        }
        let mut next: ProgramArray<_> = object.map_mut("NEXT").context("no map NEXT")?.try_into()?;
        next.set(0, program, 0)?;
        Self::own(object, name, kind, frame, expected)
    }

    /// Runs the program that often.
    pub fn run(&self, repeat: u32) -> Result<Sample> {
        setns(&self.namespace, CloneFlags::CLONE_NEWNET)?;
        let (action, kernel, frame) = match &self.target {
            Target::Own { object, name } => self.run_own(object, name, repeat)?,
            Target::Product { bed, hook } => {
                let outcome = match self.kind {
                    Kind::Xdp => bed.xdp(&self.frame, repeat)?,
                    Kind::Tc { ifindex } => {
                        let context = SkbContext { ifindex, ..SkbContext::default() };
                        bed.tc(*hook, &self.frame, context, repeat)?
                    }
                };
                (outcome.action, outcome.duration, outcome.packet)
            }
        };
        ensure!(action == self.expected, "returned {action}, expected {}", self.expected);
        // Whole nanoseconds per repetition, rounded down; without the time the kernel gave to others.
        Ok(Sample { time: kernel.as_secs_f64() * 1e9 + 0.5, frame })
    }

    fn run_own(&self, object: &Ebpf, name: &str, repeat: u32) -> Result<(u32, Duration, Vec<u8>)> {
        let mut out = vec![0; self.frame.len() + 256];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&self.frame);
        options.data_out = Some(&mut out);
        options.repeat = repeat;
        let program = object.program(name).with_context(|| format!("no program {name}"))?;
        let mut context = [0; SKB_CONTEXT_LEN];
        let result = match self.kind {
            Kind::Xdp => <&Xdp>::try_from(program)?.test_run(options)?,
            Kind::Tc { ifindex } => {
                context[SKB_IFINDEX_AT..SKB_IFINDEX_AT + 4].copy_from_slice(&ifindex.to_ne_bytes());
                options.ctx_in = Some(&context);
                <&SchedClassifier>::try_from(program)?.test_run(options)?
            }
        };
        out.truncate(usize::try_from(result.data_size_out)?);
        Ok((result.return_value, result.duration, out))
    }
}

/// The maps of the product, which the object carries for the sake of one program, as small as may be.
pub fn small<'a>() -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    for map in [
        abi::MAP_ROUTES4,
        abi::MAP_ROOT4,
        abi::MAP_BLOCKS4,
        abi::MAP_ROUTES6,
        abi::MAP_GROUPS,
        abi::MAP_NEXTHOPS,
        abi::MAP_NEXTHOP_STATS,
        abi::MAP_ROUTE_STATS,
        abi::MAP_FRONTENDS,
        abi::MAP_SLOTS,
        abi::MAP_BACKENDS,
        abi::MAP_SERVICE_STATS,
        abi::MAP_AFFINITY,
        abi::MAP_FLOWS4,
        abi::MAP_FLOWS6,
        abi::MAP_OPENING4,
        abi::MAP_OPENING6,
    ] {
        loader.map_max_entries(map, 1);
    }
    loader
}

/// The benchmark's object with these programs in the kernel.
pub fn load(loader: &mut EbpfLoader<'_>, path: &Path, programs: &[&'static str]) -> Result<Ebpf> {
    let mut object = loader.load_file(path).with_context(|| format!("cannot load {}", path.display()))?;
    for name in programs {
        let program = object.program_mut(name).with_context(|| format!("no program {name}"))?;
        let failed = || format!("the kernel refused {name}");
        match program {
            aya::programs::Program::Xdp(program) => program.load().with_context(failed)?,
            aya::programs::Program::SchedClassifier(program) => program.load().with_context(failed)?,
            _ => anyhow::bail!("{name} is of another type"),
        }
    }
    Ok(object)
}

/// Samples of all probes in turns (A B C A B C ...), so that what disturbs a while disturbs all of
/// them. One list per probe, in its order.
pub fn interleaved(probes: &[Probe], rounds: usize, time: Duration) -> Result<Vec<Vec<f64>>> {
    let mut repeats = Vec::new();
    for probe in probes {
        let warm = probe.run(1000)?.time.max(1.0);
        repeats.push(((time.as_secs_f64() * 1e9 / warm) as u32).clamp(1000, 1_000_000));
    }
    let mut samples = vec![Vec::with_capacity(rounds); probes.len()];
    for _ in 0..rounds {
        for ((probe, repeat), samples) in probes.iter().zip(&repeats).zip(&mut samples) {
            samples.push(probe.run(*repeat)?.time);
        }
    }
    Ok(samples)
}
