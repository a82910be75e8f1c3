//! How the agent itself is: status, doctor and diff.

use std::sync::Arc;

use netroute_common::abi;
use netroute_common::verdict::Hook;

use super::core::{Agent, Snapshot};
use crate::api::request::Refusal;
use crate::api::types::{
    ApplyView, AttachMode, CheckResult, CheckView, CountsView, DiffView, DoctorView, FlowTableView, Health,
    InterfaceView, MapView, ProgramView, State, StatusView,
};
use crate::apply::flows::Fill;
use crate::compile::interfaces::{Interfaces, link_of};
use crate::compile::services::image::is_resting;
use crate::compile::services::nat::Nat;
use crate::compile::services::selection::ServicePort;
use crate::error::{chain, one_line};
use crate::load::{Attached, Attachments, Mode, Running, SocketProgram};
use crate::observe::doctor::{self, Level, Sockets, Subject};
use crate::plan::diff as plan_diff;

/// The agent's health in one answer.
pub fn status(agent: &Agent) -> Result<StatusView, Refusal> {
    let interfaces = interfaces(agent);
    let problems = problems(agent, &interfaces);
    let unserved = interfaces.iter().all(|interface| interface.xdp == AttachMode::None && !interface.tc);
    let health = match (problems.is_empty(), unserved) {
        (_, true) => Health::Failed,
        (false, _) => Health::Degraded,
        (true, _) => Health::Ok,
    };
    let maps = maps(agent)?;
    Ok(StatusView {
        health,
        node_name: agent.config.node_name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        abi: abi::ABI_VERSION,
        uptime_seconds: agent.started.elapsed().as_secs(),
        programs: programs(agent),
        map_bytes: maps.iter().map(|map| map.bytes).sum(),
        maps,
        flows: flows(agent),
        counts: counts(agent),
        last_apply: agent.tally.last_apply.map(|(at, duration, steps)| ApplyView {
            duration_micros: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            steps: u32::try_from(steps).unwrap_or(u32::MAX),
            seconds_ago: at.elapsed().as_secs(),
        }),
        interfaces,
        problems,
    })
}

fn attached(agent: &Agent) -> Vec<Attached> {
    agent.attached.iter().flat_map(|attached| attached.attachments().list().cloned()).collect()
}

fn interfaces(agent: &Agent) -> Vec<InterfaceView> {
    let programs = attached(agent);
    let view = |interface: &crate::desired::interface::Interface| {
        let link = link_of(interface, &agent.snapshot.kernel);
        let find = |hook: Hook| {
            programs.iter().find(|p| link.is_some_and(|link| link.index == p.ifindex) && p.hook == hook)
        };
        let xdp = match find(Hook::XdpNic).map(|program| program.mode) {
            Some(Mode::Native) => AttachMode::Native,
            Some(_) => AttachMode::Generic,
            None => AttachMode::None,
        };
        let refused = link.and_then(|link| agent.attached.as_ref()?.refused.get(&link.index).cloned());
        let reason = match (link, refused, xdp) {
            (None, _, _) => "the device does not exist".to_owned(),
            (_, Some(reason), _) => reason,
            (_, None, AttachMode::Generic) => "the driver has no native XDP: slower".to_owned(),
            _ => String::new(),
        };
        InterfaceView {
            alias: interface.alias.clone(),
            device: link.map(|link| link.name.clone()),
            ifindex: link.map(|link| link.index),
            role: format!("{:?}", interface.role).to_lowercase(),
            carrier: link.is_some_and(|link| link.up && link.carrier),
            xdp,
            tc: find(Hook::TcNic).is_some() && find(Hook::TcOut).is_some(),
            reason,
        }
    };
    agent.config.interfaces.iter().map(view).collect()
}

fn programs(agent: &Agent) -> Vec<ProgramView> {
    let running =
        agent.attached.as_ref().map(|attached| attached.attachments().programs()).unwrap_or_default();
    let view = |Running { attached, id, tag }: Running| ProgramView {
        name: attached.hook.name().replace('-', "_"),
        id: id.unwrap_or_default(),
        // As bpftool prints it: the bytes of the hash in their order.
        tag: tag.map_or_else(String::new, |tag| format!("{:016x}", tag.swap_bytes())),
        interface: attached.interface,
    };
    let mut views: Vec<ProgramView> = running.into_iter().map(view).collect();
    let attachments = agent.attached.as_ref().map(super::interfaces::Attached::attachments);
    views.extend(attachments.into_iter().flat_map(socket_programs));
    views
}

/// Their place is a control group.
fn socket_programs(attachments: &Attachments) -> Vec<ProgramView> {
    let group = attachments.sockets().map(|path| path.display().to_string()).unwrap_or_default();
    let view = |SocketProgram { name, id, tag }| ProgramView {
        name: name.to_owned(),
        id: id.unwrap_or_default(),
        tag: tag.map_or_else(String::new, |tag: u64| format!("{:016x}", tag.swap_bytes())),
        interface: group.clone(),
    };
    attachments.socket_programs().into_iter().map(view).collect()
}

fn problems(agent: &Agent, interfaces: &[InterfaceView]) -> Vec<String> {
    let mut problems: Vec<String> = agent.apply_problem.iter().cloned().collect();
    problems.extend(
        interfaces.iter().filter(|i| !i.reason.is_empty()).map(|i| format!("{}: {}", i.alias, i.reason)),
    );
    let sockets = agent.attached.as_ref().and_then(|attached| attached.sockets_refused.as_ref());
    problems.extend(sockets.map(|error| format!("sockets: {}", chain(error))));
    problems.extend(agent.manifest_problems.iter().map(ToString::to_string));
    problems.extend(agent.conflicts.iter().take(10).map(|conflict| {
        format!("{} metric {}: {}", conflict.key.destination, conflict.key.metric, conflict.reason)
    }));
    let invalid =
        agent.snapshot.compiled.statuses.iter().filter(|(_, status)| status.state == State::Invalid);
    problems.extend(invalid.take(10).map(|(key, status)| format!("{key}: {}", status.reason)));
    let refused = agent.snapshot.compiled.services.refused.iter().take(10);
    problems.extend(refused.map(|(port, reason)| {
        let ServicePort { namespace, name, protocol, port } = port;
        one_line(&format!("Service {namespace}/{name} port {port}/{protocol}: not served: {reason}"))
            .into_owned()
    }));
    problems.extend(egress(agent));
    let ports = agent.health_ports.iter().take(10);
    problems.extend(
        ports.map(|problem| one_line(&format!("Service {}: {problem}", problem.service)).into_owned()),
    );
    problems.extend(flows(agent).iter().filter_map(crowded));
    problems
}

/// What of egress policies is denied though nobody asked for that.
fn egress(agent: &Agent) -> Vec<String> {
    let compiled = &agent.snapshot.compiled.egress;
    let denied = compiled.statuses.iter().flat_map(|(name, status)| {
        let conditions = status.conditions.iter().filter(|condition| condition.denies());
        conditions.map(move |condition| format!("EgressPolicy {name}: {condition}"))
    });
    let unplaced = (compiled.unplaced > 0).then(|| {
        let (count, limit) = (compiled.unplaced, agent.config.limits.sources);
        format!(
            "{count} addresses of pods find no room, and what they send out of the cluster is dropped: raise \
             limits.sources (now {limit})"
        )
    });
    denied.take(10).chain(unplaced).map(|text| one_line(&text).into_owned()).collect()
}

/// The flow tables when they were last looked through.
fn flows(agent: &Agent) -> Vec<FlowTableView> {
    let view = |(map, fill): (&&str, &Fill)| FlowTableView {
        map: (*map).to_owned(),
        family: if map.ends_with('4') { "IPv4" } else { "IPv6" }.to_owned(),
        states: fill.states.clone(),
        translated: fill.translated.clone(),
        capacity: fill.capacity,
    };
    agent.pass.tables.iter().map(view).collect()
}

/// A table that will refuse flows; opening ones give way by themselves.
fn crowded(table: &FlowTableView) -> Option<String> {
    let FlowTableView { map, capacity, .. } = table;
    let key = match map.as_str() {
        abi::MAP_FLOWS4 => "limits.flows4",
        abi::MAP_FLOWS6 => "limits.flows6",
        _ => return None,
    };
    let entries = table.entries();
    let is_crowded = u64::from(entries) * 10 >= u64::from(*capacity) * 9;
    is_crowded.then(|| {
        format!("{map}: {entries} of {capacity} entries; when it is full new flows are refused: raise {key}")
    })
}

fn maps(agent: &Agent) -> Result<Vec<MapView>, Refusal> {
    let Some(attached) = &agent.attached else { return Ok(Vec::new()) };
    let memory = attached.attachments().map_memory().map_err(|error| Refusal::new(chain(&error)))?;
    let image = &agent.snapshot.installed;
    let used = |name: &str| match name {
        abi::MAP_ROUTES4 => image.routes4.len(),
        abi::MAP_ROOT4 => image.strides.root.len(),
        abi::MAP_BLOCKS4 => image.strides.blocks.len(),
        abi::MAP_ROUTES6 => image.routes6.len(),
        abi::MAP_GROUPS => image.groups.len(),
        abi::MAP_NEXTHOPS | abi::MAP_NEXTHOP_STATS => image.next_hops.len(),
        abi::MAP_PORTS => image.ports.len(),
        abi::MAP_ROUTE_STATS => {
            agent.snapshot.compiled.statuses.values().filter(|status| status.stats.is_some()).count()
        }
        abi::MAP_FRONTENDS => image.services.front_ends.len(),
        abi::MAP_SLOTS => image.services.blocks.values().map(|block| block.len()).sum(),
        abi::MAP_BACKENDS => image.services.backends.values().filter(|backend| !is_resting(backend)).count(),
        abi::MAP_SOURCE_RANGES => image.services.source_ranges.len(),
        abi::MAP_MASQUERADE => image.services.masquerade.len(),
        abi::MAP_PEERS => image.services.peers.len(),
        abi::MAP_TIMERS => usize::from(image.services.timers.is_some()),
        abi::MAP_SOURCES => image.egress.sources.len(),
        abi::MAP_EGRESS => image.egress.entries(),
        abi::MAP_EGRESS_RULES => image.egress.rules.values().map(|run| run.len()).sum(),
        abi::MAP_EGRESS_POLICIES | abi::MAP_EGRESS_STATS => image.egress.policies.len(),
        abi::MAP_SNAT => image.egress.snat.values().map(|run| run.len()).sum(),
        abi::MAP_SERVICE_STATS => agent.snapshot.compiled.services.ids.ids.len(),
        map => agent.pass.tables.get(map).map_or(0, |fill| fill.entries() as usize),
    };
    let view = |map: crate::load::MapMemory| MapView {
        used: u32::try_from(used(&map.map)).unwrap_or(u32::MAX),
        name: map.map,
        max: map.capacity,
        bytes: map.bytes,
    };
    Ok(memory.into_iter().map(view).collect())
}

fn counts(agent: &Agent) -> CountsView {
    let mut counts = CountsView { failovers: agent.tally.failovers, ..CountsView::default() };
    counts.next_hops = u32::try_from(agent.snapshot.installed.next_hops.len()).unwrap_or(u32::MAX);
    let services = &agent.snapshot.compiled.services;
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    counts.refused_service_ports = count(services.refused.len());
    counts.service_ports =
        count(services.ids.ids.keys().filter(|port| !services.refused.contains_key(port)).count());
    for status in agent.snapshot.compiled.statuses.values() {
        counts.routes += 1;
        let state = match status.state {
            State::Active => &mut counts.active,
            State::Standby => &mut counts.standby,
            State::Pending => &mut counts.pending,
            State::Down => &mut counts.down,
            State::Invalid => &mut counts.invalid,
        };
        *state += 1;
    }
    counts
}

/// The compiled image against what the maps hold.
pub fn diff(agent: &Agent) -> Result<DiffView, Refusal> {
    let held = agent.read_maps().map_err(|error| Refusal::new(chain(&error)))?;
    let plan = plan_diff(&held, &agent.snapshot.compiled.image);
    Ok(DiffView { lines: plan.steps.iter().map(ToString::to_string).collect() })
}

fn sockets(agent: &Agent) -> Sockets {
    match &agent.attached {
        Some(super::interfaces::Attached { sockets_refused: Some(error), .. }) => {
            Sockets::Refused { reason: chain(error), fix: error.fix().to_owned() }
        }
        _ if agent.config.sockets.is_none() => Sockets::Off,
        _ => Sockets::Served,
    }
}

/// What the doctor looks at.
pub struct DoctorInputs {
    snapshot: Snapshot,
    filters: Vec<u32>,
    sockets: Sockets,
    nat: Nat,
    bpffs: Arc<std::path::Path>,
}

impl DoctorInputs {
    #[must_use]
    pub fn of(agent: &Agent) -> Self {
        Self {
            snapshot: agent.snapshot.clone(),
            filters: agent.attached.as_ref().map(super::interfaces::Attached::filters).unwrap_or_default(),
            sockets: sockets(agent),
            nat: agent.config.nat,
            bpffs: Arc::from(agent.config.bpffs.as_path()),
        }
    }

    /// Looks and judges.
    pub async fn run(self) -> Result<DoctorView, Refusal> {
        let Snapshot { desired, kernel, compiled, .. } = &self.snapshot;
        let nics: Vec<u32> = Interfaces::resolve(desired, kernel).nics().collect();
        let subject = Subject {
            state: kernel,
            interfaces: &nics,
            routes: &compiled.fib,
            filters: &self.filters,
            sockets: &self.sockets,
            nat: self.nat,
            bpffs: &self.bpffs,
        };
        let facts = doctor::collect(subject).await.map_err(|error| Refusal::new(chain(&error)))?;
        let view = |check: doctor::Check| CheckView {
            name: check.name,
            result: match check.level {
                Level::Ok => CheckResult::Ok,
                Level::Warn => CheckResult::Warn,
                Level::Fail => CheckResult::Fail,
            },
            finding: check.finding,
            fix: check.fix,
        };
        Ok(DoctorView { checks: doctor::judge(&facts).into_iter().map(view).collect() })
    }
}
