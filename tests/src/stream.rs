//! A numbered stream of datagrams, and what of it arrived.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};

use crate::patience;

/// Datagrams per burst; one burst per millisecond. Far below what a veth's ring holds (256), so
/// that a loss is never the generator's fault.
const BURST: u32 = 50;
const PERIOD: Duration = Duration::from_millis(1);
/// A sender that was held up this long goes on at its rate instead of making up for it in one
/// burst, which queues on the way would drop.
const SLIP: Duration = Duration::from_millis(3);
/// Kernel memory for datagrams that the receiver has not read yet.
const BUFFER: usize = 64 << 20;

/// Sends until `stop`; how many were sent.
pub fn send(from: SocketAddr, to: SocketAddr, stop: &Arc<AtomicBool>) -> Result<u64> {
    let socket = UdpSocket::bind(from).with_context(|| from.to_string())?;
    socket.connect(to)?;
    let mut number = 0_u64;
    let burst = patience::rate(BURST);
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..burst {
            socket.send(&number.to_be_bytes())?;
            number += 1;
        }
        due += PERIOD;
        let now = Instant::now();
        match due.checked_duration_since(now) {
            Some(early) => std::thread::sleep(early),
            None if now - due > SLIP => due = now,
            None => {}
        }
    }
    Ok(number)
}

/// The receiving end; bind it before the sender starts.
pub struct Receiver {
    socket: UdpSocket,
}

/// What arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Different numbers.
    pub datagrams: u64,
    /// Longest stretch of numbers that were lost together.
    pub longest_gap: u64,
}

impl Receiver {
    pub fn bind(at: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind(at).with_context(|| at.to_string())?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        Ok(Self { socket })
    }

    /// Reads until nothing has come for `silence` after the first datagram.
    pub fn count(self, silence: Duration) -> Result<Received> {
        let mut bytes = [0; 8];
        self.socket.set_read_timeout(Some(patience::patient(Duration::from_secs(20))))?;
        let mut seen = Vec::new();
        while let Ok(8) = self.socket.recv(&mut bytes) {
            self.socket.set_read_timeout(Some(patience::silence(silence)))?;
            seen.push(u64::from_be_bytes(bytes));
        }
        seen.sort_unstable();
        seen.dedup();
        let gaps = seen.windows(2).map(|pair| pair[1] - pair[0] - 1);
        Ok(Received { datagrams: seen.len() as u64, longest_gap: gaps.max().unwrap_or(0) })
    }
}
