//! Asks, before anything is created, whether this machine lets us work at all.

use std::io;
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::error::LoadError;

const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Everything the loader needs: rights, BTF, a BPF file system, memory to lock, and descriptors.
pub(super) fn check(bpffs: &Path) -> Result<(), LoadError> {
    descriptors();
    rights()?;
    if !Path::new(VMLINUX_BTF).exists() {
        return Err(LoadError::NoBtf { path: VMLINUX_BTF });
    }
    file_system(bpffs)?;
    memory_limit()
}

fn rights() -> Result<(), LoadError> {
    let path = Path::new("/proc/thread-self/status");
    let status = std::fs::read_to_string(path).map_err(|source| LoadError::Folder {
        operation: "read",
        path: path.to_path_buf(),
        source,
    })?;
    match missing(effective(&status)).as_slice() {
        [] => Ok(()),
        missing => Err(LoadError::NoRights { missing: missing.join(", ") }),
    }
}

/// The effective capability set of a `/proc/PID/status` text; none if the line is not there.
fn effective(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

/// Capabilities that are needed and not in `set` (bit numbers: `linux/capability.h`).
fn missing(set: u64) -> Vec<&'static str> {
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let has = |capability: u32| set & (1 << capability) != 0;
    let mut missing = Vec::new();
    if !has(BPF) && !has(SYS_ADMIN) {
        missing.push("CAP_BPF");
    }
    if !has(PERFMON) && !has(SYS_ADMIN) {
        missing.push("CAP_PERFMON");
    }
    if !has(NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    missing
}

/// The folder itself need not exist yet: what counts is where it will be made.
fn file_system(bpffs: &Path) -> Result<(), LoadError> {
    let not_bpffs = || LoadError::NotBpffs { path: bpffs.to_path_buf() };
    let existing = bpffs.ancestors().find(|path| path.is_dir()).ok_or_else(not_bpffs)?;
    let found = statfs(existing).map_err(|errno| LoadError::Folder {
        operation: "look at",
        path: existing.to_path_buf(),
        source: errno.into(),
    })?;
    if found.filesystem_type() == BPF_FS_MAGIC { Ok(()) } else { Err(not_bpffs()) }
}

/// Map memory counts as locked memory before Linux 5.11; later kernels charge the cgroup.
fn memory_limit() -> Result<(), LoadError> {
    let raised = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let unlimited = getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    match raised {
        Err(errno) if !unlimited && memory_is_charged_to_the_user() => {
            Err(LoadError::MemoryLimit { source: io::Error::from(errno) })
        }
        _ => Ok(()),
    }
}

/// Maps, programs, sockets of health checks and their clients: as many as the process may have. 1024, the usual
/// soft limit, is for programs that call select(2).
fn descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn memory_is_charged_to_the_user() -> bool {
    use aya::util::KernelVersion;
    KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(5, 11, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_lacks_nothing_and_nobody_lacks_all() {
        assert!(missing(effective("Name:\tx\nCapEff:\t000001ffffffffff\n")).is_empty());
        assert_eq!(
            missing(effective("CapEff:\t0000000000000000\n")),
            ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]
        );
    }

    #[test]
    fn three_capabilities_are_enough() {
        assert!(missing(1 << 12 | 1 << 38 | 1 << 39).is_empty());
        assert_eq!(missing(1 << 38 | 1 << 39), ["CAP_NET_ADMIN"]);
        assert!(missing(1 << 12 | 1 << 21).is_empty(), "before Linux 5.8 CAP_SYS_ADMIN held these rights");
    }

    #[test]
    fn as_many_descriptors_as_may_be_had_are_had() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard - 1, hard).unwrap();
        descriptors();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }

    #[test]
    fn a_folder_elsewhere_is_refused_by_name() {
        let error = file_system(Path::new("/tmp/netroute-not-bpffs/below")).unwrap_err();
        let line = error.to_string();
        assert!(line.contains("/tmp/netroute-not-bpffs/below") && line.contains("mount -t bpf"), "{line}");
    }
}
