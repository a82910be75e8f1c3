//! From a change to the maps: compile beside the loop, write in turns, then let the kernel follow.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, error};

use super::core::{ATTACH_RETRY, Agent};
use super::interfaces::Attached;
use super::job::{Batch, Job, Outcome};
use super::requests::{Answer, Mutation};
use super::sources::Change;
use crate::api::request::Refusal;
use crate::apply::{ApplyError, MapStore, StoreError, apply};
use crate::compile::Compiled;
use crate::compile::egress::Memory;
use crate::error::chain;
use crate::kernel::NeighbourKey;
use crate::plan::{Plan, Step};

/// Entries written in one turn of the loop: a few milliseconds, in which no failure is heard.
const TURN: usize = 2048;

/// The plan being carried out, a turn at a time.
pub struct Pending {
    pub(super) steps: VecDeque<Step>,
    total: usize,
    begun: Instant,
    compiled: Compiled,
    answers: Vec<Answer>,
}

impl Agent {
    /// Starts the compilation that is due.
    pub fn start_job(&mut self) {
        let now = Instant::now();
        self.due = None;
        self.observe_holds(now);
        let (changes, answers) = self.next_batch();
        let batch = (!changes.is_empty()).then(|| Batch {
            sources: self.sources.clone(),
            changes,
            config: self.config.clone(),
            state: self.state.clone(),
        });
        let job = Job {
            desired: self.snapshot.desired.clone(),
            kernel: self.snapshot.kernel.clone(),
            suspended: self.suspended(now),
            xdp_native: self.attached.as_ref().map(Attached::native).unwrap_or_default(),
            installed: self.snapshot.installed.clone(),
            service_ids: self.snapshot.compiled.services.ids.clone(),
            egress: self.egress_memory(),
            carried: self.carried.all(),
            nat: self.config.nat,
            limits: self.config.limits,
            batch,
        };
        self.running = Some((tokio::task::spawn_blocking(move || job.run()), answers));
    }

    /// After a plan that was cut short nobody knows what flows were judged by.
    fn egress_memory(&self) -> Arc<Memory> {
        let memory = &self.snapshot.compiled.egress.memory;
        if self.unsettled { Arc::new(memory.unsettled()) } else { memory.clone() }
    }

    /// The waiting changes of the routes that can be tried together: all up to one that takes away
    /// what another of them brings, whose answer tells of a route that must be there first.
    fn next_batch(&mut self) -> (Vec<Change>, Vec<Answer>) {
        let mut brought = BTreeSet::new();
        let joins = |mutation: &&Mutation| match &mutation.change {
            Change::Set(routes) => {
                brought.extend(routes.iter().map(|route| route.key.destination));
                true
            }
            Change::Remove { destination, .. } => !brought.contains(destination),
        };
        let count = self.mutations.iter().take_while(joins).count();
        self.mutations.drain(..count).map(|Mutation { change, answer }| (change, answer)).unzip()
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
        let answers = self.running.take().map(|(_, answers)| answers).unwrap_or_default();
        let outcome = match result {
            Some(Ok(outcome)) => outcome,
            Some(Err(refusal)) if answers.is_empty() => {
                if self.apply_problem.as_ref() != Some(&refusal.message) {
                    error!(reason = %refusal.message, "maps not written");
                }
                // The same state would be refused again at once.
                self.fails(refusal.message);
                self.due = Some(Instant::now() + ATTACH_RETRY);
                return;
            }
            Some(Err(refusal)) => {
                answers.into_iter().for_each(|answer| answer.refuse(refusal.clone()));
                // What was due when the changes were tried is still due.
                self.changed();
                return;
            }
            None => {
                let refusal = Refusal::new("the agent could not compile the routes; see its log");
                answers.into_iter().for_each(|answer| answer.refuse(refusal.clone()));
                return;
            }
        };
        let Outcome { desired, compiled, plan, from, changed } = outcome;
        let mut carried_out = Vec::new();
        if let Some((sources, results)) = changed {
            for (answer, result) in answers.into_iter().zip(results) {
                match result {
                    Ok(touched) => carried_out.push(answer.before(self, touched)),
                    Err(refusal) => answer.refuse(refusal),
                }
            }
            // Manifests may have changed meanwhile; the command line's routes only change here.
            self.sources.cli = sources.cli;
            let overtaken = self.due.is_some();
            self.snapshot.desired =
                if overtaken { Arc::new(self.sources.desired(&self.config)) } else { desired };
        }
        let mut answers = carried_out;
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
        let count = in_one_turn(&pending.steps);
        let steps: Vec<Step> = pending.steps.drain(..count).collect();
        let result = self.write(&steps);
        let Some(pending) = &mut self.pending else { return };
        let failed = match result {
            Ok(()) => None,
            Err(error) => {
                // A table without room for old and new side by side: the rest in one go, where
                // removals may come first.
                let rest: Vec<Step> = steps.into_iter().chain(pending.steps.drain(..)).collect();
                if full(&error) { self.write(&rest).err() } else { Some(error) }
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

    pub(super) fn write(&mut self, steps: &[Step]) -> Result<(), ApplyError> {
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

    pub(super) fn apply_failed(&mut self, error: &ApplyError) {
        let text = chain(error);
        error!(error = %text, "maps not written");
        self.tally.apply_errors += 1;
        self.unsettled = true;
        self.fails(text);
    }

    fn fails(&mut self, problem: String) {
        self.apply_problem = Some(problem);
        self.failing_since.get_or_insert_with(Instant::now);
        self.tell_health_checks();
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
        self.unsettled = false;
        self.failing_since = None;
        if compiled.egress.again {
            self.changed();
        }
        self.carried.serve(&self.snapshot.installed);
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
        self.tell_health_checks();
        self.finish(answers);
    }

    fn finish(&self, answers: Vec<Answer>) {
        for answer in answers {
            answer.done(self);
        }
    }
}

/// How many of the steps: one at least, however much it writes.
fn in_one_turn(steps: &VecDeque<Step>) -> usize {
    let written = steps.iter().scan(0, |written, step| {
        *written += step.writes();
        Some(*written)
    });
    written.take(TURN).take_while(|written| *written <= TURN).count().max(1).min(steps.len())
}

fn full(error: &ApplyError) -> bool {
    matches!(error.source, StoreError::Full { .. })
}
