//! The BPF file system, which not every machine mounts by itself.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::progress::Step;

const MOUNT_POINT: &str = "/sys/fs/bpf";

pub fn ensure() -> Result<()> {
    if is_mounted()? {
        return Ok(());
    }
    let mount = format!("mount -t bpf bpf {MOUNT_POINT}");
    if !process::is_root() {
        bail!("no bpf file system at {MOUNT_POINT}: run `{mount}` as root");
    }
    let step = Step::begin(format!("mount bpffs at {MOUNT_POINT}"));
    let mut command = Command::new("mount");
    command.args(["-t", "bpf", "bpf", MOUNT_POINT]);
    step.run(command)?;
    step.done();
    Ok(())
}

fn is_mounted() -> Result<bool> {
    const MOUNTS: &str = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(MOUNTS).with_context(|| format!("cannot read {MOUNTS}"))?;
    Ok(file_system_at(&mounts, MOUNT_POINT) == Some("bpf"))
}

/// Type of the file system on top at `mount_point` (proc(5): the fields end with `- type source options`).
fn file_system_at<'a>(mounts: &'a str, mount_point: &str) -> Option<&'a str> {
    let mut found = None;
    for line in mounts.lines() {
        let (fields, kind) = line.split_once(" - ")?;
        if fields.split(' ').nth(4) == Some(mount_point) {
            // Later lines cover earlier ones.
            found = kind.split(' ').next();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
24 1 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw
30 24 0:28 / /sys/fs/bpf rw,relatime - sysfs sysfs rw
31 30 0:29 / /sys/fs/bpf rw,relatime shared:9 - bpf bpf rw,mode=700";

    #[test]
    fn the_mount_on_top_counts() {
        assert_eq!(file_system_at(MOUNTS, "/sys/fs/bpf"), Some("bpf"));
        assert_eq!(file_system_at(&MOUNTS[..MOUNTS.rfind('\n').unwrap()], "/sys/fs/bpf"), Some("sysfs"));
        assert_eq!(file_system_at(MOUNTS, "/sys/fs"), None);
    }
}
