//! Opens and closes ports as Services come and go; those that stay are not touched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::info;

use super::Checks;
use super::listen::{self, MOST};
use crate::desired::service::ServiceKey;

/// How soon a port that could not be had is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A health check port that could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the health check port {port} is not served: {reason}; it is tried again every second")]
pub struct PortProblem {
    pub service: ServiceKey,
    pub port: u16,
    pub reason: String,
}

pub type Problems = Arc<Vec<PortProblem>>;

/// Serves the ports that the agent tells, until the agent is gone.
pub async fn serve(mut checks: watch::Receiver<Arc<Checks>>, problems: watch::Sender<Problems>) {
    let told = checks.clone();
    let mut ports =
        Ports { told, all: Arc::new(Semaphore::new(MOST)), open: BTreeMap::new(), tasks: JoinSet::new() };
    loop {
        let wanted = checks.borrow_and_update().clone();
        let found = Arc::new(ports.follow(&wanted));
        let again = !found.is_empty();
        problems.send_if_modified(|held| {
            let changed = **held != *found;
            *held = found;
            changed
        });
        tokio::select! {
            changed = checks.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if again => {}
        }
    }
}

struct Ports {
    told: watch::Receiver<Arc<Checks>>,
    /// One permit for each connection.
    all: Arc<Semaphore>,
    open: BTreeMap<u16, AbortHandle>,
    /// Dropping them closes the ports.
    tasks: JoinSet<()>,
}

impl Ports {
    /// Closes what is no longer wanted, opens what is missing; what could not be opened.
    fn follow(&mut self, wanted: &Checks) -> Vec<PortProblem> {
        self.open.retain(|port, task| {
            let stays = wanted.ports.contains_key(port);
            if !stays {
                task.abort();
                info!(port, "health check port closed");
            }
            stays
        });
        while self.tasks.try_join_next().is_some() {}
        let mut problems = Vec::new();
        for (&port, check) in &wanted.ports {
            if self.open.contains_key(&port) {
                continue;
            }
            match listen::on_all_addresses(port) {
                Ok(listener) => {
                    info!(port, service = %check.service, "health check port opened");
                    let served = listen::serve(listener, port, self.told.clone(), self.all.clone());
                    self.open.insert(port, self.tasks.spawn(served));
                }
                Err(error) => {
                    let service = check.service.clone();
                    problems.push(PortProblem { service, port, reason: error.to_string() });
                }
            }
        }
        problems
    }
}
