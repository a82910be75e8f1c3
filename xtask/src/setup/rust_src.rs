//! The sources of `core`, of exactly this rustc: no compiled `core` for BPF is published, so each
//! build makes its own.
//!
//! Taken from the sysroot if they are there, else from rustup, else from Debian.

mod debian;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};

use super::Toolchain;
use crate::paths::Paths;
use crate::process;
use crate::progress::Step;

/// A few megabytes; a network that lets nothing through must not hold up the set-up.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(30);
/// A file that all forms of the sources have.
const PROBE: &str = "library/core/src/lib.rs";

/// Where cargo looks for them.
fn expected(toolchain: &Toolchain) -> PathBuf {
    toolchain.sysroot.join("lib/rustlib/src/rust")
}

fn cached(paths: &Paths, toolchain: &Toolchain) -> PathBuf {
    paths.cache.join("rust-src").join(&toolchain.release)
}

pub fn is_ready(paths: &Paths, toolchain: &Toolchain) -> bool {
    let place = expected(toolchain);
    // An update of the toolchain in place leaves our link to the sources of the release before.
    let ours = fs::read_link(&place).ok().filter(|target| target.starts_with(&paths.cache));
    ours.is_none_or(|target| target == cached(paths, toolchain)) && place.join(PROBE).is_file()
}

pub fn ensure(paths: &Paths, toolchain: &Toolchain) -> Result<()> {
    if is_ready(paths, toolchain) {
        return Ok(());
    }
    unlink(paths, toolchain)?;
    let release = &toolchain.release;
    let step = Step::begin(format!("rust-src {release}"));
    if cached(paths, toolchain).join(PROBE).is_file() {
        link(paths, toolchain)?;
        step.done();
        return Ok(());
    }
    let Err(by_rustup) = add_component(paths, toolchain, &step) else {
        step.done();
        return Ok(());
    };
    step.say(&format!("not from rustup ({}); trying Debian", first_line(&by_rustup)));
    match from_debian(paths, toolchain, &step) {
        Ok(()) => {
            step.done();
            Ok(())
        }
        Err(by_debian) => bail!(
            "no sources of the Rust library for rustc {release}; all three ways failed:\n  \
             1. in the toolchain: {} is missing\n  \
             2. `rustup component add rust-src`: {}\n  \
             3. Debian's package rust-src {release}: {by_debian:#}",
            expected(toolchain).join(PROBE).display(),
            first_line(&by_rustup),
        ),
    }
}

/// Take our link out of the sysroot; sources that someone else put there stay.
pub fn unlink(paths: &Paths, toolchain: &Toolchain) -> Result<()> {
    let place = expected(toolchain);
    match fs::read_link(&place) {
        Ok(target) if target.starts_with(&paths.cache) => {
            fs::remove_file(&place).with_context(|| format!("cannot remove {}", place.display()))
        }
        _ => Ok(()),
    }
}

fn add_component(paths: &Paths, toolchain: &Toolchain, step: &Step) -> Result<()> {
    if process::find("rustup").is_none() {
        bail!("rustup is not installed");
    }
    let mut rustup = Command::new("rustup");
    rustup
        .args(["component", "add", "rust-src"])
        .current_dir(&paths.workspace)
        .env("RUSTUP_MAX_RETRIES", "0")
        .env_remove("RUST_BACKTRACE");
    step.run_within(rustup, RUSTUP_PATIENCE)?;
    if !is_ready(paths, toolchain) {
        bail!("rustup reports success, but {} is missing", expected(toolchain).join(PROBE).display());
    }
    Ok(())
}

fn from_debian(paths: &Paths, toolchain: &Toolchain, step: &Step) -> Result<()> {
    let scratch = paths.cache.join("build/rust-src");
    if scratch.exists() {
        fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    }
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let unpacked = debian::fetch(&toolchain.release, &scratch, step)?;
    if !unpacked.join(PROBE).is_file() {
        bail!("the package has no {PROBE}");
    }
    let kept = cached(paths, toolchain);
    if let Some(parent) = kept.parent() {
        fs::create_dir_all(parent)?;
    }
    if kept.exists() {
        fs::remove_dir_all(&kept).with_context(|| format!("cannot remove {}", kept.display()))?;
    }
    fs::rename(&unpacked, &kept).with_context(|| format!("cannot move the sources to {}", kept.display()))?;
    fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    link(paths, toolchain)
}

fn link(paths: &Paths, toolchain: &Toolchain) -> Result<()> {
    let place = expected(toolchain);
    let target = cached(paths, toolchain);
    let linked = || -> std::io::Result<()> {
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        remove_incomplete(&place)?;
        std::os::unix::fs::symlink(&target, &place)
    };
    linked().with_context(|| format!("cannot link {} to {}", place.display(), target.display()))
}

/// A folder without sources, as a broken-off installation leaves it.
fn remove_incomplete(place: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(place) {
        Ok(meta) if meta.is_dir() && !place.join(PROBE).exists() => fs::remove_dir_all(place),
        Ok(meta) if meta.is_symlink() => fs::remove_file(place),
        _ => Ok(()),
    }
}

/// What is wrong and why, out of an error of many lines: rustup puts it behind `error:`, with the
/// cause at the end of a long chain.
fn first_line(error: &Error) -> String {
    let text = format!("{error:#}");
    let line = text.lines().find(|line| line.starts_with("error:")).or_else(|| text.lines().next());
    let line = line.unwrap_or_default().trim_start_matches("error:").trim();
    let mut links = line.split(": ");
    match (links.next(), links.last()) {
        (Some(what), Some(why)) => format!("{what}: {why}"),
        _ => line.to_owned(),
    }
}
