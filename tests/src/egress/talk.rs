//! Pods that talk on and on while something happens to their node: each keeps a connection, and makes new ones.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{REFUSED, Sender};
use crate::{
    lab::plan,
    netns::Netns,
    patience::patient,
    traffic::{Connection, Target, reason},
};

const TIMEOUT: Duration = Duration::from_secs(3);
/// For rounds that are waited for; one may take several time-outs.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two rounds of one talker. Agents that start need the processor too.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes there and back in a round.
const CHUNK: u64 = 4000;

/// Who talks to whom.
#[derive(Clone, Debug)]
pub struct Talker {
    pub name: String,
    ns: Netns,
    /// Each round asks it on a new connection.
    target: Target,
    server: IpAddr,
    /// The client address that the server has to see; `None`: it must not be reached.
    seen_as: Option<IpAddr>,
    /// The echo server that a connection is kept to.
    kept: Option<SocketAddr>,
}

impl Talker {
    /// By both IP versions to cameras and to the internet, as a sender's rule has it: what is denied is tried
    /// again and again.
    pub fn all(senders: &[Sender]) -> Vec<Self> {
        let mut talkers = Vec::new();
        for sender in senders {
            // The uplink says which address it saw, the internet is behind it.
            for (target, behind) in [(Target::Camera, Target::Camera), (Target::Uplink, Target::Internet)] {
                for (server, echo) in target.addresses().both().into_iter().zip(behind.addresses().both()) {
                    let seen_as = sender.seen_at(target, server);
                    let kept = seen_as.map(|_| (echo, plan::ECHO_PORT).into());
                    let (name, ns) = (format!("{} to {}", sender.name, behind.name()), sender.pod.ns.clone());
                    talkers.push(Self { name, ns, target, server, seen_as, kept });
                }
            }
        }
        talkers
    }

    pub const fn is_denied(&self) -> bool {
        self.seen_as.is_none()
    }

    /// A request on a new connection; what is not as it should be.
    fn ask(&self) -> Result<(), String> {
        let client = self.target.ask(&self.ns, self.server, TIMEOUT).map_err(|error| reason(&error));
        match (client, self.seen_as) {
            (Ok(client), Some(own)) if client.ip() == own => Ok(()),
            (Ok(client), _) => Err(format!("was seen as {client}")),
            (Err(reason), None) if reason == REFUSED => Ok(()),
            (Err(reason), _) => Err(reason),
        }
    }
}

/// What became of one talker.
#[derive(Clone, Debug, Default)]
pub struct Talked {
    pub rounds: u64,
    /// Requests, or refusals of a talker that is denied, that were as they should be.
    pub right: usize,
    /// What was wrong with the others.
    pub wrong: Vec<String>,
    /// Why the connection that was kept broke.
    pub cut: Option<String>,
}

/// All of them, until `stop`.
#[derive(Debug)]
pub struct Talk {
    shared: Arc<Shared>,
    talkers: Vec<Talker>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stopping: AtomicBool,
    talked: Mutex<Vec<Talked>>,
    changed: Condvar,
}

impl Talk {
    /// Returns when all connections that are kept are open.
    ///
    /// # Errors
    /// When one does not open.
    pub fn start(talkers: Vec<Talker>) -> Result<Self> {
        let talked = Mutex::new(vec![Talked::default(); talkers.len()]);
        let shared = Arc::new(Shared { stopping: AtomicBool::new(false), talked, changed: Condvar::new() });
        let open = |talker: &Talker| {
            let kept = talker.kept.map(|server| Connection::open(&talker.ns, server, patient(TIMEOUT)));
            kept.transpose().with_context(|| talker.name.clone())
        };
        let kept: Vec<Option<Connection>> = talkers.iter().map(open).collect::<Result<_>>()?;
        let numbered = talkers.iter().cloned().enumerate().zip(kept);
        let threads = numbered.map(|((number, talker), kept)| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.talk(number, &talker, kept))
        });
        Ok(Self { threads: threads.collect(), talkers, shared })
    }

    /// Waits until each talker has made so many rounds more.
    ///
    /// # Errors
    /// When one does not.
    pub fn await_rounds(&self, count: u64) -> Result<()> {
        let talked = self.shared.lock();
        // The round that is under way began before.
        let goals: Vec<u64> = talked.iter().map(|talked| talked.rounds + 1 + count).collect();
        let behind = |talked: &[Talked]| talked.iter().zip(&goals).position(|(one, goal)| one.rounds < *goal);
        let wait = self
            .shared
            .changed
            .wait_timeout_while(talked, patient(PATIENCE), |talked| behind(talked).is_some());
        let (talked, _) = wait.unwrap_or_else(PoisonError::into_inner);
        let slow = behind(&talked).map(|number| (&self.talkers[number].name, &talked[number]));
        ensure!(slow.is_none(), "{slow:?} made no {count} rounds within {PATIENCE:?}");
        Ok(())
    }

    /// Ends it, and says what became of each.
    pub fn stop(mut self) -> Vec<(Talker, Talked)> {
        self.end();
        let talked = self.shared.lock().clone();
        std::mem::take(&mut self.talkers).into_iter().zip(talked).collect()
    }

    fn end(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // A panic was reported by its own thread, and its rounds are missing.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn talk(&self, number: usize, talker: &Talker, mut kept: Option<Connection>) {
        while !self.stopping.load(Ordering::Relaxed) {
            let cut = kept.as_mut().and_then(|kept| kept.exchange(CHUNK).err());
            if cut.is_some() {
                kept = None;
            }
            let asked = talker.ask();
            let mut all = self.lock();
            let talked = &mut all[number];
            talked.rounds += 1;
            talked.cut = talked.cut.take().or_else(|| cut.map(|error| format!("{error:#}")));
            match asked {
                Ok(()) => talked.right += 1,
                Err(wrong) => talked.wrong.push(wrong),
            }
            drop(all);
            self.changed.notify_all();
            thread::sleep(PAUSE);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Talked>> {
        self.talked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
