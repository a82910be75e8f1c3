//! Keeps the next hops' neighbour entries resolved and fresh in the kernel, so that the fast path
//! always has a MAC address to write. The kernel does the work (ARP, neighbour discovery, its
//! timers); permanent entries and those that somebody else manages are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState as WireState,
};
use netlink_packet_route::route::RouteProtocol;
use netroute_common::abi::RTPROT_NETROUTE;

use crate::input::netlink::Event;
use crate::input::netlink::parse::neighbour::{Entry, neighbour};
use crate::kernel::{Change, Neighbour, NeighbourKey, NeighbourState};
use crate::netlink::NetlinkError;
use crate::netlink::request::{Request, Requests};
use crate::netlink::socket::Protocol;

const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;

/// A neighbour that the kernel does not take care of. Tried again when something changes.
#[derive(Debug)]
pub struct Unkept {
    pub key: NeighbourKey,
    pub source: io::Error,
}

/// Takes care of a set of neighbours.
pub struct Neighbours {
    requests: Requests,
    /// Entries that carry our mark.
    ours: BTreeSet<NeighbourKey>,
    wanted: BTreeSet<NeighbourKey>,
    /// Had no answer yet when they were asked for. A kernel that does not keep them asks three times and
    /// gives up, and a neighbour that fails again makes no change.
    unanswered: BTreeSet<NeighbourKey>,
    /// Whether the kernel is asked to keep them.
    managed: bool,
    /// The kernel may not hold what we believe: look again.
    stale: bool,
    /// Some of `wanted` was refused.
    refused: bool,
}

impl Neighbours {
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            requests: Requests::open(Protocol::Route)?,
            ours: BTreeSet::new(),
            wanted: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            managed: true,
            stale: true,
            refused: false,
        })
    }

    /// Leaves everything to [`Self::keep`], as kernels before 5.16 do.
    #[must_use]
    pub fn unmanaged(self) -> Self {
        Self { managed: false, ..self }
    }

    /// Whether [`Self::keep`] is due again after a while: nothing in the kernel will say so.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Takes note of what happened in the kernel; true when a [`Self::keep`] is due.
    pub fn observe(&mut self, event: &Event) -> bool {
        self.stale |= match event {
            Event::Synced(_) => true,
            Event::Changed(Change::NeighbourGone(key)) => self.wanted.contains(key),
            Event::Changed(Change::Link(link)) => self.refused && link.up,
            Event::Changed(Change::Address(_)) => self.refused,
            // An administrator's entry that is no longer permanent is ours to take; one that fails
            // may have lost our mark to `ip neigh replace`, and would not be asked for again.
            Event::Changed(Change::Neighbour(key, neighbour)) => {
                let taken_away = !self.ours.contains(key) && neighbour.state != NeighbourState::Permanent;
                self.wanted.contains(key) && (taken_away || neighbour.state == NeighbourState::Failed)
            }
            Event::Changed(_) => false,
        };
        self.stale
    }

    /// Has the kernel resolve these neighbours and keep them so; lets go of those it kept for us
    /// and that are no longer wanted. Cheap when nothing changed.
    pub async fn keep(&mut self, wanted: &BTreeSet<NeighbourKey>) -> Result<Vec<Unkept>, NetlinkError> {
        let again = !self.stale && self.wanted == *wanted;
        if again && self.unanswered.is_empty() {
            return Ok(Vec::new());
        }
        let entries = self.entries().await?;
        let held = |key: &NeighbourKey| entries.get(key);
        if !again {
            let marked = entries.values().filter(|found| found.is_ours());
            self.ours = marked.map(|found| found.entry.key).collect();
        }
        let free =
            |found: Option<&Found>| found.is_none_or(|found| !found.is_permanent() && !found.entry.managed);
        let asked = if again { &self.unanswered } else { wanted };
        let take: Vec<_> = asked.iter().filter(|key| free(held(key))).copied().collect();
        let release: Vec<_> = self.ours.difference(wanted).copied().collect();
        let mut requests: Vec<_> = take.iter().map(|key| resolve(*key, self.managed, NLM_F_CREATE)).collect();
        requests.extend(release.iter().map(|key| resolve(*key, false, 0)));
        let outcomes = self.requests.batch("keeping neighbours", &requests).await?;
        let answered =
            |key: &NeighbourKey| held(key).is_some_and(|found| found.entry.neighbour.mac.is_some());
        self.unanswered.clear();
        let mut unkept = Vec::new();
        for (key, outcome) in take.iter().zip(outcomes) {
            match outcome {
                Ok(()) => {
                    self.ours.insert(*key);
                    self.unanswered.extend((!answered(key)).then_some(*key));
                }
                Err(source) => unkept.push(Unkept { key: *key, source }),
            }
        }
        self.ours.retain(|key| wanted.contains(key));
        self.wanted.clone_from(wanted);
        self.refused = !unkept.is_empty() || (again && self.refused);
        self.stale = false;
        Ok(unkept)
    }

    /// Lets go of every entry that carries our mark; how many there were.
    pub async fn release_all(&mut self) -> Result<usize, NetlinkError> {
        let entries = self.entries().await?;
        let ours: Vec<_> = entries.values().filter(|found| found.is_ours()).map(|f| f.entry.key).collect();
        let requests: Vec<_> = ours.iter().map(|key| resolve(*key, false, 0)).collect();
        self.requests.batch("releasing neighbours", &requests).await?;
        self.ours.clear();
        self.wanted.clear();
        self.unanswered.clear();
        Ok(ours.len())
    }

    /// Tells the kernel that these neighbours are in use, as packets through its own stack would:
    /// stale ones are confirmed anew. For next hops whose traffic takes the fast path.
    pub async fn refresh(&mut self, keys: &BTreeSet<NeighbourKey>) -> Result<(), NetlinkError> {
        let entries = self.entries().await?;
        let stale = keys.iter().filter_map(|key| entries.get(key));
        let stale = stale.filter(|found| found.entry.neighbour.state == NeighbourState::Stale);
        let requests: Vec<_> = stale.map(|found| found.used()).collect();
        self.requests.batch("refreshing neighbours", &requests).await.map(drop)
    }

    /// Has the kernel ask these neighbours at once whether they are there. The answer shows in
    /// their state: reachable when they answered since.
    pub async fn probe(&mut self, keys: &BTreeSet<NeighbourKey>) -> Result<(), NetlinkError> {
        let entries = self.entries().await?;
        let mut requests = Vec::new();
        for key in keys {
            match entries.get(key) {
                None => requests.push(resolve(*key, false, NLM_F_CREATE)),
                Some(found) if found.is_permanent() => {}
                Some(found) if found.entry.neighbour.mac.is_none() => requests.push(found.used()),
                Some(found) => {
                    // From any other state the kernel leaves the timer of an earlier probe alone.
                    requests.push(found.state(WireState::Stale));
                    requests.push(found.state(WireState::Probe));
                    if found.entry.managed {
                        requests.push(found.used());
                    }
                }
            }
        }
        self.requests.batch("probing neighbours", &requests).await.map(drop)
    }

    /// Every neighbour's state as the kernel has it now.
    pub async fn states(&mut self) -> Result<BTreeMap<NeighbourKey, Neighbour>, NetlinkError> {
        let entries = self.entries().await?;
        Ok(entries.into_iter().map(|(key, found)| (key, found.entry.neighbour)).collect())
    }

    async fn entries(&mut self) -> Result<BTreeMap<NeighbourKey, Found>, NetlinkError> {
        let request = Request::new(RTM_GETNEIGH, 0, &NeighbourMessage::default());
        self.requests
            .dump("the neighbours", &request, BTreeMap::new, |entries, frame| {
                if let Some(entry) = neighbour(frame.payload) {
                    entries.insert(entry.key, Found { entry });
                }
            })
            .await
    }
}

struct Found {
    entry: Entry,
}

impl Found {
    fn is_permanent(&self) -> bool {
        self.entry.neighbour.state == NeighbourState::Permanent
    }

    fn is_ours(&self) -> bool {
        self.entry.managed && self.entry.protocol == RTPROT_NETROUTE && !self.is_permanent()
    }

    /// Marks it as in use, leaving who manages it as it is.
    fn used(&self) -> Request {
        if self.entry.managed && !self.is_ours() {
            return message(self.entry.key, WireState::None, NeighbourFlags::Use, true, 0, 0);
        }
        resolve(self.entry.key, self.entry.managed, 0)
    }

    /// Puts it into a state. Without the managed flag: with it the kernel ignores the state
    /// (`__neigh_update`), so that it must be given back afterwards.
    fn state(&self, state: WireState) -> Request {
        message(self.entry.key, state, NeighbourFlags::empty(), false, 0, NLM_F_REPLACE)
    }
}

/// Starts resolution if it is needed, and has the kernel go on by itself (`managed`, Linux 5.16;
/// older kernels ignore it) or stop doing so.
fn resolve(key: NeighbourKey, managed: bool, flags: u16) -> Request {
    let protocol = if managed { RTPROT_NETROUTE } else { 0 };
    message(key, WireState::None, NeighbourFlags::Use, managed, protocol, flags)
}

fn message(
    key: NeighbourKey,
    state: WireState,
    neighbour_flags: NeighbourFlags,
    managed: bool,
    protocol: u8,
    flags: u16,
) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = match key.address {
        std::net::IpAddr::V4(_) => AddressFamily::Inet,
        std::net::IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = key.ifindex;
    message.header.state = state;
    message.header.flags = neighbour_flags;
    message.attributes.push(NeighbourAttribute::Destination(key.address.into()));
    if managed {
        message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
    }
    if protocol != 0 {
        message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::Other(protocol)));
    }
    Request::new(RTM_NEWNEIGH, flags, &message)
}
