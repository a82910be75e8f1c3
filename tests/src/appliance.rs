//! The appliance for one test at a time: a lab of its own, and the VM whose agent is looked at.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use crate::{
    agent::{Agent, inside},
    lab::{Lab, Vm},
};

/// The network of the cameras, behind Port3.
pub const CAMERAS: &str = "192.168.20.0/24";

/// Traffic that is counted needs the processor for itself.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Dropping it removes the lab and ends what runs in it.
#[derive(Debug)]
pub struct Appliance {
    pub lab: Lab,
    /// The master.
    pub vm: Vm,
    _alone: MutexGuard<'static, ()>,
}

impl Appliance {
    pub fn new() -> Result<Self> {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = Lab::temporary()?;
        Ok(Self { vm: lab.vm("master"), lab, _alone: alone })
    }

    /// An agent with the camera route in use.
    pub fn agent(&self) -> Result<Agent> {
        let agent = Agent::start(&self.vm)?;
        let add = ["route", "add", CAMERAS, "--via", "192.168.20.1", "--dev", "Port3", "--metric", "100"];
        agent.cli(&add)?.succeeded()?;
        agent.await_state(CAMERAS, "Port3", "active")?;
        Ok(agent)
    }

    /// What a command line prints that is run on the VM and must succeed.
    pub fn inside(&self, line: &str) -> Result<String> {
        inside(self.vm.ns(), &line.split(' ').collect::<Vec<_>>())
    }
}
