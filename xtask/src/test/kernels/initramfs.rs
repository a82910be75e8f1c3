//! What a machine starts from: the test binaries as they are built, the programs they call, and the shared
//! libraries of both, all at the places where they lie here.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use netroute_tests::guest::{PLAN, Plan};

use super::image::Modules;
use super::packages::Kernel;
use crate::paths::Paths;
use crate::process;

/// Programs that tests and their harness call.
const TOOLS: [&str; 23] = [
    "ip", "tc", "bpftool", "nft", "ping", "tcpdump", "ethtool", "nsenter", "unshare", "setpriv", "timeout",
    "sh", "sysctl", "sleep", "cat", "rm", "mkdir", "mount", "umount", "kill", "true", "grep", "env",
];
/// Kernel modules that the tests' networks are made of.
const MODULES: [&str; 9] = [
    "veth",
    "bridge",
    "sch_ingress",
    "cls_bpf",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "nft_reject_inet",
];
/// tcpdump insists on becoming a user of its own.
const USERS: &str =
    "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\ntcpdump:x:100:100::/:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nnogroup:x:65534:\ntcpdump:x:100:\n";
/// Links of a merged `/usr`: the same file is found by either name.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// Names of protocols and tables, for `ip`.
const SETTINGS: [&str; 2] = ["/etc/iproute2", "/usr/share/iproute2"];

/// Packs all that does not depend on the kernel. `data` are files that tests read.
pub fn base(paths: &Paths, binaries: &[PathBuf], data: &[PathBuf], work: &Path) -> Result<PathBuf> {
    let root = work.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for folder in MERGED {
        fs::create_dir_all(root.join("usr").join(folder))?;
        symlink(format!("usr/{folder}"), root.join(folder))?;
    }
    for folder in ["proc", "sys", "dev", "tmp", "run", "etc", "var/tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(root.join("etc/passwd"), USERS)?;
    fs::write(root.join("etc/group"), GROUPS)?;
    let tools = TOOLS.map(|tool| process::find(tool).with_context(|| format!("`{tool}` is not installed")));
    let tools = tools.into_iter().collect::<Result<Vec<_>>>()?;
    let init = paths.target().join("release/netroute-guest-init");
    let programs: Vec<&PathBuf> = binaries.iter().chain(&tools).chain([&init]).collect();
    for binary in binaries.iter().chain([&init]) {
        let place = place(&root, binary)?;
        // Debug information is nine tenths of a test binary.
        process::run(Command::new("strip").arg("-o").arg(&place).arg(binary))?;
    }
    symlink(&init, root.join("init"))?;
    for file in tools.iter().chain(&libraries(&programs)?) {
        fs::copy(file, place(&root, file)?).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    let settings = SETTINGS.iter().map(PathBuf::from).filter(|path| path.exists());
    for item in data.iter().cloned().chain(settings) {
        let place = place(&root, &item)?;
        process::run(Command::new("cp").args(["-rLT", "--"]).arg(&item).arg(&place))?;
    }
    let archive = work.join("base.cpio");
    pack(&root, &archive)?;
    fs::remove_dir_all(&root)?;
    Ok(archive)
}

/// The base with the modules of one kernel and the plan.
pub fn complete(base: &Path, kernel: &Kernel, plan: &Plan, work: &Path) -> Result<PathBuf> {
    let root = work.join(format!("root-{}", kernel.series));
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let folder = root.join("modules");
    fs::create_dir_all(&folder)?;
    let order = Modules::of(&kernel.modules)?
        .unpack(&MODULES, &folder)
        .with_context(|| format!("modules of {}", kernel.release))?;
    let modules = order.iter().map(|name| format!("/modules/{name}.ko").into()).collect();
    let plan = Plan { modules, ..plan.clone() };
    let file = root.join(PLAN.trim_start_matches('/'));
    fs::create_dir_all(file.parent().context("no folder")?)?;
    fs::write(&file, serde_json::to_string(&plan)?)?;
    let own = work.join(format!("{}-own.cpio", kernel.series));
    pack(&root, &own)?;
    fs::remove_dir_all(&root)?;
    // The kernel unpacks archives one behind the other.
    let whole = work.join(format!("{}.cpio", kernel.series));
    fs::copy(base, &whole)?;
    File::options().append(true).open(&whole)?.write_all(&fs::read(&own)?)?;
    fs::remove_file(own)?;
    Ok(whole)
}

/// Where `file` goes below `root`; its folder is there afterwards.
fn place(root: &Path, file: &Path) -> Result<PathBuf> {
    let place = root.join(file.strip_prefix("/").with_context(|| format!("{} is relative", file.display()))?);
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(place)
}

/// The shared libraries of all of the programs, and the loader.
fn libraries(programs: &[&PathBuf]) -> Result<BTreeSet<PathBuf>> {
    // Programs without shared libraries make its exit status 1.
    let output =
        Command::new("ldd").args(programs).stderr(Stdio::null()).output().context("cannot start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
        bail!("a library is missing: {}", missing.trim());
    }
    Ok(text.lines().filter_map(library).collect())
}

/// The path in `libc.so.6 => /lib/libc.so.6 (0x…)` or `/lib64/ld.so (0x…)`.
fn library(line: &str) -> Option<PathBuf> {
    let line = line.strip_prefix('\t')?;
    let path = line.split_once("=> ").map_or(line, |(_, path)| path);
    let path = path.split(" (").next()?;
    path.starts_with('/').then(|| path.into())
}

fn pack(root: &Path, archive: &Path) -> Result<()> {
    let file = File::create(archive).with_context(|| format!("cannot write {}", archive.display()))?;
    let mut find = Command::new("find")
        .args([".", "-mindepth", "1", "-print0"])
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start find")?;
    let names = find.stdout.take().context("find has no standard output")?;
    let mut cpio = Command::new("cpio");
    cpio.args(["--quiet", "--null", "--create", "--format=newc", "--owner=+0:+0"]).current_dir(root);
    process::run(cpio.stdin(names).stdout(file))?;
    let status = find.wait()?;
    if !status.success() {
        bail!("cannot list {} ({status})", root.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_lines() {
        let path = |line| library(line).map(|path| path.display().to_string());
        assert_eq!(path("\tlibc.so.6 => /lib/libc.so.6 (0x00007f)").as_deref(), Some("/lib/libc.so.6"));
        assert_eq!(
            path("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)").as_deref(),
            Some("/lib64/ld-linux-x86-64.so.2")
        );
        assert_eq!(path("\tlinux-vdso.so.1 (0x00007f)"), None);
        assert_eq!(path("/usr/sbin/ip:"), None);
    }
}
