//! The agent's state, and what each event does to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

use super::interfaces::{Attached, Wanted};
use super::job::{Job, Outcome, Staged};
use super::requests::{Answer, Mutation};
use super::sources::Sources;
use crate::api::request::Refusal;
use crate::apply::fib::FibConflict;
use crate::apply::{ApplyError, KernelStore, MapStore, StoreError, apply};
use crate::compile::holds::Holds;
use crate::compile::image::Image;
use crate::compile::mirror::Fib;
use crate::compile::{Compiled, Gateway, Suspension, health};
use crate::config::AgentConfig;
use crate::desired::Desired;
use crate::desired::route::Probe;
use crate::error::chain;
use crate::input::netlink::Event;
use crate::input::problem::Problem;
use crate::input::state_dir::StateDir;
use crate::kernel::{Change, KernelState, NeighbourKey, NeighbourState};
use crate::observe::counters::Counters;
use crate::plan::{Plan, Step, failover};

/// Steps written in one turn of the loop: a few milliseconds, in which no failure is heard.
const TURN: usize = 2048;
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
    pub events: Vec<mpsc::UnboundedSender<Event>>,
}

/// The plan being carried out, a turn at a time.
struct Pending {
    steps: VecDeque<Step>,
    total: usize,
    begun: Instant,
    compiled: Compiled,
    answers: Vec<Answer>,
}

pub struct Agent {
    pub config: AgentConfig,
    pub started: Instant,
    pub sources: Sources,
    pub manifest_problems: Vec<Problem>,
    pub conflicts: Arc<Vec<FibConflict>>,
    pub snapshot: Snapshot,
    pub counters: Arc<Counters>,
    pub attached: Option<Attached>,
    pub tally: Tally,
    /// Next hops whose probe gets no answer, and what was said of it.
    pub probe_down: BTreeMap<Gateway, String>,
    pub mutations: VecDeque<Mutation>,
    pub apply_problem: Option<String>,
    state: Arc<StateDir>,
    store: KernelStore,
    holds: Holds,
    outlets: Outlets,
    pending: Option<Pending>,
    /// Answers of saved changes whose plan was overtaken by a failover.
    waiting: Vec<Answer>,
    running: Option<(JoinHandle<Result<Outcome, Refusal>>, Option<Answer>)>,
    /// When the next compilation is due; `None` if nothing changed.
    due: Option<Instant>,
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
    pub outlets: Outlets,
}

impl Agent {
    pub fn new(parts: Parts) -> Self {
        let Parts { config, state, sources, manifest_problems, kernel, installed, store, counters, outlets } =
            parts;
        let now = Instant::now();
        Self {
            snapshot: Snapshot {
                desired: Arc::new(sources.desired(&config)),
                kernel: Arc::new(kernel),
                compiled: Arc::default(),
                installed: Arc::new(installed),
            },
            holds: Holds::new(config.hold_time),
            config,
            started: now,
            sources,
            manifest_problems,
            conflicts: Arc::default(),
            counters: Arc::new(counters),
            attached: None,
            tally: Tally::default(),
            probe_down: BTreeMap::new(),
            mutations: VecDeque::new(),
            apply_problem: None,
            state: Arc::new(state),
            store,
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

    /// Starts the compilation that is due.
    pub fn start_job(&mut self) {
        let now = Instant::now();
        self.due = None;
        self.observe_holds(now);
        let (change, desired, answer) = match self.stage() {
            Some((staged, desired, answer)) => (Some(staged), desired, Some(answer)),
            None => (None, self.snapshot.desired.clone(), None),
        };
        let job = Job {
            desired,
            kernel: self.snapshot.kernel.clone(),
            suspended: self.suspended(now),
            xdp_native: self.attached.as_ref().map(Attached::native).unwrap_or_default(),
            installed: self.snapshot.installed.clone(),
            limits: self.config.limits,
            change,
        };
        self.running = Some((tokio::task::spawn_blocking(move || job.run()), answer));
    }

    /// The next change of the routes that can be tried; those that cannot are answered.
    fn stage(&mut self) -> Option<(Staged, Arc<Desired>, Answer)> {
        while let Some(Mutation { change, answer }) = self.mutations.pop_front() {
            let mut sources = self.sources.clone();
            match sources.apply(&change, &self.config.interfaces) {
                Err(error) => answer.refuse(Refusal::new(error)),
                Ok(touched) => {
                    let answer = answer.before(self, &touched);
                    let desired = Arc::new(sources.desired(&self.config));
                    return Some((Staged { sources, touched, state: self.state.clone() }, desired, answer));
                }
            }
        }
        None
    }

    /// The result of the running compilation; never returns while none runs.
    pub async fn job_done(&mut self) -> Option<Result<Outcome, Refusal>> {
        let (handle, _) = match &mut self.running {
            Some(running) => running,
            None => return std::future::pending().await,
        };
        match handle.await {
            Ok(result) => Some(result),
            Err(panic) => {
                error!(%panic, "compilation ended abnormally");
                None
            }
        }
    }

    /// Takes the result of a compilation.
    pub fn on_outcome(&mut self, result: Option<Result<Outcome, Refusal>>) {
        let answer = self.running.take().and_then(|(_, answer)| answer);
        let outcome = match result {
            Some(Ok(outcome)) => outcome,
            Some(Err(refusal)) => {
                match answer {
                    Some(answer) => answer.refuse(refusal),
                    None => self.apply_problem = Some(refusal.message),
                }
                // What was due when the change was tried is still due.
                if self.snapshot.compiled.image != *self.snapshot.installed {
                    self.changed();
                }
                return;
            }
            None => {
                if let Some(answer) = answer {
                    answer.refuse(Refusal::new("the agent could not compile the routes; see its log"));
                }
                return;
            }
        };
        let Outcome { desired, compiled, plan, from, change } = outcome;
        let mut answers = Vec::new();
        if let Some((sources, touched)) = change {
            // Manifests may have changed meanwhile; the command line's routes only change here.
            self.sources.cli = sources.cli;
            self.snapshot.desired = desired;
            answers.extend(answer.map(|answer| answer.with(touched)));
        }
        if !Arc::ptr_eq(&from, &self.snapshot.installed) {
            // A failover came first: compile again on top of it, and answer then.
            drop(from);
            self.snapshot.compiled = Arc::new(compiled);
            self.waiting.extend(answers);
            self.changed();
            return;
        }
        drop(from);
        answers.append(&mut self.waiting);
        let total = plan.steps.len();
        self.pending =
            Some(Pending { steps: plan.steps.into(), total, begun: Instant::now(), compiled, answers });
    }

    /// Writes the next steps of the plan under way.
    pub fn turn(&mut self) {
        let Some(pending) = &mut self.pending else { return };
        let count = pending.steps.len().min(TURN);
        let steps: Vec<Step> = pending.steps.drain(..count).collect();
        let result = self.write(&steps);
        let Some(pending) = &mut self.pending else { return };
        let failed = match result {
            Ok(()) => None,
            Err(error) => {
                // A table without room for old and new side by side: the rest in one go, where
                // removals may come first.
                let rest: Vec<Step> = steps.into_iter().chain(pending.steps.drain(..)).collect();
                full(&error).then(|| self.write(&rest)).unwrap_or(Err(error)).err()
            }
        };
        match failed {
            Some(error) => {
                self.apply_failed(&error);
                if let Some(pending) = self.pending.take() {
                    self.finish(pending.answers);
                }
                self.due = Some(Instant::now() + ATTACH_RETRY);
            }
            None if self.pending.as_ref().is_some_and(|pending| pending.steps.is_empty()) => self.applied(),
            None => {}
        }
    }

    fn write(&mut self, steps: &[Step]) -> Result<(), ApplyError> {
        let installed = Arc::make_mut(&mut self.snapshot.installed);
        let plan = Plan { steps: steps.to_vec() };
        match apply(&plan, &mut self.store) {
            Ok(applied) => {
                self.tally.map_writes += applied.steps as u64;
                steps.iter().for_each(|step| step.apply_to(installed));
                Ok(())
            }
            Err(error) => {
                self.tally.map_writes += error.done as u64;
                // What is in the maps is what they say, not what was planned.
                match self.store.read() {
                    Ok(image) => *installed = image,
                    Err(error) => error!(error = %chain(&error), "maps cannot be read"),
                }
                Err(error)
            }
        }
    }

    fn apply_failed(&mut self, error: &ApplyError) {
        let text = chain(error);
        error!(error = %text, "maps not written");
        self.tally.apply_errors += 1;
        self.apply_problem = Some(text);
    }

    /// The maps hold the compiled image: let the kernel follow, and answer who waits.
    fn applied(&mut self) {
        let Some(Pending { total, begun, compiled, answers, .. }) = self.pending.take() else { return };
        if total > 0 {
            self.tally.applies += 1;
            self.tally.last_apply = Some((Instant::now(), begun.elapsed(), total));
            debug!(steps = total, elapsed = ?begun.elapsed(), "applied");
        }
        self.apply_problem = None;
        self.outlets.fib.send_if_modified(|held| {
            let changed = **held != compiled.fib;
            if changed {
                *held = Arc::new(compiled.fib.clone());
            }
            changed || held.is_empty()
        });
        let keys = compiled
            .keep
            .iter()
            .map(|gateway| NeighbourKey { ifindex: gateway.ifindex, address: gateway.address });
        let keys: BTreeSet<NeighbourKey> = keys
            .filter(|key| self.snapshot.kernel.links.get(&key.ifindex).is_some_and(|link| link.up))
            .collect();
        self.outlets.keep.send_if_modified(|held| {
            let changed = **held != keys;
            *held = Arc::new(keys);
            changed
        });
        self.snapshot.compiled = Arc::new(compiled);
        self.holds.retain(|gateway| self.snapshot.compiled.keep.contains(gateway));
        self.follow_interfaces(false);
        self.finish(answers);
    }

    fn finish(&self, answers: Vec<Answer>) {
        for answer in answers {
            answer.done(self);
        }
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

    fn observe_holds(&mut self, now: Instant) {
        for gateway in &self.snapshot.compiled.keep {
            let down =
                health::is_down(&self.snapshot.kernel, *gateway) || self.probe_down.contains_key(gateway);
            self.holds.observe(*gateway, down, now);
        }
    }

    fn suspended(&self, now: Instant) -> BTreeMap<Gateway, Suspension> {
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

fn full(error: &ApplyError) -> bool {
    matches!(error.source, StoreError::Full { .. })
}
