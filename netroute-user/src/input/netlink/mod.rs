//! The kernel's network state, followed: a full state first, then each change as it happens.
//!
//! Subscribes before it reads, so that nothing falls between the two. Knows nothing of what the
//! state is used for.

pub mod ask_route;
mod devices;
mod follow;
pub mod notice;
pub mod parse;
mod snapshot;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::kernel::{Change, KernelState};
use crate::netlink::NetlinkError;

/// Events that may wait for the consumer; beyond it the kernel's own buffers fill.
const EVENTS: usize = 4096;
/// Room for notifications that were not read yet, bytes per socket.
const RECEIVE_BUFFER: usize = 32 << 20;

/// What the watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The whole state: the first event, and again whenever notifications were lost.
    Synced(KernelState),
    /// One change to the state told so far.
    Changed(Change),
}

/// How a [`Watch`] is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Port of the mirror's socket (`apply::fib::Mirror::port`): what it does to the agent's own
    /// routes is not told back.
    pub mirror_port: Option<u32>,
    /// Bytes of unread notifications per socket before the kernel drops any.
    pub receive_buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { mirror_port: None, receive_buffer: RECEIVE_BUFFER }
    }
}

/// Follows the network namespace that the process (every thread of its runtime) is in. Dropping it
/// ends it.
pub struct Watch {
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Subscribes and starts reading. The first event is `Synced`.
    pub async fn open(options: Options) -> Result<Self, NetlinkError> {
        let (sender, events) = mpsc::channel(EVENTS);
        let follower = follow::Follower::open(options, sender).await?;
        Ok(Self { events, task: tokio::spawn(follower.run()) })
    }

    /// The next event. `None` only when the runtime shuts down. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// An event that is already there: to take in all that is known before acting on it.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
