//! The agent's state, and what each event does to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::carried::Carried;
use super::converge::Pending;
use super::interfaces::{Attached, Wanted};
use super::job::Outcome;
use super::requests::{Answer, Mutation};
use super::sources::Sources;
use crate::api::request::Refusal;
use crate::apply::fib::FibConflict;
use crate::apply::flows::{FlowTables, Pass};
use crate::apply::{KernelStore, MapStore, StoreError};
use crate::compile::holds::Holds;
use crate::compile::image::Image;
use crate::compile::mirror::Fib;
use crate::compile::services::refused::Refused;
use crate::compile::{Compiled, Gateway, Suspension, health};
use crate::config::AgentConfig;
use crate::desired::Desired;
use crate::desired::route::Probe;
use crate::explain::LiveMaps;
use crate::health_check::{Checks, Problems};
use crate::input::netlink::Event;
use crate::input::problem::Problem;
use crate::input::state_dir::StateDir;
use crate::kernel::{Change, KernelState, NeighbourKey, NeighbourState};
use crate::observe::counters::Counters;
use crate::plan::{Plan, Step, failover};

/// Changes are collected for this long before a compilation.
const QUIET: Duration = Duration::from_millis(2);
/// Interfaces that could not be served are tried again.
pub const ATTACH_RETRY: Duration = Duration::from_secs(5);

/// What readers see: consistent, shared, never locked.
#[derive(Clone)]
pub struct Snapshot {
    pub desired: Arc<Desired>,
    pub kernel: Arc<KernelState>,
    pub compiled: Arc<Compiled>,
    pub installed: Arc<Image>,
}

/// Numbers about the agent itself.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub failovers: u64,
    pub map_writes: u64,
    pub applies: u64,
    pub apply_errors: u64,
    pub last_apply: Option<(Instant, Duration, usize)>,
}

/// Where the kernel tasks listen.
pub struct Outlets {
    pub fib: watch::Sender<Arc<Fib>>,
    pub keep: watch::Sender<Arc<BTreeSet<NeighbourKey>>>,
    pub busy: mpsc::UnboundedSender<BTreeSet<NeighbourKey>>,
    pub checks: watch::Sender<Arc<Checks>>,
    pub events: Vec<mpsc::UnboundedSender<Event>>,
}

/// A compilation under way, and who waits for the changes it tries out, in their order.
pub(super) type Running = (JoinHandle<Result<Outcome, Refusal>>, Vec<Answer>);

pub struct Agent {
    pub config: Arc<AgentConfig>,
    pub started: Instant,
    pub sources: Sources,
    pub manifest_problems: Vec<Problem>,
    pub conflicts: Arc<Vec<FibConflict>>,
    pub snapshot: Snapshot,
    pub counters: Arc<Counters>,
    pub live_maps: Arc<LiveMaps>,
    /// For readers; the sweep has its own.
    pub flows: Arc<Mutex<FlowTables>>,
    /// The last pass over the flow tables.
    pub pass: Arc<Pass>,
    pub attached: Option<Attached>,
    pub tally: Tally,
    /// Next hops whose probe gets no answer, and what was said of it.
    pub probe_down: BTreeMap<Gateway, String>,
    pub mutations: VecDeque<Mutation>,
    pub apply_problem: Option<String>,
    /// A plan was cut short, and none was carried out since.
    pub(super) unsettled: bool,
    /// When the first of the problems since the last success came.
    pub(super) failing_since: Option<Instant>,
    /// Health check ports that could not be had.
    pub health_ports: Problems,
    pub(super) state: Arc<StateDir>,
    pub(super) store: KernelStore,
    pub(super) holds: Holds,
    pub(super) carried: Carried,
    pub(super) outlets: Outlets,
    pub(super) pending: Option<Pending>,
    /// Answers of saved changes whose plan was overtaken by a failover.
    pub(super) waiting: Vec<Answer>,
    pub(super) running: Option<Running>,
    /// When the next compilation is due; `None` if nothing changed.
    pub(super) due: Option<Instant>,
    /// Packets of each next hop when they were last looked at.
    seen: BTreeMap<u32, u64>,
}

/// What [`Agent::new`] needs.
pub struct Parts {
    pub config: AgentConfig,
    pub state: StateDir,
    pub sources: Sources,
    pub manifest_problems: Vec<Problem>,
    pub kernel: KernelState,
    pub installed: Image,
    pub store: KernelStore,
    pub counters: Counters,
    pub live_maps: LiveMaps,
    pub flows: FlowTables,
    pub carried: Carried,
    pub outlets: Outlets,
}

impl Agent {
    pub fn new(parts: Parts) -> Self {
        let Parts {
            config,
            state,
            sources,
            manifest_problems,
            kernel,
            installed,
            store,
            counters,
            live_maps,
            flows,
            carried,
            outlets,
        } = parts;
        let now = Instant::now();
        Self {
            snapshot: Snapshot {
                desired: Arc::new(sources.desired(&config)),
                kernel: Arc::new(kernel),
                compiled: Arc::default(),
                installed: Arc::new(installed),
            },
            holds: Holds::new(config.hold_time),
            config: Arc::new(config),
            started: now,
            sources,
            manifest_problems,
            conflicts: Arc::default(),
            counters: Arc::new(counters),
            live_maps: Arc::new(live_maps),
            flows: Arc::new(Mutex::new(flows)),
            pass: Arc::default(),
            attached: None,
            tally: Tally::default(),
            probe_down: BTreeMap::new(),
            mutations: VecDeque::new(),
            apply_problem: None,
            unsettled: false,
            failing_since: None,
            health_ports: Arc::default(),
            state: Arc::new(state),
            store,
            carried,
            outlets,
            pending: None,
            waiting: Vec::new(),
            running: None,
            due: Some(now),
            seen: BTreeMap::new(),
        }
    }

    /// Takes one event in. A next hop that dies is dead in the data plane when this returns.
    pub fn on_event(&mut self, event: Event) {
        for outlet in &self.outlets.events {
            // A task that ended has said why.
            let _ = outlet.send(event.clone());
        }
        match event {
            Event::Synced(state) => {
                info!(links = state.links.len(), routes = state.routes.len(), "kernel state read");
                self.snapshot.kernel = Arc::new(state);
                self.changed();
            }
            Event::Changed(change) => {
                let plan = self.failing(&change);
                if !plan.steps.is_empty() {
                    self.fail_over(&plan, &change);
                }
                if Arc::make_mut(&mut self.snapshot.kernel).apply(change) {
                    self.changed();
                }
            }
        }
    }

    fn failing(&self, change: &Change) -> Plan {
        let installed = &self.snapshot.installed;
        match change {
            Change::Link(link) if !link.up || !link.carrier => {
                failover::interface_down(installed, link.index)
            }
            Change::LinkGone(ifindex) => failover::interface_down(installed, *ifindex),
            Change::Neighbour(key, neighbour) if neighbour.state == NeighbourState::Failed => {
                failover::gateway_down(installed, Gateway { ifindex: key.ifindex, address: key.address })
            }
            _ => Plan::default(),
        }
    }

    /// Writes what died at once.
    fn fail_over(&mut self, plan: &Plan, cause: &dyn std::fmt::Debug) {
        let dead: BTreeSet<u32> = plan.steps.iter().filter_map(next_hop_id).collect();
        if let Some(pending) = &mut self.pending {
            // Whatever the plan under way says of them was decided before.
            pending.steps.retain(|step| next_hop_id(step).is_none_or(|id| !dead.contains(&id)));
        }
        let result = self.write(&plan.steps);
        self.tally.failovers += dead.len() as u64;
        info!(next_hops = dead.len(), "next hops down");
        debug!(?cause, "cause");
        if let Err(error) = result {
            self.apply_failed(&error);
        }
        self.changed();
    }

    /// Takes in what a probe found.
    pub fn on_probe(&mut self, gateway: Gateway, failure: Option<String>) {
        match failure {
            Some(reason) => {
                self.probe_down.insert(gateway, reason);
                let plan = failover::gateway_down(&self.snapshot.installed, gateway);
                if !plan.steps.is_empty() {
                    self.fail_over(&plan, &"probe");
                }
            }
            None => drop(self.probe_down.remove(&gateway)),
        }
        self.changed();
    }

    /// Takes in what the sweep of the flow tables found.
    pub fn on_pass(&mut self, pass: Arc<Pass>) {
        self.carried.take(&pass, &self.snapshot.installed);
        self.pass = pass;
        let numbers = |refused: &Refused| matches!(refused, Refused::ServiceStats { .. });
        if self.snapshot.compiled.services.refused.values().any(numbers) {
            // A number may have become free.
            self.changed();
        }
    }

    /// Something that the tables depend on is different now.
    pub fn changed(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + QUIET);
    }

    /// When the loop must look at the agent again by itself: a compilation or the end of a hold.
    pub fn wake(&self) -> Option<Instant> {
        if self.running.is_some() || self.pending.is_some() {
            return None;
        }
        if !self.mutations.is_empty() {
            return Some(Instant::now());
        }
        self.due.into_iter().chain(self.holds.next_end()).min()
    }

    pub fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether everything known is in the maps.
    pub fn is_settled(&self) -> bool {
        self.due.is_none() && self.running.is_none() && self.pending.is_none() && self.mutations.is_empty()
    }

    /// Programs on the interfaces that are there now.
    pub fn follow_interfaces(&mut self, retry: bool) {
        let wanted = Wanted::of(&self.snapshot.desired, &self.snapshot.kernel);
        if let Some(attached) = &mut self.attached {
            let native = attached.native();
            attached.follow(&wanted, retry);
            if attached.native() != native {
                self.changed();
            }
        }
    }

    /// Tries again what was refused.
    pub fn retry_sockets(&mut self) {
        if let Some(attached) = &mut self.attached {
            attached.retry_sockets(self.config.sockets.as_ref(), Instant::now());
        }
    }

    /// A pin of this agent that is not there any more.
    pub fn missing_pin(&self) -> Option<std::path::PathBuf> {
        self.attached.as_ref().and_then(|attached| attached.attachments().missing_pin())
    }

    pub(super) fn observe_holds(&mut self, now: Instant) {
        for gateway in &self.snapshot.compiled.keep {
            let down =
                health::is_down(&self.snapshot.kernel, *gateway) || self.probe_down.contains_key(gateway);
            self.holds.observe(*gateway, down, now);
        }
    }

    pub(super) fn suspended(&self, now: Instant) -> BTreeMap<Gateway, Suspension> {
        let held = self.holds.held(now).map(|gateway| (gateway, Suspension::Held));
        let probed =
            self.probe_down.iter().map(|(gateway, reason)| (*gateway, Suspension::Probe(reason.clone())));
        held.chain(probed).collect()
    }

    /// Neighbours that carried packets since the last call and that the kernel has not confirmed
    /// lately: it sees none of the fast path's traffic, so it must be told.
    pub fn refresh_busy_neighbours(&mut self) {
        let mut busy = BTreeSet::new();
        let installed = self.snapshot.installed.clone();
        for (id, next_hop) in installed.next_hops.iter().filter(|(_, next_hop)| next_hop.alive == 1) {
            let Some(address) = crate::compile::next_hops::address(next_hop) else { continue };
            let key = NeighbourKey { ifindex: next_hop.ifindex, address };
            let stale =
                self.snapshot.kernel.neighbours.get(&key).is_some_and(|n| n.state == NeighbourState::Stale);
            let Ok(counter) = self.counters.next_hop(*id) else { continue };
            let before = self.seen.insert(*id, counter.packets).unwrap_or(counter.packets);
            if stale && counter.packets != before {
                busy.insert(key);
            }
        }
        if !busy.is_empty() && self.outlets.busy.send(busy).is_err() {
            warn!("neighbours are no longer refreshed");
        }
    }

    /// Next hops to be asked for signs of life.
    pub fn probe_targets(&self) -> BTreeMap<NeighbourKey, Probe> {
        let key = |gateway: &Gateway| NeighbourKey { ifindex: gateway.ifindex, address: gateway.address };
        self.snapshot.compiled.probes.iter().map(|(gateway, probe)| (key(gateway), *probe)).collect()
    }

    /// The open maps, for `diff`.
    pub fn read_maps(&self) -> Result<Image, StoreError> {
        self.store.read()
    }
}

fn next_hop_id(step: &Step) -> Option<u32> {
    match step {
        Step::SetNextHop { id, .. } => Some(*id),
        _ => None,
    }
}
