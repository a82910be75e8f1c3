//! ICMP echo by the system's `ping`.

use std::{net::IpAddr, process::Command};

use anyhow::{Context, Result};

use crate::netns::Netns;

/// What `ping` reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    pub sent: u32,
    pub received: u32,
    /// All it printed, ICMP errors included.
    pub output: String,
}

impl Ping {
    pub fn answered(&self) -> bool {
        self.received > 0
    }
}

/// Pings numerically and waits at most a second per answer. `options` go before the address:
/// `["-c", "1"]`, `["-c", "3", "-t", "1", "-s", "1400"]`.
pub fn ping(ns: &Netns, target: IpAddr, options: &[&str]) -> Result<Ping> {
    let output = ns.run(|| {
        let mut command = Command::new("ping");
        command.args(["-n", "-W", "1"]).args(options).arg(target.to_string());
        command.output().context("cannot start ping: is iputils-ping installed?")
    })?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let output = text.concat();
    let (sent, received) =
        summary(&output).with_context(|| format!("ping {target} in {ns} printed no summary:\n{output}"))?;
    Ok(Ping { sent, received, output })
}

/// `3 packets transmitted, 2 received, …`
fn summary(output: &str) -> Option<(u32, u32)> {
    let line = output.lines().find(|line| line.contains("packets transmitted"))?;
    let mut numbers = line.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}
