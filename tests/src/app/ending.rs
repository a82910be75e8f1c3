//! A replica ends under requests, as a kubelet has it: first its endpoint terminates, then its server ends,
//! then its endpoint is gone.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{App, Clients, Endpoint, Replica, Request, Stream};

/// Between two of the steps.
const MOMENT: Duration = Duration::from_millis(300);

/// What clients saw of it.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    pub requests: usize,
    /// Begun before the endpoint's end was known everywhere, still under way when the server was killed, and
    /// failed.
    pub in_flight: usize,
    /// All others that failed.
    pub failed: Vec<String>,
    /// Begun after the endpoint's end was known everywhere, and answered by it.
    pub late: usize,
}

impl App {
    /// Ends a replica under requests of all clients. `settled` returns when both agents use so many addresses
    /// of the Service.
    ///
    /// # Errors
    /// When a step cannot be taken; failed requests are part of the answer.
    pub fn end_under_requests(
        &mut self,
        clients: &[Clients],
        replica: Replica,
        pod: &str,
        settled: impl Fn(usize) -> Result<()>,
    ) -> Result<Ending> {
        let others = 2 * (self.replicas().len() - 1);
        let stream = Stream::start(clients);
        let mut end = || {
            thread::sleep(MOMENT);
            self.set(replica, pod, Endpoint::Terminating)?;
            settled(others)?;
            let known = Instant::now();
            thread::sleep(MOMENT);
            let killed = Instant::now();
            self.kill(replica, pod)?;
            thread::sleep(MOMENT);
            self.set(replica, pod, Endpoint::Gone)?;
            settled(others)?;
            thread::sleep(MOMENT);
            anyhow::Ok((known, killed))
        };
        let times = end();
        let requests = stream.stop()?;
        let (known, killed) = times?;
        let mut ending = Ending { requests: requests.len(), ..Ending::default() };
        for Request { begun, ended, outcome } in requests {
            let answered = outcome.as_ref().map(|page| match replica {
                Replica::Web => page.web == pod,
                Replica::Database => page.databases.iter().any(|name| name == pod),
            });
            match answered {
                Ok(by_it) => ending.late += usize::from(by_it && begun > known),
                // What began later had no reason to be with it.
                Err(_) if begun < known && ended > killed => ending.in_flight += 1,
                Err(reason) => ending.failed.push(reason.clone()),
            }
        }
        Ok(ending)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When it does not start, or the agents do not use it.
    pub fn bring_back(
        &mut self,
        replica: Replica,
        pod: &str,
        settled: impl Fn(usize) -> Result<()>,
    ) -> Result<()> {
        self.start(replica, pod)?;
        self.set(replica, pod, Endpoint::Ready)?;
        settled(2 * self.replicas().len())
    }
}
