//! One compilation, off the agent's loop: the loop goes on taking failures in meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::sources::{Change, Sources, Touched};
use crate::api::request::Refusal;
use crate::apply::check_capacity;
use crate::compile::egress::Memory;
use crate::compile::image::{Image, Limits};
use crate::compile::services::ids::ServiceIds;
use crate::compile::services::nat::Nat;
use crate::compile::services::selection::{NodeAddresses, SelectionInputs, select};
use crate::compile::status::State;
use crate::compile::{Compiled, Gateway, Inputs, Suspension, compile};
use crate::config::AgentConfig;
use crate::desired::Desired;
use crate::input::state_dir::StateDir;
use crate::kernel::KernelState;
use crate::plan::{Plan, diff};

/// What a compilation starts from: a consistent copy of everything.
pub struct Job {
    pub desired: Arc<Desired>,
    pub kernel: Arc<KernelState>,
    pub suspended: BTreeMap<Gateway, Suspension>,
    pub xdp_native: BTreeSet<u32>,
    pub installed: Arc<Image>,
    pub service_ids: ServiceIds,
    /// What the compilation before left of egress policies.
    pub egress: Arc<Memory>,
    /// Numbers of Service ports that flows may carry.
    pub carried: BTreeSet<u32>,
    pub nat: Nat,
    pub limits: Limits,
    /// Changes of the command line's routes that this compilation tries out.
    pub batch: Option<Batch>,
}

/// Changes tried out together: each is carried out or refused by itself, all are saved at once.
pub struct Batch {
    pub sources: Sources,
    pub changes: Vec<Change>,
    pub config: Arc<AgentConfig>,
    pub state: Arc<StateDir>,
}

/// What a compilation came to.
pub struct Outcome {
    pub desired: Arc<Desired>,
    pub compiled: Compiled,
    pub plan: Plan,
    /// The image the plan starts from.
    pub from: Arc<Image>,
    /// The routes after the batch, and what became of each of its changes.
    pub changed: Option<(Sources, Vec<Result<Touched, Refusal>>)>,
}

impl Job {
    /// Compiles. A change is refused if one of its routes could not be installed; the others are
    /// saved. An error concerns all of them: then nothing was changed.
    pub fn run(mut self) -> Result<Outcome, Refusal> {
        let (desired, compiled, changed) = match self.batch.take() {
            None => {
                let desired = self.desired.clone();
                let compiled = self.compile(&desired)?;
                (desired, compiled, None)
            }
            Some(batch) => {
                let mut refused = BTreeMap::new();
                loop {
                    let (sources, touched) = batch.carried_out(&mut refused);
                    let desired = Arc::new(sources.desired(&batch.config));
                    let compiled = self.compile(&desired)?;
                    let before = refused.len();
                    refused.extend(not_installed(&touched, &compiled));
                    // Each round refuses one change at least, so there is a last one.
                    if refused.len() > before {
                        continue;
                    }
                    if !touched.is_empty() {
                        batch.state.save(sources.cli.values()).map_err(Refusal::new)?;
                    }
                    break (desired, compiled, Some((sources, in_order(touched, refused))));
                }
            }
        };
        let plan = diff(&self.installed, &compiled.image);
        Ok(Outcome { desired, compiled, plan, from: self.installed, changed })
    }

    fn compile(&self, desired: &Desired) -> Result<Compiled, Refusal> {
        let Self { kernel, suspended, xdp_native, installed, limits, service_ids, carried, egress, .. } =
            self;
        let addresses = NodeAddresses::of(desired, kernel);
        let selection = select(&SelectionInputs::new(desired, &addresses));
        let mut compiled = compile(&Inputs {
            desired,
            kernel,
            suspended,
            xdp_native,
            installed,
            selection: &selection,
            service_ids,
            carried,
            egress,
            nat: self.nat,
            limits: *limits,
        });
        check_capacity(&compiled.image, limits).map_err(Refusal::new)?;
        compiled.services.selection = Arc::new(selection);
        Ok(compiled)
    }
}

impl Batch {
    /// The routes after all changes that are not refused; adds those that cannot be carried out.
    fn carried_out(&self, refused: &mut BTreeMap<usize, Refusal>) -> (Sources, BTreeMap<usize, Touched>) {
        let mut sources = self.sources.clone();
        let mut touched = BTreeMap::new();
        for (index, change) in self.changes.iter().enumerate() {
            if refused.contains_key(&index) {
                continue;
            }
            match sources.apply(change, &self.config.interfaces) {
                Ok(keys) => drop(touched.insert(index, keys)),
                Err(error) => drop(refused.insert(index, Refusal::new(error))),
            }
        }
        (sources, touched)
    }
}

/// Changes that ask for a route which cannot be installed.
fn not_installed<'a>(
    touched: &'a BTreeMap<usize, Touched>,
    compiled: &'a Compiled,
) -> impl Iterator<Item = (usize, Refusal)> + use<'a> {
    touched.iter().filter_map(|(index, keys)| {
        keys.added.iter().chain(&keys.changed).find_map(|key| {
            let status = compiled.statuses.get(key).filter(|status| status.state == State::Invalid)?;
            Some((*index, Refusal::new(format!("{key}: {}", status.reason))))
        })
    })
}

/// What became of each change, in their order.
fn in_order(
    touched: BTreeMap<usize, Touched>,
    refused: BTreeMap<usize, Refusal>,
) -> Vec<Result<Touched, Refusal>> {
    let carried_out = touched.into_iter().map(|(index, touched)| (index, Ok(touched)));
    let refused = refused.into_iter().map(|(index, refusal)| (index, Err(refusal)));
    let all: BTreeMap<usize, _> = carried_out.chain(refused).collect();
    all.into_values().collect()
}
