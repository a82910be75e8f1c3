//! SIGTERM, SIGINT and SIGHUP.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What signals tell the agent. They are heard as long as this lives, and kept until somebody asks.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

pub enum Told {
    /// The data plane stays.
    End,
    Reread,
}

impl Signals {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Cancel safe.
    pub async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.hangup.recv() => Told::Reread,
        }
    }
}
