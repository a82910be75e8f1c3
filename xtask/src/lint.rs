//! What each commit must hold: formatting, clippy without warnings, files that fit into a head.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::paths::Paths;
use crate::process;
use crate::setup;

/// Lines of a Rust file.
const LONGEST: usize = 400;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<()> {
    let paths = Paths::find()?;
    let toolchain = setup::for_build()?;
    components(&paths)?;
    file_lengths(&paths)?;

    let cargo = || {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&paths.workspace);
        cargo
    };
    process::run(cargo().args(["fmt", "--all", "--check"])).context("run `cargo fmt --all`")?;
    process::run(cargo().args(["fmt", "--check"]).current_dir(paths.ebpf()))
        .context("run `cargo fmt` in netroute-ebpf")?;
    process::run(cargo().args(["fmt", "--check"]).current_dir(paths.workspace.join("tests/fuzz")))
        .context("run `cargo fmt` in tests/fuzz")?;
    process::run(cargo().args(["clippy", "--release", "--workspace", "--all-targets", "--", "-Dwarnings"]))?;
    process::run(build::ebpf_cargo(&paths, &toolchain, "clippy").args(["--", "-Dwarnings"]))?;
    println!("lint: clean");
    Ok(())
}

/// rustup's minimal profile comes without them.
fn components(paths: &Paths) -> Result<()> {
    for (program, component) in [("cargo-clippy", "clippy"), ("cargo-fmt", "rustfmt")] {
        let version = process::read(Command::new(program).arg("--version").current_dir(&paths.workspace));
        if version.is_err() {
            let mut add = Command::new("rustup");
            add.args(["component", "add", component]).current_dir(&paths.workspace);
            process::run(&mut add).with_context(|| format!("the toolchain has no {component}"))?;
        }
    }
    Ok(())
}

fn file_lengths(paths: &Paths) -> Result<()> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "--", "*.rs"]);
    let files = process::read(git.current_dir(&paths.workspace))?;
    let mut long = Vec::new();
    for file in files.lines() {
        // A file that is deleted but not yet committed is still listed.
        let Ok(text) = fs::read_to_string(paths.workspace.join(file)) else { continue };
        let lines = text.lines().count();
        if lines > LONGEST {
            long.push(format!("{file}: {lines} lines"));
        }
    }
    if !long.is_empty() {
        bail!("files over {LONGEST} lines, split them by idea:\n{}", long.join("\n"));
    }
    Ok(())
}
