//! The two halves of the product: the BPF object, and the agent that carries it inside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths::Paths;
use crate::process;
use crate::setup::{self, Toolchain};

const TARGET: &str = "bpfel-unknown-none";

#[derive(clap::Args)]
pub struct Args {
    /// Build the agent without optimisation; the BPF object is always a release build
    #[arg(long)]
    debug: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let paths = Paths::find()?;
    let object = object(&paths)?;
    let agent = agent(&paths, !args.debug)?;
    for file in [&object, &agent] {
        let size = file.metadata().with_context(|| format!("cannot read {}", file.display()))?.len();
        println!("{:>9} bytes  {}", size, paths.shown(file));
    }
    Ok(())
}

/// Set up what is missing, build the BPF object and return its path.
pub fn object(paths: &Paths) -> Result<PathBuf> {
    let toolchain = setup::for_build()?;
    process::run(&mut ebpf_cargo(paths, &toolchain, "build"))?;
    let built = paths.ebpf_target().join(TARGET).join("release/netroute-ebpf");
    let object = paths.object();
    publish(&built, &object)
        .with_context(|| format!("cannot copy {} to {}", built.display(), object.display()))?;
    Ok(object)
}

/// Build the agent with the object that is there and return the path of its binary.
pub fn agent(paths: &Paths, release: bool) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--package", "netroute-user", "--bin", "netroute"]).current_dir(&paths.workspace);
    if release {
        cargo.arg("--release");
    }
    process::run(&mut cargo)?;
    Ok(paths.target().join(if release { "release" } else { "debug" }).join("netroute"))
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
