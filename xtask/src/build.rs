//! The two halves of the product: the BPF object, and the agent that carries it inside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths::Paths;
use crate::process;
use crate::setup::{self, Toolchain};

const TARGET: &str = "bpfel-unknown-none";
const AGENT: &str = "netroute";
const LAB_PEER: &str = "netroute-lab-peer";

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<()> {
    let paths = Paths::find()?;
    let object = object(&paths)?;
    let agent = agent(&paths)?;
    for file in [&object, &agent] {
        let size = file.metadata().with_context(|| format!("cannot read {}", file.display()))?.len();
        println!("{:>9} bytes  {}", size, paths.shown(file));
    }
    Ok(())
}

/// Set up what is missing, build the BPF object and return its path.
pub fn object(paths: &Paths) -> Result<PathBuf> {
    let built = ebpf_binary(paths, "netroute-ebpf")?;
    let object = paths.object();
    publish(&built, &object)
        .with_context(|| format!("cannot copy {} to {}", built.display(), object.display()))?;
    Ok(object)
}

/// The same for the benchmark's own BPF programs. The agent does not carry them.
pub fn bench_object(paths: &Paths) -> Result<PathBuf> {
    ebpf_binary(paths, "netroute-bench")
}

fn ebpf_binary(paths: &Paths, name: &str) -> Result<PathBuf> {
    let toolchain = setup::for_build()?;
    process::run(ebpf_cargo(paths, &toolchain, "build").args(["--bin", name]))?;
    Ok(paths.ebpf_target().join(TARGET).join("release").join(name))
}

/// Build the agent with the object that is there, and the lab's server beside it; return the path
/// of the agent's binary.
pub fn agent(paths: &Paths) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    // All members are chosen, so that crates are compiled with the features that the tests ask for too.
    cargo.args(["build", "--release", "--workspace", "--bin", AGENT, "--bin", LAB_PEER]);
    process::run(cargo.current_dir(&paths.workspace))?;
    Ok(paths.target().join("release").join(AGENT))
}

/// `cargo <verb>` for the BPF crate, with all that its target asks for.
pub fn ebpf_cargo(paths: &Paths, toolchain: &Toolchain, verb: &str) -> Command {
    let flags = [
        // BTF is made from debug information; bpf-linker writes it only when asked.
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        "-Cpanic=abort",
    ];
    let mut cargo = Command::new("cargo");
    cargo
        .arg(verb)
        .args(["--release", "--target", TARGET, "-Zbuild-std=core", "--target-dir"])
        .arg(paths.ebpf_target())
        .current_dir(paths.ebpf())
        // A stable rustc otherwise refuses to build `core`; only this crate is built so.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.bpf_linker)
        .env_remove("RUSTFLAGS");
    cargo
}

/// Copy in one step, and only what is new: an unchanged object must not rebuild the agent.
fn publish(built: &Path, object: &Path) -> std::io::Result<()> {
    let bytes = fs::read(built)?;
    if fs::read(object).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(folder) = object.parent() {
        fs::create_dir_all(folder)?;
    }
    // Beside the folder, which the agent's build script watches.
    let staged = object.with_file_name("../netroute.bpf.o.new");
    fs::write(&staged, bytes)?;
    fs::rename(&staged, object)
}
