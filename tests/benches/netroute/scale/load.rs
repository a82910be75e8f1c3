//! From routes as the operator wants them to full maps, by the agent's own code; what the maps
//! take; and what the death of a next hop costs then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv4Net};
use netroute_common::layout::config::Nic;
use netroute_common::layout::route::NextHop;
use netroute_user::apply::{KernelStore, apply};
use netroute_user::compile::egress::Memory;
use netroute_user::compile::image::{Image, Limits};
use netroute_user::compile::services::ids::ServiceIds;
use netroute_user::compile::services::nat::Nat;
use netroute_user::compile::services::selection::Selection;
use netroute_user::compile::{Gateway, Inputs, compile};
use netroute_user::desired::Desired;
use netroute_user::desired::interface::{DeviceRef, Interface, Role};
use netroute_user::desired::route::{CustomRoute, Origin, RouteKey};
use netroute_user::kernel::{Address, KernelState, Link, Neighbour, NeighbourKey, NeighbourState};
use netroute_user::load::object::bpf_object;
use netroute_user::load::testrun::TestBed;
use netroute_user::plan::{Plan, Step, diff, failover};

use super::Size;
use crate::packet::NIC_MAC;
use crate::sample::{Outcome, Row, Unit, quick};
use crate::stage::{Stage, blocks};

const ALIAS: &str = "Port3";
const GATEWAYS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(198, 18, 0, 2),
    Ipv4Addr::new(198, 18, 0, 3),
    Ipv4Addr::new(198, 18, 0, 4),
    Ipv4Addr::new(198, 18, 0, 5),
];
/// Beside the custom routes: connected ones, hosts, what is not forwarded.
const OTHER_ROUTES: u32 = 1024;
const FAILOVERS: usize = 101;

pub(super) fn measure(_object: &Path, size: Size, prefixes: &[Ipv4Net]) -> Result<Vec<Row>> {
    let stage = Stage::build()?;
    let desired = desired(prefixes);
    let kernel = kernel(&stage);
    let mut took = Took::default();
    let mut last = None;
    for _ in 0..rounds(size) {
        last = Some(took.load(&stage, &desired, &kernel, size.routes)?);
    }
    let (mut bed, image) = last.context("no rounds")?;
    let failover = fail_over(&mut bed.store, &image)?;
    let bytes = bed.memory()? as f64;
    let Took { programs, compile, write, all, processor } = took;
    let row = |id: &str, what: &str, unit, samples| Row {
        id: format!("scale.{id}.{}", size.name),
        title: format!("{} IPv4 routes, {what}", size.name),
        unit,
        outcome: Outcome::Measured(samples),
    };
    Ok(vec![
        row("programs", "empty maps made and programs loaded", Unit::Milliseconds, programs),
        row("compile", "compiled", Unit::Milliseconds, compile),
        row("write", "compared with what is there and written", Unit::Milliseconds, write),
        row("load", "compiled, compared and written", Unit::Milliseconds, all),
        row("load-cpu", "the same, processor time alone", Unit::Milliseconds, processor),
        row("memory", "memory of all maps", Unit::Bytes, vec![bytes]),
        row("failover", "a next hop dies: found and written", Unit::Nanoseconds, failover),
    ])
}

fn rounds(size: Size) -> usize {
    match size.routes {
        _ if quick() => 1,
        0..100_000 => 15,
        100_000..1_000_000 => 5,
        _ => 1,
    }
}

/// Milliseconds, of each round.
#[derive(Default)]
struct Took {
    programs: Vec<f64>,
    compile: Vec<f64>,
    write: Vec<f64>,
    all: Vec<f64>,
    /// Of `all`, what the processor worked for it: others' work does not count.
    processor: Vec<f64>,
}

impl Took {
    /// One agent's start, as far as maps go.
    fn load(
        &mut self,
        stage: &Stage,
        desired: &Desired,
        kernel: &KernelState,
        routes: usize,
    ) -> Result<(TestBed, Image)> {
        let nic = Nic { ifindex: stage.nic, mac: NIC_MAC, zero: 0 };
        let defaults = Limits::default();
        let capacity = u32::try_from(routes)?.saturating_add(OTHER_ROUTES);
        let limits = Limits {
            routes4: defaults.routes4.max(capacity),
            blocks4: defaults.blocks4.max(blocks(routes)),
            ..defaults
        };
        let started = Instant::now();
        let mut bed = TestBed::load(bpf_object(), limits, &nic)?;
        self.programs.push(milliseconds(started.elapsed()));
        let installed = Image::default();
        let inputs = Inputs {
            desired,
            kernel,
            suspended: &BTreeMap::new(),
            xdp_native: &BTreeSet::new(),
            installed: &installed,
            selection: &Selection::default(),
            service_ids: &ServiceIds::default(),
            carried: &BTreeSet::new(),
            egress: &Memory::default(),
            nat: Nat::DEFAULT,
            limits,
        };
        let worked = processor_time()?;
        let started = Instant::now();
        // The agent keeps all of it.
        let result = compile(&inputs);
        let compiled = started.elapsed();
        apply(&diff(&installed, &result.image), &mut bed.store)?;
        let all = started.elapsed();
        self.processor.push(milliseconds(processor_time()?.saturating_sub(worked)));
        let image = result.image;
        ensure!(image.routes4.len() >= routes, "{} of {routes} routes compiled", image.routes4.len());
        self.compile.push(milliseconds(compiled));
        self.write.push(milliseconds(all.saturating_sub(compiled)));
        self.all.push(milliseconds(all));
        Ok((bed, image))
    }
}

/// Nanoseconds from the knowledge that a gateway is dead to maps that say so.
fn fail_over(store: &mut KernelStore, image: &Image) -> Result<Vec<f64>> {
    let gateway = image
        .next_hops
        .values()
        .find(|next_hop| next_hop.gateway.starts_with(&GATEWAYS[0].octets()))
        .context("no next hop for the first gateway")?;
    let gateway = Gateway { ifindex: gateway.ifindex, address: IpAddr::V4(GATEWAYS[0]) };
    let mut samples = Vec::new();
    for _ in 0..FAILOVERS {
        let started = Instant::now();
        let plan = failover::gateway_down(image, gateway);
        apply(&plan, store)?;
        samples.push(started.elapsed().as_secs_f64() * 1e9);
        let [Step::SetNextHop { id, next_hop }] = plan.steps[..] else {
            anyhow::bail!("a dying next hop is not one write: {:?}", plan.steps);
        };
        let revived = Step::SetNextHop { id, next_hop: NextHop { alive: 1, ..next_hop } };
        apply(&Plan { steps: vec![revived] }, store)?;
    }
    Ok(samples)
}

/// Routes by four gateways in turns.
fn desired(prefixes: &[Ipv4Net]) -> Desired {
    let route = |(prefix, gateway): (IpNet, Ipv4Addr)| {
        let key = RouteKey { destination: prefix, interface: ALIAS.into(), next_hop: gateway.into() };
        let route = CustomRoute {
            key: key.clone(),
            metric: 100,
            weight: 1,
            forced: false,
            probe: None,
            origin: Origin::Cli,
        };
        (key, route)
    };
    let prefixes = prefixes.iter().copied().map(IpNet::V4);
    let device = DeviceRef::Name("out".into());
    Desired {
        interfaces: vec![Interface { alias: ALIAS.into(), device, role: Role::External }],
        pod_interfaces: Vec::new(),
        routes: prefixes.zip(GATEWAYS.into_iter().cycle()).map(route).collect(),
        ..Desired::default()
    }
}

/// A NIC with an address, and the gateways as its neighbours.
fn kernel(stage: &Stage) -> KernelState {
    let mut state = KernelState::default();
    let link = Link {
        index: stage.out,
        name: "out".into(),
        altnames: Vec::new(),
        mac: Some([2, 0, 0, 0, 0, 0x0c]),
        mtu: 1500,
        up: true,
        carrier: true,
        master: None,
        kind: Some("veth".into()),
        loopback: false,
        xdp_transmit: Some(true),
    };
    state.links.insert(link.index, link);
    let address = IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)), 24);
    state.addresses.insert(Address { ifindex: stage.out, address, permanent: true, usable: true });
    for gateway in GATEWAYS {
        let [.., last] = gateway.octets();
        let key = NeighbourKey { ifindex: stage.out, address: gateway.into() };
        let mac = Some([2, 0, 0, 0, 1, last]);
        state.neighbours.insert(key, Neighbour { mac, state: NeighbourState::Reachable });
    }
    state
}

/// What the calling thread has run, since it began (`Documentation/scheduler/sched-stats.rst`).
fn processor_time() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").context("no scheduler statistics")?;
    let nanoseconds = text.split_whitespace().next().context("empty scheduler statistics")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
