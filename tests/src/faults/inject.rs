//! Faults at system calls, put in by strace: the process dies at the N-th, or the kernel "fails".

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    agent::{Agent, Node, eventually, program},
    netns::kill_if,
};

/// Which calls, and what happens at the N-th of a thread.
#[derive(Clone, Debug)]
pub struct Injection {
    /// Names of system calls, by comma.
    pub calls: &'static str,
    /// In strace's words: `signal=KILL`, `error=EIO`; none to count only.
    pub effect: Option<(&'static str, usize)>,
}

/// The calls of each thread, from its first.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    /// Whether each could have changed anything: a look into a map does not.
    pub by_thread: BTreeMap<u32, Vec<bool>>,
}

/// strace at a running agent. Dropping it lets go of the agent.
#[derive(Debug)]
pub struct Tracer {
    child: Child,
    log: PathBuf,
}

impl Injection {
    pub fn count(calls: &'static str) -> Self {
        Self { calls, effect: None }
    }

    /// Killed at the N-th call, from 1.
    pub fn kill(calls: &'static str, at: usize) -> Self {
        Self { calls, effect: Some(("signal=KILL", at)) }
    }

    /// The N-th call fails with this error, and so does every one after it.
    pub fn fail(calls: &'static str, error: &'static str, at: usize) -> Self {
        Self { calls, effect: Some((error, at)) }
    }

    fn words(&self, log: &Path) -> Vec<String> {
        let Self { calls, effect } = self;
        let mut words = ["-f", "-qqq", "-o"].map(str::to_owned).to_vec();
        words.push(log.display().to_string());
        words.extend(["-e".to_owned(), format!("trace={calls}")]);
        if let Some((what, at)) = effect {
            let more = if what.starts_with("error") { "+" } else { "" };
            words.extend(["-e".to_owned(), format!("inject={calls}:{what}:when={at}{more}")]);
        }
        words
    }

    /// Starts an agent under this injection. True if it was killed by it before it was ready; an
    /// agent that became ready is killed then, and its calls are counted.
    pub fn start(&self, node: &Node) -> Result<(bool, Calls)> {
        let log = node.state_dir.with_extension("strace");
        let stderr = fs::File::options().create(true).append(true).open(&node.log)?;
        let mut command = node.ns.command("strace");
        command.args(self.words(&log)).arg(program()?);
        command.arg("--socket").arg(&node.socket).args(["agent", "--config"]).arg(&node.config);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn()?;
        let deadline = Instant::now() + super::PATIENCE;
        let killed = loop {
            if child.try_wait()?.is_some() {
                break true;
            }
            if node.socket.exists() && node.cli(&["status"])?.code == 0 {
                break false;
            }
            if Instant::now() > deadline {
                end(node)?;
                bail!("the agent under strace neither died nor became ready");
            }
            thread::sleep(Duration::from_millis(5));
        };
        if !killed {
            end(node)?;
            child.wait()?;
        }
        Ok((killed, Calls::read(&log)?))
    }

    /// Puts it into a running agent: counted from here.
    pub fn attach(&self, agent: &Agent) -> Result<Tracer> {
        let pid = agent.pid();
        let log = agent.node.state_dir.with_extension("strace");
        let mut command = agent.node.ns.command("strace");
        command.args(self.words(&log)).args(["-p", &pid.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let tracer = Tracer { child, log };
        eventually("strace to hold every thread", super::PATIENCE, || {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let text = fs::read_to_string(task?.path().join("status")).unwrap_or_default();
                if text.lines().any(|line| line == "TracerPid:\t0") {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        Ok(tracer)
    }
}

impl Calls {
    fn read(log: &Path) -> Result<Self> {
        let mut calls = Self::default();
        for line in fs::read_to_string(log)?.lines() {
            // `4711 bpf(…) = 3`; what went on beside it is told in two lines.
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let rest = rest.trim_start();
            if rest.starts_with(['<', '+', '-']) {
                continue;
            }
            let looks =
                ["LOOKUP_ELEM", "GET_NEXT", "GET_INFO", "GET_FD"].iter().any(|word| rest.contains(word));
            calls.by_thread.entry(thread.parse().context("no thread id")?).or_default().push(!looks);
        }
        Ok(calls)
    }

    /// The calls that change something, by their number from 1, of the thread that made most of
    /// them: the agent's loop, where BPF is concerned.
    pub fn changing(&self) -> Vec<usize> {
        let of =
            |calls: &Vec<bool>| (1..).zip(calls).filter(|(_, changes)| **changes).map(|(at, _)| at).collect();
        self.by_thread.values().map(of).max_by_key(Vec::len).unwrap_or_default()
    }
}

impl Tracer {
    /// Lets go, and says what was called meanwhile.
    pub fn stop(mut self) -> Result<Calls> {
        // On this signal strace lets go of the process and writes what it has not written yet.
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, Signal::SIGTERM)?;
        eventually("strace to end", super::PATIENCE, || Ok(self.child.try_wait()?.is_some()))?;
        Calls::read(&self.log)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // The kernel lets go of what a dead tracer held. Asked politely, strace (6.1) waits for ever
        // when the process dies at the same moment. Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills the agents of a namespace, tracers or not.
fn end(node: &Node) -> Result<()> {
    let agents: Vec<_> = node.ns.processes()?.into_iter().filter(|(_, name)| name == "netroute").collect();
    ensure!(!agents.is_empty(), "no agent in {}", node.ns);
    agents.into_iter().try_for_each(|(pid, _)| kill_if(pid, || true))
}
