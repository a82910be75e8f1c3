//! Network namespaces: make, enter, remove.
//!
//! Only the network namespace is entered, never by `ip netns exec`: that mounts a fresh `/sys`,
//! and a program started by it would see neither the machine's bpffs nor its cgroups.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

const RUN: &str = "/run/netns";

/// A named network namespace. The value is a name, not an owner: dropping it removes nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Netns {
    name: String,
}

impl Netns {
    pub fn create(name: &str) -> Result<Self> {
        create_all(std::slice::from_ref(&name))?;
        Ok(Self::named(name))
    }

    /// The namespace of this name, whether it exists or not.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> PathBuf {
        Path::new(RUN).join(&self.name)
    }

    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    pub fn delete(&self) -> Result<()> {
        ip_batch(&format!("netns del {}\n", self.name))
    }

    /// Runs `work` in a thread of its own inside the namespace. Sockets that it opens and
    /// processes that it starts stay in the namespace, also when they are handed out.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let outcome = thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter()?;
                    work()
                })
                .join()
        });
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Moves the calling thread into the namespace, for good.
    pub fn enter(&self) -> Result<()> {
        let file = File::open(self.path()).with_context(|| format!("no namespace {}", self.name))?;
        setns(&file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter namespace {}", self.name))
    }

    /// A command that will run inside the namespace, with the machine's own `/sys`.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display()));
        command.arg("--").arg(program);
        command
    }

    /// Runs one `ip` command line, such as `route add 192.0.2.0/24 dev eth0`.
    pub fn ip(&self, line: &str) -> Result<()> {
        self.ip_script(&format!("{line}\n"))
    }

    /// Runs many `ip` command lines in one process.
    pub fn ip_script(&self, script: &str) -> Result<()> {
        self.run(|| ip_batch(script)).with_context(|| format!("in namespace {}", self.name))
    }

    /// Loads nftables rules.
    pub fn nft(&self, rules: &str) -> Result<()> {
        self.run(|| feed(Command::new("nft").args(["-f", "-"]), rules))
            .with_context(|| format!("in namespace {}", self.name))
    }

    /// Sets keys below `/proc/sys/net`.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            settings.iter().try_for_each(|(key, value)| {
                let path = format!("/proc/sys/net/{key}");
                fs::write(&path, value).with_context(|| format!("cannot write {value} to {path}"))
            })
        })
        .with_context(|| format!("in namespace {}", self.name))
    }

    /// Processes inside the namespace, as (pid, command name).
    pub fn processes(&self) -> Result<Vec<(u32, String)>> {
        let own = fs::metadata(self.path()).with_context(|| format!("no namespace {}", self.name))?.ino();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process that ends meanwhile is no error: it is not in the namespace.
            if inode_of(pid) == Some(own) {
                let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                found.push((pid, name.trim().to_owned()));
            }
        }
        Ok(found)
    }
}

impl std::fmt::Display for Netns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Makes all of these namespaces by one process.
pub fn create_all(names: &[impl AsRef<str>]) -> Result<()> {
    ip_batch(&names.iter().map(|name| format!("netns add {}\n", name.as_ref())).collect::<String>())
}

/// Removes those of the namespaces that exist.
pub fn delete_all(namespaces: &[Netns]) -> Result<()> {
    let script: String = namespaces
        .iter()
        .filter(|namespace| namespace.exists())
        .map(|namespace| format!("netns del {}\n", namespace.name))
        .collect();
    ip_batch(&script)
}

/// Kills every process inside the namespaces and waits until each has ended.
pub fn kill_all(namespaces: &[Netns]) -> Result<()> {
    for namespace in namespaces.iter().filter(|namespace| namespace.exists()) {
        let own = fs::metadata(namespace.path())?.ino();
        for (pid, name) in namespace.processes()? {
            kill_if(pid, || inode_of(pid) == Some(own))
                .with_context(|| format!("cannot end {name} ({pid}) in {namespace}"))?;
        }
    }
    Ok(())
}

/// Kills a process and waits for its end, if it is the one that is meant: its id may have been
/// given to another meanwhile.
pub(crate) fn kill_if(pid: u32, is_meant: impl FnOnce() -> bool) -> Result<()> {
    let raw = i32::try_from(pid)?;
    let Some(handle) = Pid::from_raw(raw) else { bail!("{pid} is no process id") };
    let Ok(handle) = pidfd_open(handle, PidfdFlags::empty()) else {
        return Ok(());
    };
    // Asked with the handle open: from here on the id cannot change hands unnoticed.
    if is_meant() && pidfd_send_signal(&handle, Signal::KILL).is_ok() {
        poll(&mut [PollFd::new(&handle, PollFlags::IN)], None)?;
    }
    Ok(())
}

fn inode_of(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|namespace| namespace.ino())
}

/// Runs `ip` command lines in the caller's namespace.
pub fn ip_batch(script: &str) -> Result<()> {
    if script.is_empty() {
        return Ok(());
    }
    feed(Command::new("ip").args(["-batch", "-"]), script)
}

/// Runs a command with this standard input; its error output and the input make up the error.
pub fn feed(command: &mut Command, input: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}: is it installed?"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // A program that gives up early closes the pipe; its own message says more than that does.
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{program}: {}\ninput was:\n{input}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(written?)
}
