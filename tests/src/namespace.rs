//! Network namespaces as threads: whatever a test runs "in" one is run by a thread that lives
//! there, so that the machine's BPF file system stays in sight and nothing has to be cleaned up.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A namespace that ends with the value.
pub struct Namespace {
    path: PathBuf,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    pub fn new() -> Result<Self> {
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = channel();
        let (ready, entered) = channel();
        let thread = std::thread::spawn(move || {
            let _ = ready.send(enter());
            for job in queue {
                job();
            }
        });
        let path = entered.recv().context("namespace thread ended")??;
        Ok(Self { path, jobs: Some(jobs), thread: Some(thread) })
    }

    /// For `ip link set DEV netns PATH`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `job` in the namespace and waits for it. A panic in it is passed on.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(job).join()
    }

    /// Runs `job` in the namespace, on its one thread, after the jobs before it.
    pub fn start<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Running<T> {
        let (done, result) = channel();
        let job: Job = Box::new(move || {
            let _ = done.send(std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)));
        });
        self.jobs.as_ref().expect("open until dropped").send(job).expect("thread lives until dropped");
        Running { result }
    }

    pub fn sh(&self, script: &str) -> Result<()> {
        let script = script.to_owned();
        self.run(move || sh(&script))
    }
}

/// A job under way.
pub struct Running<T> {
    result: Receiver<std::thread::Result<T>>,
}

impl<T> Running<T> {
    pub fn join(self) -> T {
        match self.result.recv().expect("job runs to its end") {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Puts the calling thread into a new namespace of its own; its path.
pub fn enter() -> Result<PathBuf> {
    unshare(CloneFlags::CLONE_NEWNET).context("a new network namespace (are you root?)")?;
    sh("ip link set lo up")?;
    let thread = nix::unistd::gettid();
    Ok(PathBuf::from(format!("/proc/{}/task/{thread}/ns/net", std::process::id())))
}

/// Runs lines of shell in the calling thread's namespace; the first that fails ends it.
pub fn sh(script: &str) -> Result<()> {
    let output = Command::new("sh").args(["-euc", script]).output().context("sh")?;
    ensure!(
        output.status.success(),
        "{script}\nfailed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The standard output of a command in the calling thread's namespace.
pub fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Interface index in the calling thread's namespace.
pub fn ifindex(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name).with_context(|| name.to_owned())
}

/// Ethernet address in the calling thread's namespace.
pub fn mac(name: &str) -> Result<[u8; 6]> {
    let text = output("ip", &["-br", "link", "show", "dev", name])?;
    let field = text.split_whitespace().find(|field| field.matches(':').count() == 5);
    let field = field.with_context(|| format!("no MAC in {text}"))?;
    let mut mac = [0; 6];
    for (byte, hex) in mac.iter_mut().zip(field.split(':')) {
        *byte = u8::from_str_radix(hex, 16)?;
    }
    Ok(mac)
}
