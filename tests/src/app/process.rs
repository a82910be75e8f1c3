//! A client as a process of its own, for what a thread cannot do alone: be in a control group.
//!
//! It is told addresses by lines, asks each for a page, and tells what became of it by a line.

use std::{
    io::{BufRead, BufReader, Write},
    net::IpAddr,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{Page, load::page};
use crate::{cgroup, netns::Netns};

/// The word that starts one.
pub const CLIENT: &str = "client";

/// Ends with the value, and by itself when its parent is gone.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// In the namespace, and in the group before it opens a socket.
    pub(super) fn start(ns: &Netns, group: &Path) -> Result<Self> {
        let mut command = ns.command(crate::lab::server_program()?);
        let mut child = command.arg(CLIENT).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let asks = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        let process = Self { child, asks, answers };
        cgroup::put(group, &process.child.id().to_string())?;
        Ok(process)
    }

    pub(super) fn ask(&mut self, to: IpAddr) -> Result<Result<Page, String>> {
        writeln!(self.asks, "{to}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        outcome(line.trim_end()).with_context(|| format!("the client said {line:?}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What runs in the process: until nobody asks any more.
///
/// # Errors
/// When it is told something else than an address.
pub fn serve_asker() -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let told = told(&page(line?.parse()?));
        writeln!(std::io::stdout(), "{told}")?;
    }
    Ok(())
}

fn told(outcome: &Result<Page, String>) -> String {
    match outcome {
        Ok(Page { web, databases: [v4, v6] }) => format!("page {web} {v4} {v6}"),
        Err(reason) => format!("failed {}", reason.replace('\n', " ")),
    }
}

fn outcome(line: &str) -> Result<Result<Page, String>> {
    if let Some(reason) = line.strip_prefix("failed ") {
        return Ok(Err(reason.to_owned()));
    }
    let words: Vec<&str> = line.split(' ').collect();
    ensure!(words.len() == 4 && words[0] == "page", "neither a page nor a failure");
    let [web, v4, v6] = [1, 2, 3].map(|place| words[place].to_owned());
    Ok(Ok(Page { web, databases: [v4, v6] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_request_goes_through_a_line() {
        let databases = ["worker-pod2", "master-pod1"].map(str::to_owned);
        let page = Ok(Page { web: "master-pod2".to_owned(), databases });
        assert_eq!(outcome(&told(&page)).unwrap(), page);
        let failed = Err("502: no database:\nrefused".to_owned());
        assert_eq!(outcome(&told(&failed)).unwrap(), Err("502: no database: refused".to_owned()));
        assert!(outcome("").is_err());
    }
}
