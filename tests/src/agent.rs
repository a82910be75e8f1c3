//! An agent in a network namespace, as its operator sees it: a process, a socket, a command line.
//!
//! It knows the program's arguments, files and exit status, and nothing of what it does inside.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{lab::Vm, netns::Netns, patience::patient, router::Router};

/// Loading and verifying all programs takes seconds on a small machine that has other work.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// Where the agent serves its metrics unless it is told otherwise.
const METRICS: &str = "127.0.0.1:9464";

/// Where an agent runs and where its files are.
#[derive(Clone, Debug)]
pub struct Node {
    pub ns: Netns,
    pub config: PathBuf,
    pub socket: PathBuf,
    pub log: PathBuf,
    pub bpffs: PathBuf,
    pub state_dir: PathBuf,
}

impl From<&Vm> for Node {
    fn from(vm: &Vm) -> Self {
        Self {
            ns: vm.ns().clone(),
            config: vm.config(),
            socket: vm.socket(),
            log: vm.log(),
            bpffs: vm.bpffs(),
            state_dir: vm.state_dir(),
        }
    }
}

/// What a command left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit status; 128 and the signal's number if one ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A running agent. Dropping it kills it; what it put into the kernel stays.
#[derive(Debug)]
pub struct Agent {
    pub node: Node,
    child: Child,
}

impl Node {
    /// The node between a router's hosts, its files in `folder`: `Port2` is towards the left
    /// host, `Port3` towards the right one.
    pub fn beside(router: &Router, folder: &Path) -> Result<Self> {
        let node = Self {
            ns: router.ns().clone(),
            config: folder.join("agent.yaml"),
            socket: folder.join("netroute.sock"),
            log: folder.join("agent.log"),
            bpffs: router.bpffs(),
            state_dir: folder.join("state"),
        };
        let manifests = folder.join("manifests");
        fs::create_dir_all(&manifests)?;
        let text = format!(
            "nodeName: router\ninterfaces:\n  - {{alias: Port2, device: eth0, role: internal}}\n  \
             - {{alias: Port3, device: eth1, role: external}}\nsource: {{manifests: {}}}\n\
             stateDir: {}\nbpffs: {}\nsockets: null\n",
            manifests.display(),
            node.state_dir.display(),
            node.bpffs.display()
        );
        fs::write(&node.config, text)?;
        Ok(node)
    }

    /// Adds lines to the configuration.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let old = fs::read_to_string(&self.config)?;
        Ok(fs::write(&self.config, format!("{old}{lines}\n"))?)
    }

    /// Exchanges a part of the configuration, which must be there.
    pub fn reconfigure(&self, from: &str, to: &str) -> Result<()> {
        let old = fs::read_to_string(&self.config)?;
        ensure!(old.contains(from), "{from:?} is not in the configuration:\n{old}");
        Ok(fs::write(&self.config, old.replace(from, to))?)
    }

    /// `netroute ARGUMENTS` for this node's agent.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.ns.command(program()?);
        command.env("NETROUTE_SOCKET", &self.socket).args(arguments);
        run(&mut command, "")
    }

    /// The same as a person types it, read by a shell.
    pub fn typed(&self, line: &str) -> Result<Output> {
        let folder = program()?.parent().context("no folder")?.to_path_buf();
        let mut command = self.ns.command("sh");
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
        command.env("NETROUTE_SOCKET", &self.socket).env("PATH", path).args(["-c", line]);
        run(&mut command, "")
    }

    /// As `cli`, with this standard input.
    pub fn fed(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut command = self.ns.command(program()?);
        command.env("NETROUTE_SOCKET", &self.socket).args(arguments);
        run(&mut command, input)
    }

    /// An agent that is expected to end by itself: how it ended. `prefix` are commands in front of
    /// it, such as `setpriv`.
    pub fn start_in_vain(&self, prefix: &[&str]) -> Result<Output> {
        let program = program()?;
        let mut words = prefix.iter().map(|word| (*word).into()).collect::<Vec<PathBuf>>();
        words.push(program);
        let mut command = self.ns.command("timeout");
        command.arg(patient(PATIENCE).as_secs().to_string()).args(words);
        command.arg("--socket").arg(&self.socket).args(["agent", "--config"]).arg(&self.config);
        run(&mut command, "")
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Output {
    /// Standard output of a command that must have succeeded.
    pub fn succeeded(self) -> Result<String> {
        let Self { code, stdout, stderr } = self;
        ensure!(code == 0, "exit status {code}: {stdout}{stderr}");
        Ok(stdout)
    }

    /// The one line of a command that must have been refused with this status.
    pub fn refused(self, status: i32) -> Result<String> {
        let Self { code, stdout, stderr } = self;
        ensure!(code == status, "exit status {code} instead of {status}: {stdout}{stderr}");
        let mut lines = stderr.lines();
        let line = lines.next().context("refused without a reason")?.to_owned();
        ensure!(lines.next().is_none(), "more than one line: {stderr}");
        Ok(line)
    }
}

impl Agent {
    /// Starts an agent and returns when it answers.
    pub fn start(node: impl Into<Node>) -> Result<Self> {
        Self::start_under(node, &[])
    }

    /// The same behind commands that give way to the agent, such as `env`.
    pub fn start_under(node: impl Into<Node>, prefix: &[&str]) -> Result<Self> {
        let node = node.into();
        let log = File::options().create(true).append(true).open(&node.log)?;
        let program = program()?;
        let word = program.to_string_lossy();
        let (first, rest) = match prefix.split_first() {
            Some((first, rest)) => (PathBuf::from(first), [rest, &[&*word]].concat()),
            None => (program.clone(), Vec::new()),
        };
        let mut command = node.ns.command(first);
        command.args(rest).arg("--socket").arg(&node.socket).args(["agent", "--config"]).arg(&node.config);
        // `nsenter` gives way to the agent, so the process id is the agent's.
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let mut agent = Self { node, child };
        let deadline = Instant::now() + patient(PATIENCE);
        while agent.cli(&["status"])?.code != 0 {
            if let Some(status) = agent.child.try_wait()? {
                bail!("the agent in {} ended ({status}):\n{}", agent.node.ns, agent.node.log_tail());
            }
            ensure!(Instant::now() < deadline, "the agent is not ready:\n{}", agent.node.log_tail());
            thread::sleep(LOOK);
        }
        Ok(agent)
    }

    /// Ends it as the kernel does when memory is short: nothing is tidied up.
    pub fn kill9(mut self) -> Result<Node> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.node.clone())
    }

    /// Ends it as systemd does, and waits until it has.
    pub fn stop(mut self) -> Result<Node> {
        let status = terminate(&mut self.child)?;
        ensure!(status.success(), "the agent ended with {status}:\n{}", self.node.log_tail());
        Ok(self.node.clone())
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        await_end(&mut self.child)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        self.node.cli(arguments)
    }

    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.cli(&[arguments, &["-o", "json"]].concat())?.succeeded();
        let text = text.with_context(|| format!("netroute {}", arguments.join(" ")))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Custom routes as JSON.
    pub fn routes(&self) -> Result<Vec<Value>> {
        let Value::Array(routes) = self.json(&["route", "list"])? else { bail!("no list of routes") };
        Ok(routes)
    }

    /// State of the first route to a destination over an interface; empty if there is none.
    pub fn state(&self, destination: &str, interface: &str) -> Result<String> {
        let routes = self.routes()?;
        let found = routes
            .iter()
            .find(|route| route["destination"] == destination && route["interface"] == interface);
        Ok(found.and_then(|route| route["state"].as_str()).unwrap_or_default().to_owned())
    }

    /// Waits until a route is in a state.
    pub fn await_state(&self, destination: &str, interface: &str, state: &str) -> Result<()> {
        let what = format!("{destination} on {interface} to be {state}");
        eventually(&what, PATIENCE, || Ok(self.state(destination, interface)? == state))
            .with_context(|| format!("{:#?}", self.routes()))
    }

    /// Packets counted for a hook and a reason.
    pub fn verdict(&self, hook: &str, reason: &str) -> Result<u64> {
        let Value::Array(verdicts) = self.json(&["drops"])? else { bail!("no list of verdicts") };
        let of = |verdict: &&Value| verdict["hook"] == hook && verdict["reason"] == reason;
        Ok(verdicts.iter().find(of).and_then(|verdict| verdict["packets"].as_u64()).unwrap_or(0))
    }

    /// Packets forwarded by the fast path, at any hook.
    pub fn forwarded(&self) -> Result<u64> {
        let Value::Array(verdicts) = self.json(&["drops"])? else { bail!("no list of verdicts") };
        let forwarded = verdicts.iter().filter(|verdict| verdict["reason"] == "forwarded");
        Ok(forwarded.filter_map(|verdict| verdict["packets"].as_u64()).sum())
    }

    /// Findings of one of the doctor's checks, and whether each is a complaint.
    pub fn doctor(&self, check: &str) -> Result<Vec<(String, bool)>> {
        // Its exit status tells of failures, which may be meant.
        let said: Value = serde_json::from_str(&self.cli(&["doctor", "-o", "json"])?.stdout)?;
        let checks = said["checks"].as_array().context("no checks")?;
        let found = checks.iter().filter(|found| found["name"] == check);
        Ok(found
            .map(|found| (found["finding"].as_str().unwrap_or_default().to_owned(), found["result"] != "ok"))
            .collect())
    }

    /// Where transit is forwarded between veths: by XDP if the kernel tells that they take it.
    pub fn transit_hook(&self) -> Result<&'static str> {
        let unknown =
            self.doctor("xdp-transmit")?.iter().any(|(finding, _)| finding.contains("does not tell"));
        Ok(if unknown { "tc-nic" } else { "xdp-nic" })
    }

    /// The value of a metric without labels, or with those in the name.
    pub fn metric(&self, name: &str) -> Result<u64> {
        let text = self.node.ns.run(|| {
            let mut stream = TcpStream::connect(METRICS)?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })?;
        let value = |line: &str| -> Option<String> {
            let rest = line.strip_prefix(name)?;
            Some(rest.strip_prefix("{} ").or(rest.strip_prefix(' '))?.to_owned())
        };
        let line = text.lines().find_map(value);
        Ok(line.with_context(|| format!("no metric {name} in\n{text}"))?.trim().parse()?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks an agent to end, as systemd does, and waits until it has.
pub fn terminate(agent: &mut Child) -> Result<ExitStatus> {
    kill(Pid::from_raw(i32::try_from(agent.id())?), Signal::SIGTERM)?;
    await_end(agent)
}

fn await_end(agent: &mut Child) -> Result<ExitStatus> {
    let mut ended = None;
    eventually("the agent to end", PATIENCE, || {
        ended = agent.try_wait()?;
        Ok(ended.is_some())
    })?;
    ended.context("no status")
}

/// Looks until `holds`, and fails when it does not within `patience`.
pub fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let patience = patient(patience);
    let deadline = Instant::now() + patience;
    while !holds()? {
        ensure!(Instant::now() < deadline, "waited {patience:?} in vain for {what}");
        thread::sleep(LOOK);
    }
    Ok(())
}

/// The built program, beside the tests.
pub fn program() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("the tests lie in no target folder")?;
    let program = folder.join("netroute");
    let missing = "is missing: `cargo build --release -p netroute-user` (or `cargo xtask test`) builds it";
    ensure!(program.exists(), "{} {missing}", program.display());
    Ok(program)
}

/// Runs a command to its end.
pub fn run(command: &mut Command, input: &str) -> Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let input = input.to_owned();
    // A program that does not read to the end closes the pipe, and says why itself.
    let feeding = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output()?;
    drop(feeding.join());
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
    Ok(Output { code, stdout: text(output.stdout), stderr: text(output.stderr) })
}

/// Standard output of a command inside a namespace, which must succeed.
pub fn inside(ns: &Netns, words: &[&str]) -> Result<String> {
    let (program, arguments) = words.split_first().context("no command")?;
    run(ns.command(program).args(arguments), "")?
        .succeeded()
        .with_context(|| format!("{} in {ns}", words.join(" ")))
}
