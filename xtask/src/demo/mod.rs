//! `cargo xtask build-and-load`: build everything and start the agent.
//!
//! With `--lab` it is the project's main job shown on real packets: both VMs of the lab get the
//! camera route by the appliance's cmdlet, then Services with a two-tier application behind them, then
//! policies for what leaves the cluster, and everything that is said of it is measured.

mod agent;
mod app;
mod checks;
mod egress;
mod flow;
mod lab;
mod show;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use netroute_tests::lab::DEFAULT_PREFIX;

use crate::paths::Paths;
use crate::{build, process, setup};

#[derive(clap::Args)]
pub struct Args {
    /// Show the main job in the lab: builds it anew, and leaves it up
    #[arg(long, conflicts_with = "config", required_unless_present = "config")]
    lab: bool,
    /// Prefix of all of the lab's names
    #[arg(long, value_name = "PREFIX", default_value = DEFAULT_PREFIX, requires = "lab")]
    name: String,
    /// Run the agent with this configuration on this machine's own NICs, in the foreground
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    if !process::is_root() {
        bail!("programs are loaded and namespaces entered: run this as root");
    }
    if let Some(config) = &args.config
        && !config.exists()
    {
        bail!("{} does not exist: examples/agent.yaml shows what to write", config.display());
    }
    let paths = Paths::find()?;
    setup::for_machine()?;
    build::object(&paths)?;
    let program = build::agent(&paths)?;
    match &args.config {
        Some(config) => foreground(&program, config),
        None => lab::run(&paths, &program, &args.name),
    }
}

/// Becomes the agent, so that signals and exit status are its own.
fn foreground(program: &Path, config: &Path) -> Result<()> {
    let mut agent = Command::new(program);
    agent.arg("agent").arg("--config").arg(config);
    eprintln!("{}", process::shown(&agent));
    Err(agent.exec()).with_context(|| format!("cannot start {}", program.display()))
}
