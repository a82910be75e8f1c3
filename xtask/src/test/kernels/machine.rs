//! One emulated machine: start it, wait for its end, keep what it wrote.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netroute_tests::guest::EXIT_PORT;

use super::packages::Kernel;

/// Several times what the tests take on two cores that have nothing else to do.
const PATIENCE: Duration = Duration::from_secs(20 * 60);
const LOOK: Duration = Duration::from_millis(100);
const MEMORY: &str = "1024";

/// How a machine ended.
pub struct Ended {
    /// QEMU's exit status; `None` if the machine had to be killed.
    pub code: Option<i32>,
    /// The kernel's messages, and those of the first process.
    pub console: String,
    pub report: String,
    pub elapsed: Duration,
}

/// Runs the kernel over the initramfs. Always emulated: a KVM device may exist and not work.
pub fn run(kernel: &Kernel, initramfs: &Path, work: &Path) -> Result<Ended> {
    let file = |what: &str| work.join(format!("{}.{what}", kernel.series));
    let (console, report) = (file("console"), file("report"));
    for old in [&console, &report] {
        fs::write(old, "")?;
    }
    let began = Instant::now();
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY]);
    qemu.args(["-nodefaults", "-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"]);
    qemu.args(["-serial", &format!("file:{}", console.display())]);
    qemu.args(["-serial", &format!("file:{}", report.display())]);
    qemu.args(["-device", &format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1")]);
    qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
    qemu.args(["-append", "console=ttyS0 panic=-1 quiet mitigations=off"]);
    let errors = File::options().append(true).open(&console)?;
    let mut child = qemu
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if began.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(LOOK);
    };
    let read = |path: &Path| -> Result<String> { Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned()) };
    let ended = Ended {
        code: status.and_then(|status| status.code()),
        console: read(&console)?,
        report: read(&report)?,
        elapsed: began.elapsed(),
    };
    fs::remove_file(console)?;
    fs::remove_file(report)?;
    Ok(ended)
}
