//! Debian's package `rust-src`, from the mirror that apt already uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress::Step;
use crate::setup::archive::{self, Archive};

/// Where a release of Rust can be, newest first; backports keep several releases side by side.
const SUITES: [&str; 5] = ["trixie-backports", "sid", "forky", "trixie", "bookworm-backports"];

/// Folder below `scratch` with the sources of `release`, `library` in it.
pub fn fetch(release: &str, scratch: &Path, step: &Step) -> Result<PathBuf> {
    let mirrors = archive::mirrors()?;
    let mut tried = Vec::new();
    for mirror in &mirrors {
        for suite in SUITES {
            step.note(&format!("index of {suite} on {mirror}"));
            let archive = Archive::new(scratch.join(format!("apt-{suite}")), &[(mirror.clone(), suite)])?;
            let Some(version) = version_of(&archive, release, step)? else {
                tried.push(suite);
                continue;
            };
            step.say(&format!("Debian package rust-src {version} of {suite} on {mirror}"));
            let package = archive.download(&format!("rust-src={version}"), step)?;
            return unpack(&package, release, scratch);
        }
    }
    bail!("not in {} on {}", tried.join(", "), mirrors.join(", "))
}

/// Debian's version of the package for Rust `release`, `None` if the suite or the release is not there.
fn version_of(archive: &Archive, release: &str, step: &Step) -> Result<Option<String>> {
    if archive.update(step).is_err() {
        return Ok(None);
    }
    let known = archive.ask(&["madison", "rust-src"])?;
    let versions = known.lines().filter_map(|line| line.split('|').nth(1).map(str::trim));
    Ok(versions.into_iter().find(|version| is_release(version, release)).map(str::to_owned))
}

/// `1.95.0+dfsg1-2~bpo13+1` is a package of release `1.95.0`, `1.95.01` is none.
fn is_release(version: &str, release: &str) -> bool {
    version.strip_prefix(release).is_some_and(|rest| rest.starts_with(['+', '-']))
}

/// Only `library` is taken: the rest of the package is the compiler, 360 MB of it.
fn unpack(package: &Path, release: &str, scratch: &Path) -> Result<PathBuf> {
    let sources = scratch.join("sources");
    fs::create_dir_all(&sources).with_context(|| format!("cannot create {}", sources.display()))?;
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start `dpkg-deb`")?;
    let stream = archive.stdout.take().context("dpkg-deb has no standard output")?;
    let top = format!("./usr/src/rustc-{release}");
    let depth = top.split('/').count();
    let status = Command::new("tar")
        .arg("--extract")
        .arg("--directory")
        .arg(&sources)
        .arg(format!("--strip-components={depth}"))
        .arg(format!("{top}/library"))
        .stdin(stream)
        .status()
        .context("cannot start `tar`")?;
    let archive = archive.wait()?;
    if !status.success() || !archive.success() {
        bail!("cannot unpack {} (dpkg-deb {archive}, tar {status})", package.display());
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::is_release;

    #[test]
    fn only_the_exact_release_is_taken() {
        assert!(is_release("1.95.0+dfsg1-2~bpo13+1", "1.95.0"));
        assert!(!is_release("1.95.0~beta-1", "1.95.0"));
        assert!(!is_release("1.95.01-1", "1.95.0"));
        assert!(!is_release("1.94.1+dfsg1-1", "1.95.0"));
    }
}
