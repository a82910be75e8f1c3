//! The kernel's main table as slow path: keeps exactly the wanted routes there, under the agent's
//! own protocol number, and never touches anybody else's (R13, R15).

pub mod message;
pub mod plan;

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use netlink_packet_route::AddressFamily;
use nix::errno::Errno;

use self::plan::{Installed, Plan, plan};
use crate::compile::mirror::{Fib, FibKey, FibNextHop};
use crate::input::netlink::Event;
use crate::input::netlink::parse::route::{is_own, route};
use crate::kernel::{Change, KernelRoute};
use crate::netlink::NetlinkError;
use crate::netlink::request::{Request, Requests};
use crate::netlink::socket::Protocol;

const READ: &str = "the agent's own routes";
const WRITE: &str = "writing routes";

/// A route that the kernel does not take. Tried again by every reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FibConflict {
    pub key: FibKey,
    pub reason: Refusal,
}

/// Why the kernel does not take a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody else's route has the same prefix and metric; it stays.
    Foreign,
    /// The interface is down or gone.
    InterfaceDown,
    /// The next hop is not a neighbour on that interface, or is an address of this machine.
    NextHop,
    Other(Errno),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str(
                "another route of the kernel has the same destination and metric; \
                 choose another metric or remove that route",
            ),
            Self::InterfaceDown => f.write_str("the interface is down"),
            Self::NextHop => f.write_str("the kernel does not accept the next hop on that interface"),
            Self::Other(errno) => write!(f, "the kernel refused the route: {}", errno.desc()),
        }
    }
}

impl From<&io::Error> for Refusal {
    fn from(error: &io::Error) -> Self {
        match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
            Errno::EEXIST => Self::Foreign,
            Errno::ENETDOWN | Errno::ENODEV => Self::InterfaceDown,
            Errno::EINVAL | Errno::ENETUNREACH | Errno::EHOSTUNREACH => Self::NextHop,
            errno => Self::Other(errno),
        }
    }
}

/// What a reconcile did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    pub added: usize,
    pub replaced: usize,
    pub removed: usize,
    /// In order of their keys.
    pub conflicts: Vec<FibConflict>,
}

/// Keeps the agent's routes in the kernel.
pub struct Mirror {
    requests: Requests,
    /// What the kernel holds of ours; `None` = must be read.
    installed: Option<Installed>,
    /// Wanted, but refused last time.
    refused: BTreeSet<FibKey>,
}

impl Mirror {
    pub fn open() -> Result<Self, NetlinkError> {
        let requests = Requests::open(Protocol::Route)?;
        requests.filter_dumps();
        Ok(Self { requests, installed: None, refused: BTreeSet::new() })
    }

    /// For `input::netlink::Options::mirror_port`.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.requests.port()
    }

    /// Takes note of what happened in the kernel; true when a [`Self::reconcile`] is due.
    pub fn observe(&mut self, event: &Event) -> bool {
        let change = match event {
            Event::Synced(_) => return self.forget(),
            Event::Changed(change) => change,
        };
        match change {
            // IPv4 routes of a link that goes down, or that loses its last address, go silently.
            Change::Link(link) if !link.up && self.uses(link.index) => self.forget(),
            Change::LinkGone(ifindex) | Change::AddressGone { ifindex, .. } if self.uses(*ifindex) => {
                self.forget()
            }
            Change::Link(link) => link.up && !self.refused.is_empty(),
            Change::Address(_) => !self.refused.is_empty(),
            Change::RouteGone(route) => self.refused.contains(&plan::key(route)),
            Change::OwnRoute(route) if self.differs(route) => self.forget(),
            Change::OwnRouteGone(route) if self.holds(route) => self.forget(),
            _ => false,
        }
    }

    /// Makes the kernel hold exactly `wanted` under the agent's protocol number.
    pub async fn reconcile(&mut self, wanted: &Fib) -> Result<Reconciled, NetlinkError> {
        let fresh = self.installed.is_none();
        let known = self.refused.clone();
        let first = self.pass(wanted).await?;
        let news =
            |conflict: &FibConflict| conflict.reason == Refusal::Foreign && !known.contains(&conflict.key);
        if fresh || !first.conflicts.iter().any(news) {
            return Ok(first);
        }
        // What is in the way may be our own, if what we believed to be there was out of date.
        self.installed = None;
        let second = self.pass(wanted).await?;
        Ok(Reconciled {
            added: first.added + second.added,
            replaced: first.replaced + second.replaced,
            removed: first.removed + second.removed,
            conflicts: second.conflicts,
        })
    }

    /// Removes every route of the agent; how many there were.
    pub async fn remove_all(&mut self) -> Result<usize, NetlinkError> {
        self.installed = None;
        Ok(self.reconcile(&Fib::new()).await?.removed)
    }

    async fn pass(&mut self, wanted: &Fib) -> Result<Reconciled, NetlinkError> {
        let mut installed = match self.installed.take() {
            Some(installed) => installed,
            None => self.read().await?,
        };
        let Plan { adds, replaces, removes } = plan(&installed, wanted);
        let mut done = Reconciled::default();
        let mut replaced = Vec::new();
        for (adds, replace) in [(&adds, false), (&replaces, true)] {
            let requests: Vec<_> =
                adds.iter().map(|(key, hops)| message::write(key, hops, replace)).collect();
            let outcomes = self.requests.batch(WRITE, &requests).await?;
            for ((key, hops), outcome) in adds.iter().zip(outcomes) {
                match outcome {
                    Ok(()) if replace => {
                        done.replaced += 1;
                        replaced.extend(installed.routes.insert(*key, hops.clone()).map(|old| (*key, old)));
                    }
                    Ok(()) => {
                        done.added += 1;
                        installed.routes.insert(*key, hops.clone());
                    }
                    Err(error) => {
                        done.conflicts.push(FibConflict { key: *key, reason: Refusal::from(&error) });
                    }
                }
            }
        }
        // IPv6 replaces at once; of an IPv4 route both versions are there now.
        replaced.retain(|(key, _)| key.destination.addr().is_ipv4());
        done.removed = self.remove(&mut installed, replaced, removes).await?;
        done.conflicts.sort_by_key(|conflict| conflict.key);
        self.refused = done.conflicts.iter().map(|conflict| conflict.key).collect();
        self.installed = Some(installed);
        Ok(done)
    }

    /// Removes old versions of replaced routes, strays, and routes no longer wanted; how many of
    /// the last two.
    async fn remove(
        &mut self,
        installed: &mut Installed,
        replaced: Vec<(FibKey, Vec<FibNextHop>)>,
        removes: Vec<(FibKey, Vec<FibNextHop>)>,
    ) -> Result<usize, NetlinkError> {
        let strays = std::mem::take(&mut installed.strays);
        let count = strays.len() + removes.len();
        for (key, _) in &removes {
            installed.routes.remove(key);
        }
        let all = replaced.iter().chain(&strays).chain(&removes);
        let requests: Vec<_> = all.map(|(key, hops)| message::remove(key, hops)).collect();
        for outcome in self.requests.batch("removing routes", &requests).await? {
            match outcome.as_ref().map_err(io::Error::raw_os_error) {
                Ok(()) | Err(Some(libc::ESRCH | libc::ENOENT | libc::ENODEV)) => {}
                Err(_) => {
                    outcome.map_err(|source| NetlinkError::Refused { what: "removing routes", source })?
                }
            }
        }
        Ok(count)
    }

    async fn read(&mut self) -> Result<Installed, NetlinkError> {
        let mut installed = Installed::default();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request: Request = message::read(family);
            let found = self.requests.dump(READ, &request, Vec::new, |found, frame| {
                if is_own(frame.payload) {
                    found.extend(route(frame.payload));
                }
            });
            found.await?.iter().for_each(|route| installed.insert(route));
        }
        Ok(installed)
    }

    fn forget(&mut self) -> bool {
        self.installed = None;
        true
    }

    /// Whether one of our routes may lead over the interface.
    fn uses(&self, ifindex: u32) -> bool {
        let over =
            |installed: &Installed| installed.routes.values().flatten().any(|hop| hop.ifindex == ifindex);
        self.installed.as_ref().is_none_or(over)
    }

    fn holds(&self, route: &KernelRoute) -> bool {
        let held = |installed: &Installed| installed.routes.contains_key(&plan::key(route));
        self.installed.as_ref().is_none_or(held)
    }

    fn differs(&self, route: &KernelRoute) -> bool {
        let hops = plan::hops(route);
        let same = |installed: &Installed| installed.routes.get(&plan::key(route)) == hops.as_ref();
        !self.installed.as_ref().is_some_and(same)
    }
}
