//! One step of the set-up, as a person watches it: a spinner on a terminal, plain lines otherwise.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, PipeReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::process;

/// Lines of a failed program's output that its error shows.
const TAIL: usize = 20;
/// Long enough for any download or compilation of a set-up on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

pub struct Step {
    title: String,
    bar: Option<ProgressBar>,
    started: Instant,
}

impl Step {
    pub fn begin(title: impl Into<String>) -> Self {
        let title = title.into();
        let bar = ProgressBar::new_spinner();
        let bar = if bar.is_hidden() {
            eprintln!("setup: {title} …");
            None
        } else {
            let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(title.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            Some(bar)
        };
        Self { title, bar, started: Instant::now() }
    }

    /// What it is doing just now.
    pub fn note(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// A line that stays.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("  {}: {text}", self.title)),
            None => eprintln!("setup: {}: {text}", self.title),
        }
    }

    pub fn done(self) {
        let seconds = self.started.elapsed().as_secs_f32();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("setup: {}: done in {seconds:.1} s", self.title);
    }

    /// Run `command` to its end, its last line shown as it comes and its last lines in the error.
    pub fn run(&self, command: Command) -> Result<()> {
        self.run_within(command, PATIENCE)
    }

    /// Like [`Step::run`]; after `patience` the program is killed and that is an error.
    pub fn run_within(&self, mut command: Command, patience: Duration) -> Result<()> {
        let shown = process::shown(&command);
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
        // The command holds the pipe's writing end: without this the reader never sees the end.
        drop(command);

        let mut tail = VecDeque::new();
        let deadline = Instant::now() + patience;
        let lines = lines_of(reader);
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.note(&line);
                    if tail.len() == TAIL {
                        tail.pop_front();
                    }
                    tail.push_back(line);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    child.kill()?;
                    child.wait()?;
                    bail!("`{shown}` took longer than {} s", patience.as_secs());
                }
            }
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("`{shown}` failed ({status}):\n{}", tail.make_contiguous().join("\n"));
        }
        Ok(())
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn lines_of(reader: PipeReader) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
