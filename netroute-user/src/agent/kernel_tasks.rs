//! What the agent keeps right in the kernel beside the maps, each in a task of its own, since it
//! may take long and nothing waits for it: the FIB mirror, the neighbours of next hops, and the end of
//! flows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use super::core::Outlets;
use crate::apply::fib::{FibConflict, Mirror};
use crate::apply::flows::{Fill, FlowTables, Pass};
use crate::apply::neighbours::Neighbours;
use crate::compile::mirror::Fib;
use crate::error::chain;
use crate::health_check::Checks;
use crate::input::netlink::Event;
use crate::kernel::NeighbourKey;
use crate::netlink::NetlinkError;

/// After a netlink failure.
const RETRY: Duration = Duration::from_secs(1);
/// After a neighbour that does not answer was asked for; the kernel asks it once a second meanwhile.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Between two passes over the flow tables.
const SWEEP: Duration = Duration::from_secs(10);
/// Where room is short.
const CROWDED_SWEEP: Duration = Duration::from_secs(1);

pub type Conflicts = watch::Receiver<Arc<Vec<FibConflict>>>;

/// Starts the tasks that have no end of their own, and says where they listen.
pub fn start(kernel: Mirror) -> Result<(Outlets, Conflicts), NetlinkError> {
    let (fib, fibs) = watch::channel(Arc::default());
    let (keep, keeps) = watch::channel(Arc::new(BTreeSet::new()));
    let (busy, busies) = mpsc::unbounded_channel();
    let (conflict, conflicts) = watch::channel(Arc::default());
    let (checks, _) = watch::channel(Arc::new(Checks::none(Instant::now())));
    let (mirror_events, mirror_inbox) = mpsc::unbounded_channel();
    let (neighbour_events, neighbour_inbox) = mpsc::unbounded_channel();
    tokio::spawn(mirror(kernel, fibs, mirror_inbox, conflict));
    tokio::spawn(neighbours(Neighbours::open()?, keeps, busies, neighbour_inbox));
    Ok((Outlets { fib, keep, busy, checks, events: vec![mirror_events, neighbour_events] }, conflicts))
}

/// Keeps the kernel's FIB equal to the last wanted one.
pub async fn mirror(
    mut mirror: Mirror,
    mut wanted: watch::Receiver<Arc<Fib>>,
    mut events: mpsc::UnboundedReceiver<Event>,
    conflicts: watch::Sender<Arc<Vec<FibConflict>>>,
) {
    // Nothing is removed before the first wanted table is there.
    if wanted.changed().await.is_err() {
        return;
    }
    let mut due = true;
    loop {
        while let Ok(event) = events.try_recv() {
            due |= mirror.observe(&event);
        }
        if due {
            let fib = wanted.borrow_and_update().clone();
            match mirror.reconcile(&fib).await {
                Ok(done) => {
                    due = false;
                    conflicts.send_if_modified(|held| {
                        let changed = **held != done.conflicts;
                        *held = Arc::new(done.conflicts);
                        changed
                    });
                }
                Err(error) => {
                    warn!(%error, "kernel routes: trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
            continue;
        }
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => due = mirror.observe(&event),
                None => return,
            },
            changed = wanted.changed() => match changed {
                Ok(()) => due = true,
                Err(_) => return,
            },
        }
    }
}

/// Keeps the neighbours of next hops resolved, and those that carry traffic confirmed.
pub async fn neighbours(
    mut neighbours: Neighbours,
    mut wanted: watch::Receiver<Arc<BTreeSet<NeighbourKey>>>,
    mut busy: mpsc::UnboundedReceiver<BTreeSet<NeighbourKey>>,
    mut events: mpsc::UnboundedReceiver<Event>,
) {
    if wanted.changed().await.is_err() {
        return;
    }
    let mut due = true;
    let mut again = tokio::time::interval(ASK_AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while let Ok(event) = events.try_recv() {
            due |= neighbours.observe(&event);
        }
        if due {
            let keys = wanted.borrow_and_update().clone();
            match neighbours.keep(&keys).await {
                Ok(unkept) => {
                    due = false;
                    for unkept in unkept {
                        warn!(address = %unkept.key.address, ifindex = unkept.key.ifindex, error = %unkept.source, "neighbour not kept");
                    }
                }
                Err(error) => {
                    warn!(%error, "neighbours: trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
            continue;
        }
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => due = neighbours.observe(&event),
                None => return,
            },
            changed = wanted.changed() => match changed {
                Ok(()) => due = true,
                Err(_) => return,
            },
            _ = again.tick(), if neighbours.waits() => due = true,
            Some(keys) = busy.recv() => {
                if let Err(error) = neighbours.refresh(&keys).await {
                    warn!(%error, "neighbours: not refreshed");
                }
            }
        }
    }
}

/// Removes flows that are over. Begins at once: start it when the maps hold what they should (N14).
pub async fn sweep(mut tables: FlowTables, passes: watch::Sender<Arc<Pass>>) {
    loop {
        let pause = match tables.pass().await {
            Ok(pass) => {
                debug!(removed = pass.removed, complete = pass.complete, "flows looked through");
                let crowded = pass.tables.values().any(Fill::is_crowded);
                passes.send_replace(Arc::new(pass));
                if crowded { CROWDED_SWEEP } else { SWEEP }
            }
            Err(error) => {
                warn!(error = %chain(&error), "flows: trying again");
                SWEEP
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = passes.closed() => return,
        }
    }
}
