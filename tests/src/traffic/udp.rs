//! A constant-rate UDP stream from one namespace to another, and what became of it.
//!
//! Each datagram carries its number; arrival times are the receiving kernel's. A host that has
//! too much to do delays the sender too, hence the report tells silence with loss (an outage)
//! from silence of the sender.

use std::{
    io::{IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, recvmsg, sendmmsg, setsockopt, sockopt},
};

use super::udp_report::Tally;
pub use super::udp_report::{Loss, StreamReport};
use crate::netns::Netns;
use crate::patience;

const HEADER: usize = 16;
const TICK: Duration = Duration::from_millis(1);
/// A sender that was held up this long goes on at its rate instead of making up for it in one
/// burst, which queues on the way would drop.
const SLIP: Duration = Duration::from_millis(3);
/// After the last datagram was sent, silence of this length means that nothing more will come.
const QUIET: Duration = Duration::from_millis(500);
const RECEIVE_BUFFER: usize = 64 << 20;
/// The number of the datagrams that find out whether there is a path at all.
const PROBE: u64 = u64::MAX;

/// What to send where.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    pub from: Netns,
    pub to: Netns,
    /// An address of `to`, and a port that is free there.
    pub target: SocketAddr,
    pub source: Option<IpAddr>,
    /// Datagrams per second.
    pub rate: u32,
    /// Bytes of UDP payload, 16 at least.
    pub payload: usize,
}

impl StreamSpec {
    /// 50 000 datagrams a second of 64 bytes.
    pub fn new(from: &Netns, to: &Netns, target: SocketAddr) -> Self {
        Self { from: from.clone(), to: to.clone(), target, source: None, rate: 50_000, payload: 64 }
    }

    pub fn rate(self, rate: u32) -> Self {
        Self { rate, ..self }
    }

    pub fn payload(self, payload: usize) -> Self {
        Self { payload, ..self }
    }

    pub fn source(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }
}

/// A stream that runs until `stop`.
#[derive(Debug)]
pub struct UdpStream {
    shared: Arc<Shared>,
    sender: Option<JoinHandle<SenderReport>>,
    receiver: Option<JoinHandle<Tally>>,
}

#[derive(Debug, Default)]
struct Shared {
    id: u64,
    stopping: AtomicBool,
    sent: AtomicU64,
    /// All datagrams have been sent; `sent` will not change any more.
    done: AtomicBool,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    probed: bool,
    received: u64,
}

#[derive(Debug, Default)]
struct SenderReport {
    refused: u64,
    longest_pause: Duration,
}

impl UdpStream {
    /// Opens both ends, waits until a first datagram has made its way (5 s at most), and goes on
    /// at full rate. The way is then known: no neighbour has to be found while packets queue.
    pub fn start(spec: &StreamSpec) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        ensure!(spec.rate > 0 && spec.payload >= HEADER, "a stream needs a rate and {HEADER} bytes");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = u64::from(std::process::id()) << 32 | u64::from(count);
        let shared = Arc::new(Shared { id, ..Shared::default() });
        let inbound = spec
            .to
            .run(|| Ok(UdpSocket::bind(spec.target)?))
            .with_context(|| format!("{} cannot receive at {}", spec.to, spec.target))?;
        inbound.set_read_timeout(Some(Duration::from_millis(50)))?;
        setsockopt(&inbound, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        setsockopt(&inbound, sockopt::ReceiveTimestampns, &true)?;
        let outbound = spec.from.run(|| {
            let any = if spec.target.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let socket = UdpSocket::bind((spec.source.unwrap_or(any), 0))?;
            socket.connect(spec.target)?;
            Ok(socket)
        })?;
        let mut stream = Self { shared: Arc::clone(&shared), sender: None, receiver: None };
        let own = Arc::clone(&shared);
        stream.receiver = Some(thread::spawn(move || receive(&inbound, &own)));
        stream.probe(&outbound, spec)?;
        let (rate, payload) = (patience::rate(spec.rate), spec.payload);
        stream.sender = Some(thread::spawn(move || send(&outbound, rate, payload, &shared)));
        Ok(stream)
    }

    fn probe(&self, outbound: &UdpSocket, spec: &StreamSpec) -> Result<()> {
        let StreamSpec { from, target, .. } = spec;
        let deadline = Instant::now() + patience::patient(Duration::from_secs(5));
        let mut progress = self.lock();
        while !progress.probed {
            ensure!(Instant::now() < deadline, "no datagram from {from} reaches {target}");
            // An error is one of an earlier probe, reported late; the next try tells.
            let _ = outbound.send(&datagram(self.shared.id, PROBE, HEADER));
            let wait = Duration::from_millis(20);
            progress = self.shared.changed.wait_timeout(progress, wait).map_err(poisoned)?.0;
        }
        Ok(())
    }

    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    pub fn received(&self) -> u64 {
        self.lock().received
    }

    /// Waits until `count` more datagrams have arrived.
    pub fn wait_for(&self, count: u64, timeout: Duration) -> Result<()> {
        let timeout = patience::patient(timeout);
        let progress = self.lock();
        let goal = progress.received + count;
        let (progress, waited) = self
            .shared
            .changed
            .wait_timeout_while(progress, timeout, |progress| progress.received < goal)
            .map_err(poisoned)?;
        if waited.timed_out() {
            bail!("only {} of {goal} datagrams arrived within {timeout:?}", progress.received);
        }
        Ok(())
    }

    /// Ends the stream, waits for what is under way, and reports.
    pub fn stop(mut self) -> Result<StreamReport> {
        let (sender, tally) = self.finish();
        let (sender, tally) = (sender.context("sender failed")?, tally.context("receiver failed")?);
        Ok(tally.report(self.sent(), sender.refused, sender.longest_pause))
    }

    fn finish(&mut self) -> (Option<SenderReport>, Option<Tally>) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let sender = self.sender.take().and_then(|thread| thread.join().ok());
        self.shared.done.store(true, Ordering::Release);
        (sender, self.receiver.take().and_then(|thread| thread.join().ok()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.shared.progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for UdpStream {
    fn drop(&mut self) {
        self.finish();
    }
}

fn poisoned<T>(_: std::sync::PoisonError<T>) -> anyhow::Error {
    anyhow::anyhow!("the receiver panicked")
}

fn datagram(id: u64, number: u64, payload: usize) -> Vec<u8> {
    let mut bytes = [id.to_be_bytes(), number.to_be_bytes()].concat();
    bytes.resize(payload, 0);
    bytes
}

fn send(socket: &UdpSocket, rate: u32, payload: usize, shared: &Shared) -> SenderReport {
    let mut report = SenderReport::default();
    let batch = (rate / 1000).max(1);
    let interval = Duration::from_secs(1) * batch / rate;
    let mut buffers = vec![datagram(shared.id, 0, payload); batch as usize];
    let mut headers = MultiHeaders::<()>::preallocate(buffers.len(), None);
    let (mut number, mut due, mut last) = (0, Instant::now(), Instant::now());
    while !shared.stopping.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now < due {
            thread::sleep((due - now).min(TICK * 50));
            continue;
        }
        report.longest_pause = report.longest_pause.max(now - last);
        last = now;
        due = if now - due > SLIP { now + interval } else { due + interval };
        for buffer in &mut buffers {
            buffer[8..HEADER].copy_from_slice(&u64::to_be_bytes(number));
            number += 1;
        }
        report.refused += send_all(socket, &mut headers, &buffers);
        shared.sent.store(number, Ordering::Relaxed);
    }
    report
}

/// Sends all of them, and returns how many the own kernel refused to send.
fn send_all(socket: &UdpSocket, headers: &mut MultiHeaders<()>, buffers: &[Vec<u8>]) -> u64 {
    let (mut at, mut failed, mut refused) = (0, false, 0);
    while at < buffers.len() {
        let slices: Vec<_> = buffers[at..].iter().map(|buffer| [IoSlice::new(buffer)]).collect();
        let nowhere = vec![None; slices.len()];
        match sendmmsg(socket.as_raw_fd(), headers, &slices, &nowhere, [], MsgFlags::empty()) {
            Ok(sent) => {
                at += sent.count();
                failed = false;
            }
            // The first error may be an ICMP answer to an earlier datagram: that one was not
            // tried. A second in a row is this one's own.
            Err(_) if !failed => failed = true,
            Err(_) => {
                at += 1;
                refused += 1;
                failed = false;
            }
        }
    }
    refused
}

fn receive(socket: &UdpSocket, shared: &Shared) -> Tally {
    let mut tally = Tally::default();
    let mut quiet_since = Instant::now();
    loop {
        if shared.done.load(Ordering::Acquire) {
            let complete = tally.received() >= shared.sent.load(Ordering::Relaxed);
            if complete || quiet_since.elapsed() > patience::silence(QUIET) {
                return tally;
            }
        } else {
            quiet_since = Instant::now();
        }
        let Some((number, at)) = receive_one(socket, shared.id) else {
            continue;
        };
        quiet_since = Instant::now();
        if number != PROBE {
            tally.arrived(number, at);
        }
        let Ok(mut progress) = shared.progress.lock() else {
            return tally;
        };
        progress.probed = true;
        progress.received = tally.received();
        drop(progress);
        shared.changed.notify_all();
    }
}

/// The number and the arrival time of the next datagram of this stream, if one comes soon.
fn receive_one(socket: &UdpSocket, id: u64) -> Option<(u64, SystemTime)> {
    let mut bytes = [0; HEADER];
    let mut cmsgs = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::empty();
    let message = match recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(&mut cmsgs), flags) {
        Ok(message) => message,
        Err(Errno::EAGAIN | Errno::EINTR) => return None,
        Err(error) => panic!("cannot receive: {error}"),
    };
    let stamp = message.cmsgs().ok()?.find_map(|cmsg| match cmsg {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
        _ => None,
    })?;
    if message.bytes < HEADER {
        return None;
    }
    let word = |at: usize| bytes[at..at + 8].try_into().map(u64::from_be_bytes).ok();
    (word(0)? == id).then_some((word(8)?, SystemTime::UNIX_EPOCH + stamp))
}
