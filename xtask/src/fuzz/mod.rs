//! `cargo xtask fuzz`: the targets of `tests/fuzz`, two at a time, for a given time each.
//!
//! They are in cargo-fuzz's layout and work with it too; here they are built with the same coverage
//! instrumentation by the pinned toolchain, so that nothing has to be installed.

mod run;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::build;
use crate::paths::Paths;
use crate::process;
use crate::setup;
use run::{Folders, Outcome};

/// At once, each on a processor of its own on the smallest machine this is run on.
const AT_ONCE: usize = 2;

#[derive(clap::Args)]
pub struct Args {
    /// Only these; all if none is given
    #[arg(value_enum, value_name = "TARGET")]
    targets: Vec<Target>,
    /// How long each of them runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
}

/// A file of `tests/fuzz/fuzz_targets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Frames over tables, by the packet logic on the host
    Packet,
    /// The same, host against kernel
    Differential,
    Manifests,
    Config,
    Cmdlet,
    Api,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Differential => "differential",
            Self::Manifests => "manifests",
            Self::Config => "config",
            Self::Cmdlet => "cmdlet",
            Self::Api => "api",
        }
    }

    /// Longest input, bytes.
    fn longest(self) -> u32 {
        match self {
            Self::Packet | Self::Differential => 1600,
            Self::Cmdlet => 512,
            Self::Manifests | Self::Config | Self::Api => 2048,
        }
    }

    /// Words that inputs are made of, a file of `tests/fuzz/dictionaries`.
    fn dictionary(self) -> Option<&'static str> {
        match self {
            Self::Packet | Self::Differential => None,
            Self::Manifests | Self::Config => Some("yaml.dict"),
            Self::Cmdlet => Some("cmdlet.dict"),
            Self::Api => Some("api.dict"),
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    let paths = Paths::find()?;
    let mut targets: Vec<Target> =
        if args.targets.is_empty() { Target::value_variants().to_vec() } else { args.targets.clone() };
    if targets.contains(&Target::Differential) {
        if process::is_root() {
            setup::for_machine()?;
            build::object(&paths)?;
        } else {
            println!("SKIP differential: needs root");
            targets.retain(|target| *target != Target::Differential);
        }
    }
    let programs = build(&paths, &targets)?;
    let folders = Folders::of(&paths);
    println!("fuzzing {} targets, {} s each, {AT_ONCE} at a time", targets.len(), args.seconds);

    let (waiting, found) = (Mutex::new(VecDeque::from(targets)), Mutex::new(Vec::new()));
    let next = || waiting.lock().ok()?.pop_front();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(target) = next() {
                    let ran = run::one(&folders, &programs, target, args.seconds);
                    if let Some(problem) = told(target, ran)
                        && let Ok(mut found) = found.lock()
                    {
                        found.push(problem);
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or_default();
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    Ok(())
}

/// Says how it went; what was found, if something was.
fn told(target: Target, ran: Result<Outcome>) -> Option<String> {
    let name = target.name();
    match ran {
        Ok(Outcome { runs, coverage, crashes, said }) if crashes.is_empty() => {
            println!("ok      {name:<12}  {runs} inputs, {coverage} places reached");
            (runs == 0).then(|| format!("{name} ran no input:\n{said}"))
        }
        Ok(Outcome { crashes, said, .. }) => {
            println!("FAILED  {name:<12}\n{said}");
            let files: Vec<String> = crashes.iter().map(|file| file.display().to_string()).collect();
            Some(format!("{name} fails with {}; kept as a test of each later run", files.join(", ")))
        }
        Err(error) => Some(format!("{name}: {error:#}")),
    }
}

/// Builds the targets and returns the folder of their programs.
fn build(paths: &Paths, targets: &[Target]) -> Result<PathBuf> {
    // What cargo-fuzz passes: counters at each edge, and the values that are compared.
    let flags = [
        "--cfg=fuzzing",
        "-Cpasses=sancov-module",
        "-Cllvm-args=-sanitizer-coverage-level=4",
        "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
        "-Cllvm-args=-sanitizer-coverage-pc-table",
        "-Cllvm-args=-sanitizer-coverage-trace-compares",
    ];
    let host = host(paths)?;
    let target_folder = paths.workspace.join("target/fuzz");
    let mut cargo = Command::new("cargo");
    // A target of its own, so that build scripts and macros are not instrumented.
    cargo.args(["build", "--release", "--locked", "--target", &host, "--target-dir"]).arg(&target_folder);
    for target in targets {
        cargo.args(["--bin", target.name()]);
    }
    cargo
        .current_dir(run::folder(paths))
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // No target loads what the agent carries inside: a new object need not build it anew.
        .env("NETROUTE_BPF_OBJECT", "/dev/null")
        .env_remove("RUSTFLAGS");
    process::run(&mut cargo)?;
    Ok(target_folder.join(host).join("release"))
}

fn host(paths: &Paths) -> Result<String> {
    let version = process::read(Command::new("rustc").arg("-vV").current_dir(&paths.workspace))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_file_and_every_file_is_a_target() {
        let folder = run::folder(&Paths::find().unwrap()).join("fuzz_targets");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let mut names: Vec<&str> = Target::value_variants().iter().map(|target| target.name()).collect();
        files.sort();
        names.sort_unstable();
        assert_eq!(files, names);
    }
}
