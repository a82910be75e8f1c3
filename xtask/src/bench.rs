//! `cargo xtask bench`: builds the benchmark with its BPF programs, and runs it.

use std::process::Command;

use anyhow::Result;

use crate::build;
use crate::paths::Paths;
use crate::process;
use crate::setup;

#[derive(clap::Args)]
pub struct Args {
    /// Handed to the benchmark; `cargo xtask bench -- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    let paths = Paths::find()?;
    setup::for_machine()?;
    build::object(&paths)?;
    // Sections that measure the agent start it.
    build::agent(&paths)?;
    let object = build::bench_object(&paths)?;
    let mut bench = Command::new("cargo");
    bench
        .args(["bench", "--profile", "release", "--workspace", "--bench", "netroute", "--"])
        .args(&args.arguments)
        .current_dir(&paths.workspace)
        .env("NETROUTE_BENCH_OBJECT", object);
    process::run(&mut bench)
}
