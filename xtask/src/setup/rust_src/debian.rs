//! Debian's package `rust-src`, from the mirror that apt already uses.
//!
//! apt itself does it, with sources and state of its own in a scratch folder: so signature of the
//! index and checksum of the package are verified as always, its proxy settings hold, and the
//! machine's own sources stay as they are. No root needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::progress::Step;

/// Where a release of Rust can be, newest first; backports keep several releases side by side.
const SUITES: [&str; 5] = ["trixie-backports", "sid", "forky", "trixie", "bookworm-backports"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Folder below `scratch` with the sources of `release`, `library` in it.
pub fn fetch(release: &str, scratch: &Path, step: &Step) -> Result<PathBuf> {
    for program in ["apt-get", "dpkg-deb", "tar"] {
        if process::find(program).is_none() {
            bail!("{program} is missing: this is no Debian");
        }
    }
    let mirrors = mirrors()?;
    let mut tried = Vec::new();
    for mirror in &mirrors {
        for suite in SUITES {
            step.note(&format!("index of {suite} on {mirror}"));
            let apt = Apt::new(mirror, suite, scratch)?;
            let Some(version) = apt.version_of(release, step)? else {
                tried.push(suite);
                continue;
            };
            step.say(&format!("Debian package rust-src {version} of {suite} on {mirror}"));
            return unpack(&apt.download(&version, step)?, release, scratch);
        }
    }
    bail!("not in {} on {}", tried.join(", "), mirrors.join(", "))
}

/// The Debian archives among apt's sources, as they are written there.
fn mirrors() -> Result<Vec<String>> {
    // Without release information: the lists of a fresh machine are empty.
    let sites = process::read(Command::new("apt-get").args([
        "--no-release-info",
        "indextargets",
        "--format",
        "$(SITE)",
        "Created-By: Packages",
    ]))?;
    let mut mirrors: Vec<String> = Vec::new();
    for site in sites.lines().map(|site| site.trim_end_matches('/')) {
        if site.ends_with("/debian") && !mirrors.iter().any(|known| known == site) {
            mirrors.push(site.to_owned());
        }
    }
    if mirrors.is_empty() {
        bail!("apt uses no Debian mirror (no source that ends with /debian)");
    }
    Ok(mirrors)
}

/// apt with one suite of one mirror as its whole world.
struct Apt {
    folder: PathBuf,
    options: Vec<String>,
}

impl Apt {
    fn new(mirror: &str, suite: &str, scratch: &Path) -> Result<Self> {
        let folder = scratch.join(format!("apt-{suite}"));
        for part in ["lists/partial", "cache/archives/partial", "download"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        let signed =
            if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
        let source = folder.join("sources.list");
        fs::write(&source, format!("deb {signed}{mirror} {suite} main\n"))
            .with_context(|| format!("cannot write {}", source.display()))?;
        let at = |part: &str| folder.join(part).display().to_string();
        let options = [
            format!("Dir::Etc::SourceList={}", at("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::State::Status=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            // The download user of apt cannot write into a home folder.
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=1".to_owned(),
            "Acquire::http::Timeout=20".to_owned(),
            // A suite that cannot be fetched is an error, not a warning.
            "APT::Update::Error-Mode=any".to_owned(),
        ];
        Ok(Self { folder, options: options.into() })
    }

    /// Debian's version of the package for Rust `release`, `None` if the suite or the release is not there.
    fn version_of(&self, release: &str, step: &Step) -> Result<Option<String>> {
        let mut update = self.command("apt-get");
        update.args(["-q", "update"]);
        if step.run(update).is_err() {
            return Ok(None);
        }
        let known = process::read(self.command("apt-cache").args(["madison", "rust-src"]))?;
        let versions = known.lines().filter_map(|line| line.split('|').nth(1).map(str::trim));
        Ok(versions.into_iter().find(|version| is_release(version, release)).map(str::to_owned))
    }

    fn download(&self, version: &str, step: &Step) -> Result<PathBuf> {
        let folder = self.folder.join("download");
        let mut download = self.command("apt-get");
        download.args(["-q", "download"]).arg(format!("rust-src={version}")).current_dir(&folder);
        step.run(download)?;
        let mut packages = fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        packages
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| format!("apt left no package in {}", folder.display()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }
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
