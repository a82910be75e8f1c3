//! One compilation, off the agent's loop: the loop goes on taking failures in meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::sources::{Sources, Touched};
use crate::api::request::Refusal;
use crate::apply::check_capacity;
use crate::compile::image::{Image, Limits};
use crate::compile::status::State;
use crate::compile::{Compiled, Gateway, Inputs, Suspension, compile};
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
    pub limits: Limits,
    /// The change of the command line's routes that this compilation tries out.
    pub change: Option<Staged>,
}

/// Routes as they would be after a change.
pub struct Staged {
    pub sources: Sources,
    pub touched: Touched,
    pub state: Arc<StateDir>,
}

/// What a compilation came to.
pub struct Outcome {
    pub desired: Arc<Desired>,
    pub compiled: Compiled,
    pub plan: Plan,
    /// The image the plan starts from.
    pub from: Arc<Image>,
    pub change: Option<(Sources, Touched)>,
}

impl Job {
    /// Compiles; a staged change is refused if one of its routes could not be installed, and
    /// saved if all can.
    pub fn run(self) -> Result<Outcome, Refusal> {
        let Self { desired, kernel, suspended, xdp_native, installed, limits, change } = self;
        let compiled = compile(&Inputs {
            desired: &desired,
            kernel: &kernel,
            suspended: &suspended,
            xdp_native: &xdp_native,
            installed: &installed,
            limits,
        });
        check_capacity(&compiled.image, &limits).map_err(Refusal::new)?;
        let change = match change {
            None => None,
            Some(Staged { sources, touched, state }) => {
                for key in touched.added.iter().chain(&touched.changed) {
                    let status = compiled.statuses.get(key);
                    if let Some(status) = status.filter(|status| status.state == State::Invalid) {
                        return Err(Refusal::new(format!("{key}: {}", status.reason)));
                    }
                }
                state.save(sources.cli.values()).map_err(Refusal::new)?;
                Some((sources, touched))
            }
        };
        let plan = diff(&installed, &compiled.image);
        Ok(Outcome { desired, compiled, plan, from: installed, change })
    }
}
