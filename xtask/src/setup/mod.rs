//! What the other commands need, installed once: idempotent, and quick when all is there.
//!
//! The state of the machine itself is looked at each time; nothing is believed because it was done before.

mod apt;
pub mod archive;
mod bpf_linker;
mod bpffs;
mod rust_src;
mod toolchain;

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, bail};

pub use toolchain::Toolchain;

use crate::paths::Paths;

/// Type information of the running kernel; maps and programs carry BTF that it must understand.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
const LOCK: &str = "setup.lock";

#[derive(clap::Args, Default)]
pub struct Args {
    /// Remove the tools and downloads in the cache folder, and the links to them
    #[arg(long)]
    clean: bool,
}

pub fn run(args: &Args) -> Result<()> {
    if args.clean {
        return clean();
    }
    let toolchain = for_machine()?;
    println!("ready: rustc {}, bpf-linker {}", toolchain.release, toolchain.bpf_linker.display());
    Ok(())
}

/// What it takes to build the BPF object: the sources of `core` and the linker.
pub fn for_build() -> Result<Toolchain> {
    let paths = Paths::find()?;
    let toolchain = Toolchain::detect(&paths)?;
    if rust_src::is_ready(&paths, &toolchain) && bpf_linker::is_ready(&toolchain) {
        return Ok(toolchain);
    }
    let _lock = lock(&paths.cache)?;
    rust_src::ensure(&paths, &toolchain)?;
    bpf_linker::ensure(&paths, &toolchain)?;
    Ok(toolchain)
}

/// What it takes to load and run it on this machine as well: system tools, bpffs, BTF. Needs root
/// if something is missing.
pub fn for_machine() -> Result<Toolchain> {
    let toolchain = for_build()?;
    if !apt::missing_of(&apt::TOOLS).is_empty() {
        let _lock = lock(&Paths::find()?.cache)?;
        apt::ensure(&apt::TOOLS)?;
    }
    bpffs::ensure()?;
    if !Path::new(KERNEL_BTF).exists() {
        bail!("{KERNEL_BTF} is missing: boot a kernel built with CONFIG_DEBUG_INFO_BTF=y");
    }
    Ok(toolchain)
}

/// Other stock kernels, and a machine to run them on. Needs root if a package is missing.
pub fn for_kernels() -> Result<()> {
    let paths = Paths::find()?;
    if !apt::missing_of(&apt::MACHINE).is_empty() {
        let _lock = lock(&paths.cache)?;
        apt::ensure(&apt::MACHINE)?;
    }
    Ok(())
}

/// Held while the cache or the system is changed, so that two set-ups at once do the work once.
pub fn lock(cache: &Path) -> Result<File> {
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let path = cache.join(LOCK);
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("setup: waiting for another set-up on this machine to finish");
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    Ok(file)
}

fn clean() -> Result<()> {
    let paths = Paths::find()?;
    if !paths.cache.exists() {
        println!("nothing to remove: {} does not exist", paths.cache.display());
        return Ok(());
    }
    let _lock = lock(&paths.cache)?;
    rust_src::unlink(&paths, &Toolchain::detect(&paths)?)?;
    for entry in fs::read_dir(&paths.cache)? {
        let entry = entry?;
        // The lock stays: whoever waits for it must not hold a file that has no name any more.
        if entry.file_name() == LOCK {
            continue;
        }
        let path = entry.path();
        let removed =
            if entry.file_type()?.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
        println!("removed {}", path.display());
    }
    Ok(())
}
