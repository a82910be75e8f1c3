//! Active liveness checks of next hops, beside carrier and neighbour state: asks in intervals and
//! tells when an answer stays out, or comes back. Knows nothing of routes.

mod echo;
mod neighbour;
pub mod threshold;

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};

use self::threshold::Threshold;
use crate::desired::route::{Probe, ProbeKind};
use crate::kernel::NeighbourKey;

const EVENTS: usize = 256;

/// A next hop's liveness changed. Without any event a next hop counts as alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeEvent {
    /// Interface and address of the next hop.
    pub target: NeighbourKey,
    pub alive: bool,
}

/// The probes under way. Dropping it ends them.
pub struct Probes {
    tasks: BTreeMap<NeighbourKey, Running>,
    events: mpsc::Sender<ProbeEvent>,
}

impl Probes {
    /// No probes yet, and where their events arrive.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<ProbeEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        (Self { tasks: BTreeMap::new(), events }, receiver)
    }

    /// Probes exactly these from now on. One that is the same as before goes on undisturbed; one
    /// that is new or changed starts over as alive.
    pub fn set(&mut self, wanted: &BTreeMap<NeighbourKey, Probe>) {
        self.tasks.retain(|target, running| wanted.get(target) == Some(&running.probe));
        for (&target, &probe) in wanted {
            let events = &self.events;
            self.tasks.entry(target).or_insert_with(|| Running::start(target, probe, events.clone()));
        }
    }
}

struct Running {
    probe: Probe,
    task: JoinHandle<()>,
}

impl Running {
    fn start(target: NeighbourKey, probe: Probe, events: mpsc::Sender<ProbeEvent>) -> Self {
        let verdict = Verdict { target, threshold: Threshold::new(probe.threshold), events };
        let task = match probe.kind {
            ProbeKind::Neighbour => tokio::spawn(neighbour::run(target, ticks(&probe), verdict)),
            ProbeKind::Echo => tokio::spawn(echo::run(target, ticks(&probe), verdict)),
        };
        Self { probe, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ticks at the probe's interval, and never in a burst to catch up.
fn ticks(probe: &Probe) -> Interval {
    let mut ticks = tokio::time::interval(probe.interval.max(std::time::Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Turns answers into events.
struct Verdict {
    target: NeighbourKey,
    threshold: Threshold,
    events: mpsc::Sender<ProbeEvent>,
}

impl Verdict {
    async fn record(&mut self, answered: bool) {
        if let Some(alive) = self.threshold.record(answered) {
            // Nobody listens any more only when the agent ends.
            let _ = self.events.send(ProbeEvent { target: self.target, alive }).await;
        }
    }
}
