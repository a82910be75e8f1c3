//! The project's own commands: `cargo xtask <command>`.
//!
//! A command is a module with an `Args` and a `run(Args)`, one variant of [`Command`] and one arm
//! of `main`. Each prepares what it needs through [`setup`], so that a fresh clone needs no other step.

mod abi;
mod bench;
mod broken;
mod build;
mod demo;
mod elf;
mod fuzz;
mod lab;
mod lint;
mod miri;
mod paths;
mod process;
mod progress;
mod semantics;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about = "Set up, build, check and test netroute")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the other commands need (they call it by themselves)
    Setup(setup::Args),
    /// Build the BPF object and the agent that carries it
    Build(build::Args),
    /// Build, then start the agent: on the lab's VMs with a demonstration, or on this machine's NICs
    BuildAndLoad(demo::Args),
    /// Run the tests and say what was skipped and why
    Test(test::Args),
    /// Measure the data plane against its floors and against the kernel's own ways
    Bench(bench::Args),
    /// Run the fuzz targets of tests/fuzz for a minute each
    Fuzz(fuzz::Args),
    /// Run the unit tests of netroute-common under Miri, where a toolchain has it
    Miri(miri::Args),
    /// Check the BPF object for paths to a panic and print instruction counts
    Elf(elf::Args),
    /// Write the map layouts of the BPF object to netroute-common/abi.txt, or check them
    Abi(abi::Args),
    /// The appliance in network namespaces: up, down, status
    Lab(lab::LabCommand),
    /// Check formatting, clippy and file lengths
    Lint(lint::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Build(args) => build::run(&args),
        Command::BuildAndLoad(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Miri(args) => miri::run(&args),
        Command::Elf(args) => elf::run(&args),
        Command::Abi(args) => abi::run(&args),
        Command::Lab(args) => setup::run(&setup::Args::default()).and_then(|()| args.run()),
        Command::Lint(args) => lint::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without anyhow's backtrace, which says nothing to whoever runs this.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
