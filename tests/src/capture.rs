//! What passed an interface: counters by netlink, packets by `tcpdump`.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    ops::Sub,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{netns::Netns, patience::patient};

/// Packets that an interface has received and sent. Subtract an earlier reading from a later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_dropped: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_dropped: u64,
}

impl Counters {
    pub fn read(ns: &Netns, device: &str) -> Result<Self> {
        let output = ns.run(|| {
            let args = ["-s", "-j", "link", "show", "dev", device];
            Ok(Command::new("ip").args(args).output()?)
        })?;
        ensure!(output.status.success(), "{ns} has no interface {device}");
        let links: Value = serde_json::from_slice(&output.stdout)?;
        let field = |direction, name| {
            let path = format!("/0/stats64/{direction}/{name}");
            links.pointer(&path).and_then(Value::as_u64).with_context(|| format!("no {path}"))
        };
        Ok(Self {
            rx_packets: field("rx", "packets")?,
            rx_bytes: field("rx", "bytes")?,
            rx_dropped: field("rx", "dropped")?,
            tx_packets: field("tx", "packets")?,
            tx_bytes: field("tx", "bytes")?,
            tx_dropped: field("tx", "dropped")?,
        })
    }
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            rx_packets: self.rx_packets - earlier.rx_packets,
            rx_bytes: self.rx_bytes - earlier.rx_bytes,
            rx_dropped: self.rx_dropped - earlier.rx_dropped,
            tx_packets: self.tx_packets - earlier.tx_packets,
            tx_bytes: self.tx_bytes - earlier.tx_bytes,
            tx_dropped: self.tx_dropped - earlier.tx_dropped,
        }
    }
}

/// One packet as `tcpdump -e -v` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Since the epoch.
    pub at: Duration,
    pub source_mac: String,
    pub destination_mac: String,
    pub length: u32,
    /// TTL or hop limit, where there is one.
    pub ttl: Option<u8>,
    /// Everything after the time, on one line.
    pub text: String,
}

impl Frame {
    /// Source and destination of a TCP or UDP packet.
    pub fn ends(&self) -> Option<[SocketAddr; 2]> {
        // MACs come first, and have an arrow too.
        let mut parts = self.text.split(" > ").skip(1);
        let source = parts.next()?.rsplit(' ').next()?;
        let destination = parts.next()?.split(": ").next()?;
        let end = |text: &str| {
            let (address, port) = text.rsplit_once('.')?;
            Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
        };
        Some([end(source)?, end(destination)?])
    }

    fn parse(line: &str) -> Option<Self> {
        let (at, text) = line.split_once(' ')?;
        let (seconds, micros) = at.split_once('.')?;
        let at = Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse().ok()?);
        let (source, rest) = text.split_once(" > ")?;
        let destination = rest.split(',').next()?;
        Some(Self {
            at,
            source_mac: source.to_owned(),
            destination_mac: destination.to_owned(),
            length: number_after(text, "length ")?,
            ttl: number_after(text, "ttl ").or_else(|| number_after(text, "hlim ")),
            text: text.to_owned(),
        })
    }
}

fn number_after<T: std::str::FromStr>(text: &str, word: &str) -> Option<T> {
    let rest = &text[text.find(word)? + word.len()..];
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A running `tcpdump`. Dropping it ends it.
#[derive(Debug)]
pub struct Tcpdump {
    child: Child,
    frames: Receiver<Frame>,
}

impl Tcpdump {
    /// Returns when the capture is on. `filter` is a pcap filter, such as `icmp and host A`.
    pub fn start(ns: &Netns, device: &str, filter: &str) -> Result<Self> {
        let mut child = ns
            .command("tcpdump")
            .args(["-i", device, "-n", "-tt", "-e", "-v", "-l", "--immediate-mode", filter])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start tcpdump: is it installed?")?;
        let (out, errors) = (child.stdout.take(), child.stderr.take());
        let mut errors = BufReader::new(errors.context("no standard error")?);
        let mut said = String::new();
        while !said.contains("listening on") {
            if errors.read_line(&mut said)? == 0 {
                child.wait()?;
                bail!("tcpdump on {device} in {ns}: {}", said.trim());
            }
        }
        let (send, frames) = channel();
        let out = out.context("no standard output")?;
        thread::spawn(move || {
            for line in packets(out) {
                if let Some(frame) = Frame::parse(&line)
                    && send.send(frame).is_err()
                {
                    return;
                }
            }
        });
        // tcpdump writes its summary there at the end, and would die of a closed pipe.
        thread::spawn(move || for _ in errors.lines().map_while(Result::ok) {});
        Ok(Self { child, frames })
    }

    /// Waits until `count` more frames have been seen and returns them.
    pub fn wait_for(&self, count: usize, timeout: Duration) -> Result<Vec<Frame>> {
        let timeout = patient(timeout);
        let deadline = Instant::now() + timeout;
        let mut frames = Vec::new();
        while frames.len() < count {
            match self.frames.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(frame) => frames.push(frame),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{} of {count} frames within {timeout:?}: {frames:#?}", frames.len())
                }
                Err(RecvTimeoutError::Disconnected) => bail!("tcpdump has ended"),
            }
        }
        Ok(frames)
    }

    /// Returns the frames up to and with the one that `is_last`. If that was sent after all that is in question, what
    /// is not among them was not there.
    pub fn until(&self, is_last: impl Fn(&Frame) -> bool, timeout: Duration) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        loop {
            frames.extend(self.wait_for(1, timeout)?);
            if frames.last().is_some_and(&is_last) {
                return Ok(frames);
            }
        }
    }

    /// Ends the capture and returns the frames that `wait_for` has not. A frame that has only
    /// just passed may be missing: to prove absence, send one that must be seen after it and
    /// wait for that one.
    pub fn stop(mut self) -> Result<Vec<Frame>> {
        self.end()?;
        Ok(self.frames.iter().collect())
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT)?;
            self.child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Tcpdump {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Joins each packet's continuation lines, which begin with white space, to its first. A packet
/// is passed on when its own lines are there, not only when the next one begins.
fn packets(out: ChildStdout) -> impl Iterator<Item = String> {
    let mut lines = BufReader::new(out).lines().map_while(Result::ok);
    std::iter::from_fn(move || {
        let mut packet = lines.next()?;
        // `-v` breaks IPv4 packets after their header, in parentheses, and no others.
        if packet.ends_with(')')
            && packet.contains("ethertype IPv4")
            && let Some(rest) = lines.next()
        {
            packet.push(' ');
            packet.push_str(rest.trim_start());
        }
        Some(packet)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_packet_are_read_from_its_line() {
        let macs = "1.5 02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype";
        for (rest, ends) in [
            (
                "IPv4 (0x0800), length 74: (tos 0x0, ttl 63, id 1, offset 0, flags [DF], proto TCP (6), length 60) \
                 10.244.1.10.40000 > 203.0.113.10.80: Flags [S], cksum 0xbeef (correct), seq 1",
                ["10.244.1.10:40000", "203.0.113.10:80"],
            ),
            (
                "IPv6 (0x86dd), length 94: (hlim 63, next-header TCP (6) payload length: 40) \
                 fd00:244:1::10.40000 > 2001:db8:113::10.80: Flags [S], cksum 0xbeef (correct), seq 1",
                ["[fd00:244:1::10]:40000", "[2001:db8:113::10]:80"],
            ),
        ] {
            let frame = Frame::parse(&format!("{macs} {rest}")).unwrap();
            assert_eq!(frame.ends(), Some(ends.map(|end| end.parse().unwrap())));
        }
        let ping =
            Frame::parse(&format!("{macs} IPv4 (0x0800), length 98: 10.0.0.1 > 10.0.0.2: ICMP")).unwrap();
        assert_eq!(ping.ends(), None);
    }
}
