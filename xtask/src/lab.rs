//! `cargo xtask lab up|down|status`: the appliance in network namespaces, to look around in.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use netroute_tests::lab::{self, DEFAULT_PREFIX, Lab, Vm};

#[derive(Debug, Args)]
pub struct LabCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the lab; harmless if it is up
    Up(Name),
    /// Remove the lab and everything that runs in it
    Down(Name),
    /// Show namespaces, addresses and processes
    Status(Name),
}

#[derive(Debug, Args)]
struct Name {
    /// Prefix of all of the lab's names; labs with different ones stand side by side
    #[arg(long, value_name = "PREFIX", default_value = DEFAULT_PREFIX)]
    name: String,
}

impl LabCommand {
    pub fn run(self) -> Result<()> {
        match self.action {
            Action::Up(Name { name }) => up(&name).map(drop),
            Action::Down(Name { name }) => {
                lab::down(&name)?;
                println!("lab {name} is down");
                Ok(())
            }
            Action::Status(Name { name }) => status(&name),
        }
    }
}

/// Builds the lab's server program, then the lab.
pub fn up(name: &str) -> Result<Lab> {
    lab::build_servers()?;
    let begin = Instant::now();
    let lab = Lab::up(name)?;
    println!("lab {name} is up ({:.1} s); look around:", begin.elapsed().as_secs_f64());
    let [master, _] = lab.vms();
    println!("  cargo xtask lab status --name {name}");
    println!("  {} ip route", enter(&master));
    println!("  {} ping -c 1 {}", enter(&master), lab::plan::INTERNET.v4);
    Ok(lab)
}

/// The words that run a command inside a VM. Not `ip netns exec`: that hides the bpffs.
pub fn enter(vm: &Vm) -> String {
    format!("nsenter --net={}", vm.ns().path().display())
}

fn status(name: &str) -> Result<()> {
    let status = lab::status(name)?;
    ensure!(
        status.rows.iter().any(|row| row.exists),
        "lab {name} is not up: run `cargo xtask lab up --name {name}`"
    );
    print!("{status}");
    Lab::attach(name).map(drop).context("incomplete")
}
