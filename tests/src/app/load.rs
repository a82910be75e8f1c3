//! Clients of the application: one after the other to see how they are shared out, or a steady stream.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{BALANCER, Page, WEB, WEB_PORT, process::Process};
use crate::{
    lab::{Dual, Lab},
    netns::Netns,
    traffic,
};

/// Longer than the web waits for the databases, one after the other: it says which of them does not answer.
const TIMEOUT: Duration = Duration::from_secs(25);
/// Between two requests of one client of a stream.
const PAUSE: Duration = Duration::from_millis(5);

/// Where requests come from, and which address they are for.
#[derive(Clone, Debug)]
pub struct Clients {
    pub name: &'static str,
    pub ns: Netns,
    /// The control group that they have to be in: they are processes of their own, then.
    pub group: Option<PathBuf>,
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

/// Everybody who uses the web in this lab: outside, in a pod, and on the VMs whose sockets are served.
pub fn clients(lab: &Lab) -> Vec<Clients> {
    let pod = lab.vm("worker").pods().swap_remove(0).ns;
    let mut all = vec![
        Clients { name: "outside", ns: lab.ns("intsw"), group: None, to: BALANCER },
        Clients { name: "worker-pod1", ns: pod, group: None, to: WEB },
    ];
    for vm in lab.vms() {
        let Some(group) = vm.group().filter(|group| group.exists()) else { continue };
        let of = |to| Clients { name: vm.name(), ns: vm.ns().clone(), group: Some(group.clone()), to };
        all.extend([of(BALANCER), of(WEB)]);
    }
    all
}

impl Clients {
    /// So many requests, one after the other.
    ///
    /// # Errors
    /// When the namespace is gone; a failed request is part of the answer.
    pub fn ask(&self, to: IpAddr, count: usize) -> Result<Vec<Request>> {
        self.ns.run(|| {
            let mut client = self.client()?;
            (0..count).map(|_| client.ask(to)).collect()
        })
    }

    /// One of them; a thread has to be in the namespace already.
    fn client(&self) -> Result<Client> {
        match &self.group {
            Some(group) => Ok(Client::Process(Process::start(&self.ns, group)?)),
            None => Ok(Client::Thread),
        }
    }
}

enum Client {
    Thread,
    Process(Process),
}

impl Client {
    fn ask(&mut self, to: IpAddr) -> Result<Request> {
        let begun = Instant::now();
        let outcome = match self {
            Self::Thread => page(to),
            Self::Process(process) => process.ask(to)?,
        };
        Ok(Request { begun, ended: Instant::now(), outcome })
    }
}

/// One request by the calling thread: the page, or what went wrong.
pub(super) fn page(to: IpAddr) -> Result<Page, String> {
    let page = || {
        let answer = traffic::request((to, WEB_PORT).into(), "/", TIMEOUT)?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.body.trim());
        Page::parse(&answer.body)
    };
    page().map_err(|error| format!("{error:#}"))
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
        let to = clients.iter().flat_map(|clients| clients.to.both().map(|to| (clients.clone(), to)));
        let threads = to.map(|(clients, to)| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                clients.ns.enter()?;
                let mut client = clients.client()?;
                let mut requests = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    requests.push(client.ask(to)?);
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
