//! The BPF programs on packets in memory (`BPF_PROG_TEST_RUN`), over maps that nobody else sees.
//!
//! It fills maps and reads counters by their layout only; it must not know what the programs
//! decide.

mod egress;
mod flows;
mod maps;
mod services;
mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Map, MapData};
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use netroute_common::abi;
use netroute_common::host::Counted;
use netroute_common::layout::config::Nic;
use netroute_common::layout::egress::EgressCounter;
use netroute_common::layout::service::ServiceCounter;
use netroute_common::layout::stats::Counter;
use netroute_common::verdict::Hook;

use crate::vectors::{Action, Bounds, Input, Interface, Judge, NIC_MAC, Outcome, TableSet};
pub use egress::more_of_policies;
pub use flows::FlowSet;
use maps::Maps;
pub use services::more;
use stage::Stage;

/// Why the programs cannot run here at all; not a failure of what is tested.
#[derive(Debug)]
pub struct Unable(pub String);

/// All programs of packets, loaded and attached to nothing.
pub struct KernelBench {
    object: Ebpf,
    maps: Maps,
    /// Of each map by name.
    ids: BTreeMap<String, u32>,
    installed: TableSet,
    _stage: Stage,
}

/// Names an object to load instead of the one that was built.
const OBJECT: &str = "NETROUTE_BPF_OBJECT";
const ETH_LEN: usize = 14;
const IPV6_LEN: usize = 40;
/// By how much an answer may be longer than what it answers: an IPv6 and an ICMP header.
const LONGER: usize = 48;
/// `struct __sk_buff` up to and with `hwtstamp` (`linux/bpf.h`, Linux 5.16).
const SKB_CONTEXT_LEN: usize = 192;
const IFINDEX_AT: usize = 40;
const GSO_SEGS_AT: usize = 164;
const GSO_SIZE_AT: usize = 176;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;
const TC_ACT_UNSPEC: u32 = u32::MAX;
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_REDIRECT: u32 = 7;

impl KernelBench {
    /// Loads the programs, on a stage of its own: the calling thread moves into a new network
    /// namespace, for good. `Ok(Err(_))` if this machine cannot run them.
    pub fn load() -> Result<Result<Self, Unable>> {
        if let Some(reason) = unable() {
            return Ok(Err(Unable(reason)));
        }
        let stage = Stage::build()?;
        let path = object_path();
        if std::env::var_os(OBJECT).is_some() {
            println!("not the object of this build: {OBJECT}={}", path.display());
        }
        let nic = Nic { ifindex: Interface::ALL[0].index, mac: NIC_MAC, zero: 0 };
        let mut loader = EbpfLoader::new();
        for (map, entries) in [
            (abi::MAP_ROUTES4, Bounds::ROUTES),
            (abi::MAP_BLOCKS4, Bounds::BLOCKS),
            (abi::MAP_ROUTES6, Bounds::ROUTES),
            (abi::MAP_GROUPS, Bounds::GROUPS),
            (abi::MAP_NEXTHOPS, Bounds::NEXT_HOPS),
            (abi::MAP_NEXTHOP_STATS, Bounds::NEXT_HOPS),
            (abi::MAP_ROUTE_STATS, Bounds::ROUTE_STATS),
            (abi::MAP_FRONTENDS, Bounds::FRONT_ENDS),
            (abi::MAP_SLOTS, Bounds::SLOTS),
            (abi::MAP_BACKENDS, Bounds::BACKENDS),
            (abi::MAP_SOURCE_RANGES, Bounds::SOURCE_RANGES),
            (abi::MAP_SERVICE_STATS, Bounds::SERVICE_STATS),
            (abi::MAP_SOURCES, Bounds::SOURCES),
            (abi::MAP_EGRESS, Bounds::EGRESS),
            (abi::MAP_EGRESS_RULES, Bounds::EGRESS_RULES),
            (abi::MAP_EGRESS_POLICIES, Bounds::EGRESS_POLICIES),
            (abi::MAP_EGRESS_STATS, Bounds::EGRESS_POLICIES),
            (abi::MAP_SNAT, Bounds::SNAT),
            (abi::MAP_FLOWS4, Bounds::FLOWS),
            (abi::MAP_FLOWS6, Bounds::FLOWS),
            (abi::MAP_OPENING4, Bounds::OPENING),
            (abi::MAP_OPENING6, Bounds::OPENING),
            (abi::MAP_AFFINITY, Bounds::OPENING),
        ] {
            loader.map_max_entries(map, entries);
        }
        let mut object = loader
            .override_global(abi::GLOBAL_NIC, &nic, true)
            .load_file(&path)
            .with_context(|| format!("cannot load {}: is it built? `cargo xtask build`", path.display()))?;
        let program = object.program_mut(abi::PROGRAM_XDP_NIC).context("no XDP program in the object")?;
        <&mut Xdp>::try_from(program)?.load()?;
        for name in abi::CLASSIFIERS {
            let program = object.program_mut(name).with_context(|| format!("no program {name}"))?;
            <&mut SchedClassifier>::try_from(program)?.load()?;
        }
        let ids = object.maps().map(|(name, map)| Ok((name.to_owned(), id(map)?))).collect::<Result<_>>()?;
        let maps = Maps::take(&mut object)?;
        Ok(Ok(Self { object, maps, ids, installed: TableSet::default(), _stage: stage }))
    }

    /// Another handle of one of the maps.
    pub fn map(&self, name: &str) -> Result<Map> {
        let id = *self.ids.get(name).with_context(|| format!("no map {name} in the object"))?;
        Ok(Map::from_map_data(MapData::from_id(id)?)?)
    }

    /// One packet: the action, and the frame after it.
    pub fn test_run(&self, hook: Hook, input: &Input) -> Result<(Action, Vec<u8>)> {
        let mut out = vec![0; input.frame.len() + LONGER];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&input.frame);
        options.data_out = Some(&mut out);
        let (action, length) = if hook == Hook::XdpNic {
            let program = self.object.program(abi::PROGRAM_XDP_NIC).context("no XDP program")?;
            let ran = <&Xdp>::try_from(program)?.test_run(options)?;
            (xdp_action(ran.return_value), ran.data_size_out)
        } else {
            ensure!(!input.nic_vlan_tag, "a test run cannot set a tag outside of the frame");
            let name = abi::program(hook);
            let program = self.object.program(name).with_context(|| format!("no program {name}"))?;
            let context = skb_context(input);
            options.ctx_in = Some(&context);
            let ran = <&SchedClassifier>::try_from(program)?.test_run(options)?;
            (tc_action(ran.return_value), ran.data_size_out)
        };
        out.truncate(usize::try_from(length)?);
        Ok((action, out))
    }

    /// All counters of one hook, and those of routes and next hops, without zeroes.
    pub fn counted(&self, hook: Hook) -> Result<Counted> {
        self.maps.counted(hook)
    }

    /// The counter of one reason at one hook.
    pub fn verdict(&self, hook: Hook, reason: netroute_common::verdict::Reason) -> Result<Counter> {
        self.maps.verdict(hook, reason)
    }

    /// `SERVICE_STATS` without the slots that are zero.
    pub fn services(&self) -> Result<BTreeMap<u32, ServiceCounter>> {
        self.maps.services.counted()
    }

    /// `EGRESS_STATS` likewise.
    pub fn policies(&self) -> Result<BTreeMap<u32, EgressCounter>> {
        self.maps.egress.counted()
    }

    /// What the programs have written into the tables of flows.
    pub fn flows(&self) -> Result<FlowSet> {
        self.maps.flows.read()
    }

    pub fn tables(&mut self) -> &mut Maps {
        &mut self.maps
    }
}

impl Judge for KernelBench {
    fn install(&mut self, tables: &TableSet) -> Result<()> {
        self.maps.replace(&self.installed, tables)?;
        self.installed = tables.clone();
        Ok(())
    }

    fn forget(&mut self) -> Result<()> {
        self.maps.flows.clear()
    }

    fn wait(&mut self, seconds: u64) -> Result<Option<&'static str>> {
        let aged = self.maps.flows.age(seconds)?;
        Ok((!aged).then_some("the kernel's clock has not run for so long"))
    }

    fn run(&mut self, hook: Hook, input: &Input) -> Result<Outcome> {
        let verdicts = |bench: &Self| Hook::ALL.map(|hook| bench.maps.verdicts(hook));
        let (verdicts_before, before) = (verdicts(self), self.maps.counted_at_all()?);
        let services_before = self.maps.services.counted()?;
        let policies_before = self.maps.egress.counted()?;
        let (action, frame) = self.test_run(hook, input)?;
        let mut counted = minus(&self.maps.counted_at_all()?, &before)?;
        for ((at, before), after) in Hook::ALL.into_iter().zip(verdicts_before).zip(verdicts(self)) {
            let more = difference(&after?, &before?)?;
            if at == hook {
                counted.verdicts = more;
            } else if !more.is_empty() {
                bail!("counted at {}: {more:?}", at.name());
            }
        }
        let services = more(&self.maps.services.counted()?, &services_before);
        let egress = more_of_policies(&self.maps.egress.counted()?, &policies_before);
        Ok(Outcome { action, frame, counted, services, egress, exit: None })
    }

    fn forward(&mut self, hook: Hook, input: &Input) -> Result<Vec<u8>> {
        Ok(self.test_run(hook, input)?.1)
    }

    fn refuses(&self, hook: Hook, input: &Input) -> Option<&'static str> {
        if input.frame.len() < ETH_LEN {
            return Some("the kernel takes no test run of less than an Ethernet header");
        }
        if hook == Hook::XdpNic {
            return None;
        }
        if input.nic_vlan_tag {
            return Some("the kernel takes no tag outside of the frame in a test run");
        }
        // Kernels differ in how much of the IP header they want, so this one is asked.
        let short = input.frame.len() < ETH_LEN + IPV6_LEN;
        let refused = short && self.test_run(hook, &empty(input)).is_err_and(|error| is_invalid(&error));
        refused.then_some("this kernel takes no TC test run of so short a frame")
    }
}

/// The kernel's number of a map; 0 of a kind that no test asks for.
fn id(map: &Map) -> Result<u32> {
    match map {
        Map::LpmTrie(data)
        | Map::Array(data)
        | Map::DevMap(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data) => Ok(data.info()?.id()),
        _ => Ok(0),
    }
}

/// A frame of the same length and type that opens no flow.
fn empty(input: &Input) -> Input {
    let mut input = input.clone();
    input.frame[ETH_LEN..].fill(0);
    input
}

/// Whether the kernel answered `EINVAL`.
pub fn is_invalid(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.any(|error| error.kind() == std::io::ErrorKind::InvalidInput)
}

/// The object that `cargo xtask build` makes, or the one that the environment names.
pub fn object_path() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/netroute.bpf.o");
    std::env::var_os(OBJECT).map_or_else(built, PathBuf::from)
}

fn unable() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("BPF programs and network namespaces need root".into());
    }
    let btf = Path::new("/sys/kernel/btf/vmlinux");
    (!btf.exists()).then(|| format!("the kernel has no BTF ({} is missing)", btf.display()))
}

fn xdp_action(value: u32) -> Action {
    match value {
        XDP_DROP => Action::Drop,
        XDP_PASS => Action::Pass,
        XDP_TX => Action::Reflect,
        XDP_REDIRECT => Action::Redirect,
        other => Action::Wrong(other),
    }
}

fn tc_action(value: u32) -> Action {
    match value {
        TC_ACT_SHOT => Action::Drop,
        TC_ACT_UNSPEC => Action::Pass,
        TC_ACT_REDIRECT => Action::Redirect,
        other => Action::Wrong(other),
    }
}

/// The interface tells by its address whether a frame is for this host.
fn skb_context(input: &Input) -> [u8; SKB_CONTEXT_LEN] {
    let mut bytes = [0; SKB_CONTEXT_LEN];
    let segment = input.segment.unwrap_or(0);
    let segments = if segment == 0 { 0 } else { (input.frame.len() as u32).div_ceil(segment) };
    let ifindex = input.interface.index;
    for (at, value) in [(IFINDEX_AT, ifindex), (GSO_SEGS_AT, segments), (GSO_SIZE_AT, segment)] {
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

fn minus(after: &Counted, before: &Counted) -> Result<Counted> {
    Ok(Counted {
        verdicts: difference(&after.verdicts, &before.verdicts)?,
        routes: difference(&after.routes, &before.routes)?,
        next_hops: difference(&after.next_hops, &before.next_hops)?,
    })
}

fn difference<K: Ord + Copy + std::fmt::Debug>(
    after: &BTreeMap<K, Counter>,
    before: &BTreeMap<K, Counter>,
) -> Result<BTreeMap<K, Counter>> {
    let mut more = BTreeMap::new();
    for (&key, after) in after {
        let before = before.get(&key).copied().unwrap_or_default();
        let less = || format!("counter {key:?} went back");
        let packets = after.packets.checked_sub(before.packets).with_context(less)?;
        let bytes = after.bytes.checked_sub(before.bytes).with_context(less)?;
        if packets != 0 || bytes != 0 {
            more.insert(key, Counter { packets, bytes });
        }
    }
    Ok(more)
}
