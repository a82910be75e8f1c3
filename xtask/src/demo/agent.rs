//! An agent in a VM of the lab, and its command line.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netroute_tests::agent::terminate;
use netroute_tests::lab::Vm;
use serde_json::Value;

use crate::process;

/// Loading and verifying all programs takes a second or two on a small machine, several times that if it has other
/// work.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a silent agent is looked at, whether it still runs.
const LOOK: Duration = Duration::from_millis(100);
const LOG_TAIL: usize = 12;

/// An agent that was started and has not yet said that it is ready.
pub struct Starting {
    agent: Agent,
    notify: UnixDatagram,
    notify_path: PathBuf,
}

pub struct Agent {
    pub vm: Vm,
    program: PathBuf,
    child: Child,
}

impl Starting {
    /// The agent outlives this process; `lab down` ends it by the process id that is kept here.
    pub fn begin(program: &Path, vm: Vm) -> Result<Self> {
        let notify_path = vm.dir().join("notify.sock");
        let notify = UnixDatagram::bind(&notify_path)
            .with_context(|| format!("cannot listen at {}", notify_path.display()))?;
        notify.set_read_timeout(Some(LOOK))?;
        // A session of its own: closing the terminal does not end it. Both programs give way to it,
        // so the process id is the agent's.
        let mut command = vm.ns().command("setsid");
        command
            .arg(program)
            .arg("--socket")
            .arg(vm.socket())
            .args(["agent", "--config"])
            .arg(vm.config())
            .env("NOTIFY_SOCKET", &notify_path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(vm.log())?);
        let child =
            command.spawn().with_context(|| format!("cannot start `{}`", process::shown(&command)))?;
        fs::write(vm.pid_file(), format!("{}\n", child.id()))?;
        Ok(Self { agent: Agent { vm, program: program.to_path_buf(), child }, notify, notify_path })
    }

    /// Returns when the agent is ready and answers.
    pub fn ready(mut self) -> Result<Agent> {
        let deadline = Instant::now() + PATIENCE;
        let name = self.agent.vm.name();
        let mut message = [0; 4096];
        loop {
            match self.notify.recv(&mut message) {
                Ok(length)
                    if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") =>
                {
                    break;
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(status) = self.agent.child.try_wait()? {
                bail!("the agent of {name} ended ({status}):\n{}", self.agent.log_tail());
            }
            if Instant::now() > deadline {
                bail!("the agent of {name} is not ready after {PATIENCE:?}:\n{}", self.agent.log_tail());
            }
        }
        fs::remove_file(&self.notify_path)?;
        self.agent.json(&["status"])?;
        Ok(self.agent)
    }
}

impl Agent {
    /// `netroute ARGUMENTS` for this VM's agent.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("NETROUTE_SOCKET", self.vm.socket()).args(arguments);
        command
    }

    pub fn text(&self, arguments: &[&str]) -> Result<String> {
        process::read(&mut self.command(arguments)).with_context(|| self.vm.name().to_owned())
    }

    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.text(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text)
            .with_context(|| format!("`netroute {}` printed no JSON", arguments.join(" ")))
    }

    /// Ends it as the kernel does when memory is short: nothing is tidied up.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it as systemd does for an upgrade.
    pub fn stop(&mut self) -> Result<()> {
        let status = terminate(&mut self.child)?;
        ensure!(status.success(), "the agent of {} ended ({status}):\n{}", self.vm.name(), self.log_tail());
        Ok(())
    }

    /// Another one in the place of one that has ended.
    pub fn start_again(&self) -> Result<Starting> {
        Starting::begin(&self.program, self.vm.clone())
    }

    fn log_tail(&self) -> String {
        let log = self.vm.log();
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.len().saturating_sub(LOG_TAIL);
        format!("{}\n(the end of {})", lines.get(tail..).unwrap_or_default().join("\n"), log.display())
    }
}
