//! `bpf-linker` from crates.io, linked to rustc's own LLVM: no LLVM of the system is needed, and the
//! bitcode it reads is always of its own version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Toolchain;
use crate::paths::Paths;
use crate::process;
use crate::progress::Step;

const VERSION: &str = "0.13.0";

/// Where the linker for rustc `release` is kept.
pub fn program(paths: &Paths, release: &str) -> PathBuf {
    root(paths, release).join("bin/bpf-linker")
}

/// Started, not only found: it loads LLVM from the sysroot, which may have moved.
pub fn is_ready(toolchain: &Toolchain) -> bool {
    process::read(Command::new(&toolchain.bpf_linker).arg("--version"))
        .is_ok_and(|version| version.ends_with(VERSION))
}

pub fn ensure(paths: &Paths, toolchain: &Toolchain) -> Result<()> {
    if is_ready(toolchain) {
        return Ok(());
    }
    let step = Step::begin(format!("bpf-linker {VERSION} (compiled once, one to two minutes)"));
    let scratch = paths.cache.join("build/bpf-linker");
    let staged = scratch.join("root");
    remove(&scratch)?;
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    step.run(install(toolchain, &scratch, &staged)?).context("cannot install bpf-linker from crates.io")?;

    // Renamed at the end: an interrupted build leaves nothing that looks installed.
    let root = root(paths, &toolchain.release);
    remove(&root)?;
    fs::create_dir_all(paths.cache.join("tools"))?;
    fs::rename(&staged, &root)
        .with_context(|| format!("cannot move {} to {}", staged.display(), root.display()))?;
    remove(&scratch)?;
    process::read(Command::new(&toolchain.bpf_linker).arg("--version"))
        .context("the new bpf-linker does not start")?;
    step.done();
    Ok(())
}

fn root(paths: &Paths, release: &str) -> PathBuf {
    paths.cache.join("tools").join(format!("bpf-linker-{VERSION}-rustc-{release}"))
}

fn install(toolchain: &Toolchain, scratch: &Path, root: &Path) -> Result<Command> {
    let library = toolchain.sysroot.join("lib");
    let library = library.to_str().context("the path of the Rust sysroot is not UTF-8")?;
    let flags = [
        "-L".to_owned(),
        format!("native={library}"),
        "-l".to_owned(),
        format!("dylib={}", toolchain.llvm_library()?),
        "-C".to_owned(),
        format!("link-arg=-Wl,-rpath,{library}"),
    ];
    let mut cargo = Command::new("cargo");
    cargo
        .args(["install", "bpf-linker", "--locked", "--no-default-features", "--version"])
        .arg(format!("={VERSION}"))
        .arg("--features")
        .arg(format!("llvm-{},no-llvm-linking", toolchain.llvm_major))
        .arg("--root")
        .arg(root)
        .arg("--target-dir")
        .arg(scratch.join("target"))
        // Outside of the workspace, where neither its settings nor its pinned toolchain apply.
        .current_dir(scratch)
        .env("RUSTUP_TOOLCHAIN", &toolchain.sysroot)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    Ok(cargo)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
