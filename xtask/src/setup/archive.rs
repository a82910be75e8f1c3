//! Debian's archives beside those that the machine installs from.
//!
//! apt itself reads them, with sources and state of its own in a folder: so signature of the index and
//! checksum of a package are verified as always, its proxy settings hold, and the machine's own sources stay
//! as they are. No root needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::progress::Step;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The Debian archives among apt's sources, as they are written there.
pub fn mirrors() -> Result<Vec<String>> {
    for program in ["apt-get", "dpkg-deb", "tar"] {
        if process::find(program).is_none() {
            bail!("{program} is missing: this is no Debian");
        }
    }
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

/// apt with these suites as its whole world.
pub struct Archive {
    folder: PathBuf,
    options: Vec<String>,
}

impl Archive {
    /// Keeps its state in `folder`. A source is the address of an archive and the name of a suite.
    pub fn new(folder: PathBuf, sources: &[(String, &str)]) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial", "download"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        let signed =
            if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
        let lines = sources.iter().map(|(address, suite)| format!("deb {signed}{address} {suite} main\n"));
        let list = folder.join("sources.list");
        fs::write(&list, lines.collect::<String>())
            .with_context(|| format!("cannot write {}", list.display()))?;
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
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::Retries=1".to_owned(),
            "Acquire::http::Timeout=20".to_owned(),
            // A suite that cannot be fetched is an error, not a warning.
            "APT::Update::Error-Mode=any".to_owned(),
        ];
        Ok(Self { folder, options: options.into() })
    }

    /// Fetches the indices.
    pub fn update(&self, step: &Step) -> Result<()> {
        let mut update = self.command("apt-get");
        update.args(["-q", "update"]);
        step.run(update)
    }

    /// What `apt-cache` says to these arguments.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        process::read(self.command("apt-cache").args(arguments))
    }

    /// The file of a package, given as `NAME` or `NAME=VERSION`.
    pub fn download(&self, package: &str, step: &Step) -> Result<PathBuf> {
        let folder = self.folder.join("download");
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        fs::create_dir_all(&folder)?;
        let mut download = self.command("apt-get");
        download.args(["-q", "download", package]).current_dir(&folder);
        step.run(download)?;
        let mut files = fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        files
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
