//! Clients of the application: one after the other to see how they are shared out, or a steady stream.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{BALANCER, Page, WEB, WEB_PORT};
use crate::{
    lab::{Dual, Lab},
    netns::Netns,
    traffic,
};

const TIMEOUT: Duration = Duration::from_secs(4);
/// Between two requests of one client of a stream.
const PAUSE: Duration = Duration::from_millis(5);

/// Where requests come from, and which address they are for.
#[derive(Clone, Debug)]
pub struct Clients {
    pub name: &'static str,
    pub ns: Netns,
    pub to: Dual,
}

/// One request: when, and what became of it.
#[derive(Clone, Debug)]
pub struct Request {
    pub begun: Instant,
    pub ended: Instant,
    pub outcome: Result<Page, String>,
}

/// How many requests each replica answered.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub web: BTreeMap<String, usize>,
    pub database: BTreeMap<String, usize>,
    /// Of requests without a page: what went wrong.
    pub failed: Vec<String>,
}

/// Everybody who uses the web in this lab.
pub fn clients(lab: &Lab) -> Vec<Clients> {
    let pod = lab.vm("worker").pods().swap_remove(0).ns;
    vec![
        Clients { name: "outside", ns: lab.ns("intsw"), to: BALANCER },
        Clients { name: "worker-pod1", ns: pod, to: WEB },
        // Processes of the node itself come here once they are served: `lab.vm("master").ns()`, to both.
    ]
}

impl Clients {
    /// So many requests, one after the other.
    ///
    /// # Errors
    /// When the namespace is gone; a failed request is part of the answer.
    pub fn ask(&self, to: IpAddr, count: usize) -> Result<Vec<Request>> {
        self.ns.run(|| Ok((0..count).map(|_| ask(to)).collect()))
    }
}

fn ask(to: IpAddr) -> Request {
    let begun = Instant::now();
    let page = || {
        let answer = traffic::request((to, WEB_PORT).into(), "/", TIMEOUT)?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.body.trim());
        Page::parse(&answer.body)
    };
    let outcome = page().map_err(|error| format!("{error:#}"));
    Request { begun, ended: Instant::now(), outcome }
}

impl Tally {
    pub fn of<'a>(requests: impl IntoIterator<Item = &'a Request>) -> Self {
        let mut tally = Self::default();
        for request in requests {
            match &request.outcome {
                Ok(Page { web, databases }) => {
                    *tally.web.entry(web.clone()).or_default() += 1;
                    for database in databases {
                        *tally.database.entry(database.clone()).or_default() += 1;
                    }
                }
                Err(reason) => tally.failed.push(reason.clone()),
            }
        }
        tally
    }
}

/// Requests in the background, over both families, by one client of each kind.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<Request>>>>,
}

impl Stream {
    pub fn start(clients: &[Clients]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let to = clients.iter().flat_map(|clients| clients.to.both().map(|to| (clients.ns.clone(), to)));
        let threads = to.map(|(ns, to)| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                ns.enter()?;
                let mut requests = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    requests.push(ask(to));
                    thread::sleep(PAUSE);
                }
                Ok(requests)
            })
        });
        Self { stop: Arc::clone(&stop), threads: threads.collect() }
    }

    /// All requests that were begun.
    ///
    /// # Errors
    /// When a namespace is gone.
    pub fn stop(self) -> Result<Vec<Request>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for thread in self.threads {
            all.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    }
}
