//! Control groups of version 2: make, enter, remove.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::netns::kill_if;

const MOUNTS: &str = "/proc/self/mounts";
const OWN: &str = "/proc/self/cgroup";
const MEMBERS: &str = "cgroup.procs";
const PATIENCE: Duration = Duration::from_secs(5);

/// A group of its own for one test, with the test's process in it. Dropping it puts its processes back to
/// where the test's came from, and removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    home: PathBuf,
}

impl Cgroup {
    /// `None` where no groups of version 2 are mounted.
    pub fn enter() -> Result<Option<Self>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Some(root) = root()? else { return Ok(None) };
        let own = fs::read_to_string(OWN)?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).context("no group of version 2")?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let group = Self {
            path: root.join(format!("netroute-test-{}-{count}", std::process::id())),
            home: root.join(own),
        };
        fs::create_dir(&group.path).with_context(|| format!("cannot make {}", group.path.display()))?;
        put(&group.path, &std::process::id().to_string())?;
        Ok(Some(group))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let members = fs::read_to_string(self.path.join(MEMBERS)).unwrap_or_default();
        for member in members.lines() {
            // It may have ended by now.
            let _ = put(&self.home, member);
        }
        // Those made below it are empty, and may be gone.
        for below in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(below.path());
        }
        if let Err(error) = fs::remove_dir(&self.path) {
            eprintln!("{} was not removed: {error}", self.path.display());
        }
    }
}

/// Moves a process into a group.
pub(crate) fn put(group: &Path, process: &str) -> Result<()> {
    let file = group.join(MEMBERS);
    fs::write(&file, process).with_context(|| format!("cannot write {process} to {}", file.display()))
}

/// Ends what is in a group, and removes it. Harmless where there is none.
pub(crate) fn remove(group: &Path) -> Result<()> {
    let members = || fs::read_to_string(group.join(MEMBERS)).unwrap_or_default();
    for member in members().lines() {
        let is_in_it = || members().lines().any(|other| other == member);
        kill_if(member.parse()?, is_in_it)?;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            // The last to leave it may still be on its way.
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            removed => return removed.with_context(|| format!("cannot remove {}", group.display())),
        }
    }
}

/// Where groups of version 2 are mounted.
pub(crate) fn root() -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string(MOUNTS)?;
    let of = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        (words.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(words[1]))
    };
    Ok(mounts.lines().find_map(of))
}
