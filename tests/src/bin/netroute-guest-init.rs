//! The first process of a test machine: mounts, loads modules, runs test binaries, reports, ends
//! the machine.
//!
//! `cargo xtask test kernels` packs it together with a plan. The report goes to a serial line of its own,
//! apart from the kernel's messages. Each line of a test's output is marked, so that no output can look like
//! a line of the report:
//!
//! ```text
//! guest 6.1.0-56-cloud-amd64
//! suite load
//! |running 2 tests
//! end load 0 3.2
//! done 1
//! ```

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netroute_tests::guest::{END_BROKEN, END_COMPLETE, EXIT_PORT, PLAN, Plan, REPORT, Suite};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};

/// A process left behind by a test holds the pipe open; what the suite itself wrote is there by then.
const LEFTOVERS: Duration = Duration::from_millis(500);

fn main() -> Result<()> {
    ensure!(std::process::id() == 1, "this is the first process of a test machine and of no other");
    let code = match run() {
        Ok(()) => END_COMPLETE,
        Err(error) => {
            eprintln!("the test machine is broken: {error:#}");
            if let Ok(mut report) = File::options().write(true).open(REPORT) {
                let _ = writeln!(report, "broken {}", format!("{error:#}").replace('\n', " "));
            }
            END_BROKEN
        }
    };
    // What is written must have left the machine before it ends.
    thread::sleep(Duration::from_millis(100));
    end(code)
}

fn run() -> Result<()> {
    for (kind, place) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("bpf", "/sys/fs/bpf"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("debugfs", "/sys/kernel/debug"),
    ] {
        fs::create_dir_all(place)?;
        mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {kind} at {place}"))?;
    }
    let plan: Plan = serde_json::from_str(&fs::read_to_string(PLAN)?).context("the plan is no plan")?;
    for module in &plan.modules {
        let file = File::open(module).with_context(|| module.display().to_string())?;
        finit_module(&file, c"", ModuleInitFlags::empty())
            .with_context(|| format!("cannot load {}", module.display()))?;
    }
    let mut report = File::options().write(true).open(REPORT).context("no serial line for the report")?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    writeln!(report, "guest {}", release.trim())?;
    // The kernel gives the first process no PATH.
    let mut ip = Command::new("ip");
    ip.env("PATH", "/usr/sbin:/usr/bin").args(["link", "set", "lo", "up"]);
    let linked = ip.status().context("no `ip` here")?;
    ensure!(linked.success(), "cannot set up lo");
    for suite in &plan.suites {
        run_suite(suite, &mut report)?;
    }
    writeln!(report, "done {}", plan.suites.len())?;
    Ok(report.flush()?)
}

fn run_suite(suite: &Suite, report: &mut impl Write) -> Result<()> {
    let Suite { name, program, arguments, folder, environment, seconds } = suite;
    writeln!(report, "suite {name}")?;
    let began = Instant::now();
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command.args(arguments).envs(environment).current_dir(folder);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    // The command holds the pipe's writing end: without this the reader never sees the end.
    drop(command);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    let events = events(child, reader);
    let (mut status, mut deadline) = (None, began + Duration::from_secs(*seconds));
    loop {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Line(line)) => writeln!(report, "|{line}")?,
            Ok(Event::Ended(ended)) => {
                status = Some(ended?);
                deadline = Instant::now() + LEFTOVERS;
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if status.is_some() => break,
            Err(RecvTimeoutError::Timeout) => {
                writeln!(report, "|killed after {seconds} s")?;
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
                break;
            }
        }
    }
    // No exit status: killed by us, or by a signal of its own.
    let code = status.and_then(|status| status.code()).unwrap_or(-1);
    writeln!(report, "end {name} {code} {:.1}", began.elapsed().as_secs_f32())?;
    Ok(())
}

enum Event {
    Line(String),
    Ended(io::Result<std::process::ExitStatus>),
}

fn events(mut child: Child, reader: io::PipeReader) -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel();
    let lines = sender.clone();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            if lines.send(Event::Line(String::from_utf8_lossy(&line).into_owned())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || sender.send(Event::Ended(child.wait())));
    receiver
}

/// Ends the machine: QEMU's exit status is twice the code, and one.
fn end(code: u8) -> Result<()> {
    // Stock cloud kernels have no `/dev/port`.
    #[expect(unsafe_code, reason = "the debug exit is an x86 port, and a port is written by an instruction")]
    // SAFETY: `iopl` only gives this process the right to use ports; the write touches no memory, and the
    // port belongs to the device that ends the machine.
    unsafe {
        if nix::libc::iopl(3) == 0 {
            std::arch::asm!("out dx, al", in("dx") EXIT_PORT, in("al") code, options(nomem, nostack));
        }
    }
    bail!(
        "the machine did not end: it has no isa-debug-exit at {EXIT_PORT:#x} ({})",
        PathBuf::from(PLAN).display()
    )
}
