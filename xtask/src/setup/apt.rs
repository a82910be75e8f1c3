//! Programs of the system, installed by apt where the *command* is missing.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::progress::Step;

/// Command, and the Debian package that has it.
type Tool = (&'static str, &'static str);

/// For agent, lab and tests.
pub const TOOLS: [Tool; 9] = [
    ("ip", "iproute2"),
    ("bpftool", "bpftool"),
    ("nft", "nftables"),
    ("iptables-restore", "iptables"),
    ("ping", "iputils-ping"),
    ("ethtool", "ethtool"),
    ("tcpdump", "tcpdump"),
    ("strace", "strace"),
    ("faketime", "faketime"),
];

/// For test machines with other kernels.
pub const MACHINE: [Tool; 8] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("cpio", "cpio"),
    ("strip", "binutils"),
    ("gzip", "gzip"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("lz4", "lz4"),
    ("nsenter", "util-linux"),
];

/// Packages whose command is not there.
pub fn missing_of(tools: &[Tool]) -> Vec<&'static str> {
    tools
        .iter()
        .filter(|(command, _)| process::find(command).is_none())
        .map(|(_, package)| *package)
        .collect()
}

pub fn ensure(tools: &[Tool]) -> Result<()> {
    let packages = missing_of(tools);
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if process::find("apt-get").is_none() {
        bail!("missing system tools, and no apt here: install what Debian calls {list}");
    }
    if !process::is_root() {
        bail!("missing system tools: run `apt-get install {list}` as root");
    }
    let step = Step::begin(format!("system packages {list}"));
    // The index of a fresh machine is empty or old; where it is good, fetching it is a waste.
    if step.run(install(&packages)).is_err() {
        let mut update = Command::new("apt-get");
        update.args(["-q", "update"]);
        step.run(update).with_context(|| format!("cannot install {list}: cannot fetch the package index"))?;
        step.run(install(&packages)).with_context(|| format!("cannot install {list}"))?;
    }
    let left = missing_of(tools);
    if !left.is_empty() {
        bail!("apt installed {list}, but commands of {} are still missing", left.join(" "));
    }
    step.done();
    Ok(())
}

fn install(packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300", "install", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}
