//! Very many TCP connections that live at the same time, each exchanging data now and then, every byte
//! compared. One thread for the clients of one namespace, one for a server.

mod echo;
pub mod flood;
mod half_closed;

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use echo::EchoServer;
pub use half_closed::HalfClosed;

use crate::{agent::eventually, netns::Netns, patience::patient, traffic::pattern};

/// Bytes of one exchange.
const CHUNK: u64 = 700;
/// Between two exchanges of one connection.
const PAUSE: Duration = Duration::from_millis(250);
/// TCP repairs a lost packet or two in this time; a connection that is cut is silent for ever.
const SILENCE: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);
pub(crate) const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// The clients of one namespace at one server.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    /// Exchanges that every connection has done.
    rounds: Arc<AtomicU64>,
    /// Why it ended before it was told to.
    reason: Arc<OnceLock<String>>,
    thread: JoinHandle<Result<u64>>,
}

struct Member {
    stream: TcpStream,
    /// Where in the endless pattern this connection began.
    begin: u64,
    asked: u64,
    written: u64,
    answered: u64,
    /// When the last exchange began, or ended.
    since: Instant,
}

impl Crowd {
    /// Opens `count` connections, and lets them exchange data from now on.
    ///
    /// # Errors
    /// When one does not open.
    pub fn open(ns: &Netns, server: SocketAddr, count: u64) -> Result<Self> {
        allow_many_files()?;
        let members = ns.run(|| (0..count).map(|number| Member::open(server, number)).collect());
        let members: Vec<Member> = members.with_context(|| format!("{ns} connecting to {server}"))?;
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let reason = Arc::new(OnceLock::new());
        let (stopping, done, why) = (Arc::clone(&stop), Arc::clone(&rounds), Arc::clone(&reason));
        let whose = format!("{ns} to {server}");
        let thread = thread::spawn(move || {
            run(members, &stopping, &done).context(whose).inspect_err(|error| {
                let _ = why.set(format!("{error:#}"));
            })
        });
        Ok(Self { stop, rounds, reason, thread })
    }

    /// Waits until every connection has exchanged data so many times more.
    ///
    /// # Errors
    /// When one is cut; `close` says which.
    pub fn more(&self, rounds: u64) -> Result<()> {
        let wanted = self.rounds.load(Ordering::Relaxed) + rounds;
        eventually("all connections to exchange data", 2 * SILENCE, || {
            Ok(self.thread.is_finished() || self.rounds.load(Ordering::Relaxed) >= wanted)
        })?;
        ensure!(!self.thread.is_finished(), "a connection was cut: {:?}", self.reason.get());
        Ok(())
    }

    /// Ends all connections; how many exchanges there were.
    ///
    /// # Errors
    /// When one was cut, or brought back other bytes than were sent.
    pub fn close(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Both ends of all connections are this process's.
fn allow_many_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

fn run(mut members: Vec<Member>, stop: &AtomicBool, rounds: &AtomicU64) -> Result<u64> {
    loop {
        let (now, stopping) = (Instant::now(), stop.load(Ordering::Relaxed));
        for member in members.iter_mut().filter(|member| member.is_idle()) {
            if !stopping && now.duration_since(member.since) >= PAUSE {
                (member.asked, member.since) = (member.asked + CHUNK, now);
                member.write()?;
            }
        }
        let waiting: Vec<usize> = (0..members.len()).filter(|at| !members[*at].is_idle()).collect();
        if stopping && waiting.is_empty() {
            return Ok(members.iter().map(|member| member.answered / CHUNK).sum());
        }
        for at in ready(&members, &waiting)? {
            members[at].write()?;
            members[at].read()?;
        }
        let late = |member: &&Member| !member.is_idle() && member.since.elapsed() > patient(SILENCE);
        if let Some(member) = members.iter().find(late) {
            bail!("{member} got no answer for {SILENCE:?}");
        }
        let slowest = members.iter().map(|member| member.answered / CHUNK).min().unwrap_or(0);
        rounds.store(slowest, Ordering::Relaxed);
    }
}

/// Those of the waiting that can go on.
fn ready(members: &[Member], waiting: &[usize]) -> Result<Vec<usize>> {
    let wanted = |member: &Member| {
        if member.written < member.asked { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    };
    let mut fds: Vec<PollFd<'_>> =
        waiting.iter().map(|at| PollFd::new(&members[*at].stream, wanted(&members[*at]))).collect();
    poll(&mut fds, Some(&TICK))?;
    let found = waiting.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
    Ok(found.map(|(at, _)| *at).collect())
}

impl Member {
    fn open(server: SocketAddr, number: u64) -> Result<Self> {
        let stream =
            TcpStream::connect_timeout(&server, CONNECT).with_context(|| format!("number {number}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        // Exchanges are spread over the pause between two of them.
        let since = Instant::now();
        Ok(Self { stream, begin: number << 32, asked: 0, written: 0, answered: 0, since })
    }

    fn is_idle(&self) -> bool {
        self.answered == self.asked
    }

    fn write(&mut self) -> Result<()> {
        while self.written < self.asked {
            let bytes = pattern(self.begin + self.written, self.asked - self.written);
            match self.stream.write(&bytes) {
                Ok(length) => self.written += length as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context(self.to_string()),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let mut buffer = [0; CHUNK as usize];
        while !self.is_idle() {
            let length = match self.stream.read(&mut buffer) {
                Ok(0) => bail!("{self} was closed by the server"),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context(self.to_string()),
            };
            let expected = pattern(self.begin + self.answered, length as u64);
            ensure!(buffer[..length] == expected, "{self} got other bytes than it sent");
            self.answered += length as u64;
            self.since = Instant::now();
        }
        Ok(())
    }
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { begin, answered, stream, .. } = self;
        let port = stream.local_addr().map_or(0, |address| address.port());
        write!(f, "connection {} (port {port}) after {answered} bytes", begin >> 32)
    }
}
