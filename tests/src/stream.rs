//! A numbered stream of datagrams, and what of it arrived.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
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
/// How long the receiver waits for one datagram before it asks whether the stream has ended.
const LOOK: Duration = Duration::from_millis(20);

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

    /// Reads until all that was sent is there, or, once `sent` says how much that is, nothing has come
    /// for `silence`. Until then a pause is the sender's.
    pub fn count(self, silence: Duration, sent: &OnceLock<u64>) -> Result<Received> {
        let mut bytes = [0; 8];
        self.socket.set_read_timeout(Some(LOOK))?;
        let mut seen = Vec::new();
        let mut quiet_since = Instant::now();
        loop {
            if self.socket.recv(&mut bytes).is_ok_and(|length| length == bytes.len()) {
                seen.push(u64::from_be_bytes(bytes));
                quiet_since = Instant::now();
                continue;
            }
            match sent.get() {
                Some(&sent) if seen.len() as u64 >= sent => break,
                Some(_) if quiet_since.elapsed() > patience::silence(silence) => break,
                Some(_) => {}
                // The wait for what is still on its way begins with the end of the stream.
                None => quiet_since = Instant::now(),
            }
        }
        seen.sort_unstable();
        seen.dedup();
        let gaps = seen.windows(2).map(|pair| pair[1] - pair[0] - 1);
        Ok(Received { datagrams: seen.len() as u64, longest_gap: gaps.max().unwrap_or(0) })
    }
}
