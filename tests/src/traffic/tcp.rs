//! TCP connections to an echo server, every byte compared.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::netns::Netns;

/// An open connection to an echo server (`peer::Service::Echo`) that stays open between
/// exchanges, so that a test can do something to the path meanwhile.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    sent: u64,
}

/// One exchange: so many bytes went out and came back the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub bytes: u64,
    pub elapsed: Duration,
}

impl Connection {
    /// `timeout` holds for the connect and for each later read and write that makes no progress.
    pub fn open(ns: &Netns, server: SocketAddr, timeout: Duration) -> Result<Self> {
        ns.run(|| {
            let stream = TcpStream::connect_timeout(&server, timeout)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            stream.set_nodelay(true)?;
            Ok(Self { stream, sent: 0 })
        })
        .with_context(|| format!("{ns} connecting to {server}"))
    }

    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// The server as the kernel names it to the process.
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        Ok(self.stream.peer_addr()?)
    }

    /// Sends `bytes` bytes that no earlier part of the connection repeats, while it reads and
    /// compares what comes back.
    pub fn exchange(&mut self, bytes: u64) -> Result<Transfer> {
        let begin = Instant::now();
        let (from, to) = (self.sent, self.sent + bytes);
        let mut writer = self.stream.try_clone()?;
        let mut reader = &self.stream;
        thread::scope(|scope| {
            let sending = scope.spawn(move || -> Result<()> {
                for_each_chunk(from, to, |_, chunk| Ok(writer.write_all(chunk)?))
            });
            let compared = for_each_chunk(from, to, |at, chunk| {
                let mut got = vec![0; chunk.len()];
                reader.read_exact(&mut got).with_context(|| format!("no answer to byte {at}"))?;
                ensure!(got == chunk, "other bytes came back than were sent, from byte {at} on");
                Ok(())
            });
            if compared.is_err() {
                // The writer may wait for a window that nobody opens any more.
                let _ = self.stream.shutdown(std::net::Shutdown::Both);
            }
            let sent = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            compared.and(sent)
        })?;
        self.sent = to;
        Ok(Transfer { bytes, elapsed: begin.elapsed() })
    }
}

impl Transfer {
    pub fn mbit_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e6 / self.elapsed.as_secs_f64()
    }
}

fn for_each_chunk(from: u64, to: u64, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    const CHUNK: u64 = 16 * 1024;
    let mut at = from;
    while at < to {
        let length = CHUNK.min(to - at);
        each(at, &pattern(at, length))?;
        at += length;
    }
    Ok(())
}

/// Bytes that depend on their place in the connection and repeat nowhere near.
pub(crate) fn pattern(at: u64, length: u64) -> Vec<u8> {
    (at..at + length)
        .map(|place| {
            let mixed = (place / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (place / 8).rotate_left(32);
            (mixed >> (place % 8 * 8)) as u8
        })
        .collect()
}
