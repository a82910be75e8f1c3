//! Test binaries: which there are, what kind of tests they hold, and running one.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use super::libtest::{self, Outcome, Skip};
use crate::paths::Paths;
use crate::process;

/// No suite takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// A process left behind by a test holds the pipe open; what the suite itself wrote is there by then.
const LEFTOVERS: Duration = Duration::from_millis(500);

/// In the order in which they run: what fails fast comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// Beside the code, and of the command line
    Unit,
    /// Packets and their verdicts, from files
    Vectors,
    /// Random packets, the host against the kernel
    Differential,
    /// Programs and maps in the running kernel
    Kernel,
    /// Real traffic in network namespaces
    Netns,
    /// The agent killed, starved and confused under traffic
    Faults,
    /// Deliberate mistakes in the BPF object, which vectors and differential test must notice
    Broken,
}

impl Kind {
    /// By cargo's kind of target, and its name.
    fn of(target_kind: &str, name: &str) -> Self {
        let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
        match target_kind {
            "test" if begins(&["vectors"]) => Self::Vectors,
            "test" if begins(&["differential"]) => Self::Differential,
            "test" if begins(&["load", "store"]) => Self::Kernel,
            "test" if begins(&["faults"]) => Self::Faults,
            "test" if !begins(&["cli", "compile", "golden"]) => Self::Netns,
            _ => Self::Unit,
        }
    }

    pub fn needs_root(self) -> bool {
        matches!(self, Self::Kernel | Self::Netns | Self::Faults | Self::Broken)
    }

    /// Streams that must lose nothing leave no processor time for another such test.
    fn one_at_a_time(self) -> bool {
        matches!(self, Self::Netns | Self::Faults)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Vectors => "vectors",
            Self::Differential => "differential",
            Self::Kernel => "kernel",
            Self::Netns => "netns",
            Self::Faults => "faults",
            Self::Broken => "broken",
        }
    }
}

/// One test binary.
#[derive(Debug)]
pub struct Suite {
    pub kind: Kind,
    package: String,
    pub target: String,
    /// Folder of the package: where cargo runs its tests.
    pub folder: PathBuf,
    pub program: PathBuf,
}

/// Builds all tests of the workspace, and the programs that they start.
pub fn build(paths: &Paths) -> Result<Vec<Suite>> {
    build_only(paths, &[])
}

/// Builds the integration tests of these names, or all tests if there are none, and the programs that they
/// start.
pub fn build_only(paths: &Paths, targets: &[&str]) -> Result<Vec<Suite>> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--release", "--workspace", "--no-run", "--message-format=json-render-diagnostics"])
        .args(targets.iter().flat_map(|target| ["--test", target]))
        .current_dir(&paths.workspace)
        .stdout(Stdio::piped());
    let mut child = cargo.spawn().context("cannot start cargo")?;
    let mut suites = Vec::new();
    let output = child.stdout.take().context("no standard output")?;
    for line in BufReader::new(output).lines() {
        let message: Value = serde_json::from_str(&line?).context("cargo printed no JSON")?;
        suites.extend(suite(&message));
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed ({status})", process::shown(&cargo));
    }
    Ok(suites)
}

/// The test binary that a message of cargo tells of, if it does.
fn suite(message: &Value) -> Option<Suite> {
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    if text("/reason") != Some("compiler-artifact") || message.pointer("/profile/test") != Some(&true.into())
    {
        return None;
    }
    let target = text("/target/name")?.to_owned();
    let folder = PathBuf::from(text("/manifest_path")?).parent()?.to_path_buf();
    Some(Suite {
        kind: Kind::of(text("/target/kind/0")?, &target),
        package: folder.file_name()?.to_str()?.to_owned(),
        target,
        program: text("/executable")?.into(),
        folder,
    })
}

impl Suite {
    pub fn name(&self) -> String {
        format!("{} {}", self.package, self.target)
    }

    /// Name of the cargo target.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The outcome of not running it.
    pub fn skipped(&self, filters: &[String], reason: &str) -> Result<Outcome> {
        let list = process::read(self.command().args(["--list", "--format=terse"]).args(filters))?;
        let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
        let skip = |test: &str| Skip { test: test.to_owned(), reason: reason.to_owned() };
        let outcome = Outcome { skipped: tests.map(skip).collect(), ..Outcome::default() };
        self.tell(&outcome, Duration::ZERO);
        Ok(outcome)
    }

    /// Runs it to its end; one line says how it went, and failures are shown whole.
    pub fn run(&self, paths: &Paths, filters: &[String]) -> Result<Outcome> {
        let begin = Instant::now();
        let mut command = self.command();
        command.arg("--show-output").args(filters);
        if self.kind.one_at_a_time() {
            command.arg("--test-threads=1");
        }
        let log = paths.target().join("test-logs").join(format!("{}-{}.log", self.package, self.target));
        let (status, output) =
            captured(command, &log).with_context(|| format!("cannot run the tests of {}", self.name()))?;
        let outcome = libtest::read(&output, status.is_some_and(|status| status.success()));
        self.tell(&outcome, begin.elapsed());
        if !outcome.failed.is_empty() {
            println!("{}", libtest::failures(&output));
            match status {
                Some(status) if status.code() != Some(101) => println!("{} ended by {status}", self.name()),
                None => println!("{} was killed after {} s", self.name(), PATIENCE.as_secs()),
                Some(_) => {}
            }
        }
        Ok(outcome)
    }

    /// The test binary, started where cargo would.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }

    fn tell(&self, outcome: &Outcome, elapsed: Duration) {
        let Outcome { passed, failed, skipped, .. } = outcome;
        if passed + failed.len() + skipped.len() == 0 {
            return;
        }
        let word = if failed.is_empty() { "ok" } else { "FAILED" };
        let counts = format!("{passed} passed, {} failed, {} skipped", failed.len(), skipped.len());
        println!(
            "{word:<6}  {:<12}  {:<32}  {counts}  {:.1} s",
            self.kind.word(),
            self.name(),
            elapsed.as_secs_f32()
        );
    }
}

enum Event {
    Line(String),
    Ended(io::Result<ExitStatus>),
}

/// Runs a command and returns how it ended and what it printed; no status if it had to be killed.
fn captured(mut command: Command, log: &PathBuf) -> Result<(Option<ExitStatus>, Vec<String>)> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn().with_context(|| format!("cannot start `{}`", process::shown(&command)))?;
    // The command holds the pipe's writing end: without this the reader never sees the end.
    drop(command);

    let pid = child.id();
    let events = events(child, reader);
    let (mut output, mut status) = (Vec::new(), None);
    let mut deadline = Instant::now() + PATIENCE;
    loop {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Line(line)) => {
                writeln!(file, "{line}")?;
                output.push(line);
            }
            Ok(Event::Ended(ended)) => {
                status = Some(ended?);
                deadline = Instant::now() + LEFTOVERS;
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if status.is_some() => break,
            Err(RecvTimeoutError::Timeout) => {
                process::run(Command::new("kill").args(["-KILL", &pid.to_string()]))?;
                return Ok((None, output));
            }
        }
    }
    Ok((status, output))
}

fn events(mut child: Child, reader: io::PipeReader) -> Receiver<Event> {
    let (sender, receiver) = mpsc::channel();
    let lines = sender.clone();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if lines.send(Event::Line(line)).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || sender.send(Event::Ended(child.wait())));
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_the_names_of_integration_tests() {
        for (target, name, kind) in [
            ("lib", "netroute_user", Kind::Unit),
            ("bin", "netroute", Kind::Unit),
            ("test", "cli", Kind::Unit),
            ("test", "compile", Kind::Unit),
            ("test", "vectors_kernel", Kind::Vectors),
            ("test", "differential", Kind::Differential),
            ("test", "load", Kind::Kernel),
            ("test", "failover", Kind::Netns),
            ("test", "faults_kill", Kind::Faults),
        ] {
            assert_eq!(Kind::of(target, name), kind, "{name}");
        }
    }

    #[test]
    fn output_is_complete_although_a_process_is_left_behind() {
        let folder = std::env::temp_dir().join(format!("xtask-suite-{}", std::process::id()));
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 30 & echo out; echo err >&2; exit 3"]);
        let begin = Instant::now();
        let (status, mut output) = captured(shell, &folder.join("log")).unwrap();
        output.sort();
        assert_eq!(status.unwrap().code(), Some(3));
        assert_eq!(output, ["err", "out"]);
        assert!(begin.elapsed() < Duration::from_secs(20));
        fs::remove_dir_all(folder).unwrap();
    }
}
