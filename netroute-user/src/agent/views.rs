//! What readers are shown: views of one consistent snapshot, made beside the loop.

mod egress;
mod explain;
mod flows;
mod services;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use netroute_common::layout::route::{FIRST_FREE_ID, KIND_POD, NextHop};
use netroute_common::layout::stats::Counter;
use netroute_common::verdict::{Fate, Reason};

use super::core::{Agent, Snapshot};
use crate::api::request::Refusal;
use crate::api::types::{DropsView, NextHopView, Path, RouteGetView, RouteView, State};
use crate::apply::fib::{FibConflict, Refusal as FibRefusal};
use crate::compile::interfaces::Interfaces;
use crate::compile::lookup::Lookup;
use crate::compile::mirror::FibKey;
use crate::compile::next_hops::address;
use crate::compile::{Gateway, health};
use crate::desired::route::{CustomRoute, RouteKey};
use crate::error::chain;
use crate::health_check::Problems;
use crate::kernel::{KernelState, NeighbourKey};
use crate::observe::counters::Counters;

pub use explain::Explainer;
pub use flows::FlowReader;

/// Reads a snapshot and the counters; lives in whatever thread asks.
pub struct Reader {
    snapshot: Snapshot,
    counters: Arc<Counters>,
    conflicts: Arc<Vec<FibConflict>>,
    health_ports: Problems,
}

/// The views of these custom routes, as they are now.
pub fn routes_of(agent: &Agent, keys: &[RouteKey]) -> Vec<RouteView> {
    let reader = Reader::of(agent);
    let routes = keys.iter().filter_map(|key| reader.snapshot.desired.routes.get(key));
    routes.filter_map(|route| reader.route(route).ok()).collect()
}

impl Reader {
    #[must_use]
    pub fn of(agent: &Agent) -> Self {
        Self {
            snapshot: agent.snapshot.clone(),
            counters: agent.counters.clone(),
            conflicts: agent.conflicts.clone(),
            health_ports: agent.health_ports.clone(),
        }
    }

    /// Custom routes, with `all` also the kernel's own; `interface` by alias in any case or device.
    pub fn routes(&self, interface: Option<&str>, all: bool) -> Result<Vec<RouteView>, Refusal> {
        let mut views = Vec::new();
        for route in self.snapshot.desired.routes.values() {
            if interface.is_none_or(|name| self.is_on(route, name)) {
                views.push(self.route(route)?);
            }
        }
        if all {
            views.extend(
                self.system()
                    .into_iter()
                    .filter(|view| interface.is_none_or(|name| view.interface.eq_ignore_ascii_case(name))),
            );
            views.sort_by_key(|view| (view.destination, view.metric));
        }
        Ok(views)
    }

    fn is_on(&self, route: &CustomRoute, name: &str) -> bool {
        let named = super::sources::canonical(name, &self.snapshot.desired.interfaces);
        route.key.interface.eq_ignore_ascii_case(&named)
    }

    fn route(&self, route: &CustomRoute) -> Result<RouteView, Refusal> {
        let CustomRoute { key, metric, weight, forced, probe: _, origin } = route;
        let status = self.snapshot.compiled.statuses.get(key);
        let counter = match status.and_then(|status| status.stats) {
            Some(slot) => self.counters.route(slot).map_err(|error| Refusal::new(chain(&error)))?,
            None => Counter::default(),
        };
        let (state, mut reason) = match status {
            Some(status) => (status.state, status.reason.clone()),
            None => (State::Pending, "being installed".to_owned()),
        };
        let mut notes = Vec::new();
        if *forced {
            notes.push("forced".to_owned());
        }
        if let Some(refused) = self.conflict(key, *metric) {
            notes.push(format!("not in the kernel's table: {refused}"));
        }
        if !reason.is_empty() {
            notes.push(std::mem::take(&mut reason));
        }
        Ok(RouteView {
            destination: key.destination,
            next_hop: Some(key.next_hop),
            interface: key.interface.clone(),
            metric: *metric,
            weight: *weight,
            state,
            reason: notes.join("; "),
            origin: origin.to_string(),
            packets: counter.packets,
            bytes: counter.bytes,
        })
    }

    fn conflict(&self, key: &RouteKey, metric: u32) -> Option<FibRefusal> {
        let key = FibKey { destination: key.destination, metric };
        let found = self.conflicts.binary_search_by(|conflict| conflict.key.cmp(&key));
        found.ok().and_then(|at| self.conflicts.get(at)).map(|conflict| conflict.reason)
    }

    /// The kernel's own routes.
    fn system(&self) -> Vec<RouteView> {
        let kernel = &self.snapshot.kernel;
        let interfaces = Interfaces::resolve(&self.snapshot.desired, kernel);
        let mut views = Vec::new();
        for route in &kernel.routes {
            let hops = route.next_hops.iter().map(|hop| (hop.gateway, hop.ifindex, hop.weight, hop.dead));
            let hops: Vec<_> =
                if route.next_hops.is_empty() { vec![(None, 0, 1, false)] } else { hops.collect() };
            for (next_hop, ifindex, weight, dead) in hops {
                views.push(RouteView {
                    destination: route.destination,
                    next_hop,
                    interface: name_of(&interfaces, kernel, ifindex),
                    metric: route.metric,
                    weight: u8::try_from(weight).unwrap_or(u8::MAX),
                    state: if dead { State::Down } else { State::Active },
                    reason: format!("{:?}", route.kind).to_lowercase(),
                    origin: "kernel".to_owned(),
                    packets: 0,
                    bytes: 0,
                });
            }
        }
        views
    }

    /// What happens to packets to `address`.
    #[must_use]
    pub fn route_get(&self, address: IpAddr, from: Option<IpAddr>) -> RouteGetView {
        let Snapshot { desired, kernel, installed, .. } = &self.snapshot;
        let found = Lookup(installed).find(address, from);
        let prefix = found.as_ref().map(|found| found.prefix);
        let origin = prefix.map_or_else(String::new, |prefix| origin(&self.snapshot, prefix));
        let mut view = RouteGetView {
            address,
            prefix,
            next_hop: None,
            interface: None,
            mac: None,
            origin,
            path: Path::Kernel,
            reason: String::new(),
            explanation: String::new(),
        };
        let reason = match found.map(|found| found.next_hop) {
            None => Reason::NoRoute,
            Some(Err(reason)) => reason,
            Some(Ok((_, next_hop))) => {
                if let Some(reason) = kernel_reason(next_hop) {
                    reason
                } else {
                    let interfaces = Interfaces::resolve(desired, kernel);
                    view.next_hop = crate::compile::next_hops::address(next_hop);
                    view.interface = Some(name_of(&interfaces, kernel, next_hop.ifindex));
                    view.mac = Some(mac_text(next_hop.destination_mac));
                    view.path = Path::Fast;
                    Reason::Forwarded
                }
            }
        };
        reason.name().clone_into(&mut view.reason);
        reason.explanation().trim().clone_into(&mut view.explanation);
        view
    }

    /// Every next hop that a route or a neighbour uses.
    pub fn next_hops(&self) -> Result<Vec<NextHopView>, Refusal> {
        let Snapshot { desired, kernel, compiled, installed } = &self.snapshot;
        let interfaces = Interfaces::resolve(desired, kernel);
        let users = self.users(&interfaces);
        let mut views = Vec::new();
        for (id, next_hop) in installed.next_hops.range(FIRST_FREE_ID..) {
            let Some(address) = address(next_hop) else { continue };
            let gateway = Gateway { ifindex: next_hop.ifindex, address };
            let counter = self.counters.next_hop(*id).map_err(|error| Refusal::new(chain(&error)))?;
            let metrics = users.get(&gateway).map(|(metrics, _)| metrics.clone()).unwrap_or_default();
            let neighbour = kernel.neighbours.get(&NeighbourKey { ifindex: gateway.ifindex, address });
            let alive = next_hop.alive == 1;
            views.push(NextHopView {
                id: *id,
                interface: name_of(&interfaces, kernel, next_hop.ifindex),
                address: Some(address),
                metrics,
                routes: users.get(&gateway).map_or(0, |(_, routes)| *routes),
                neighbour: neighbour
                    .map_or_else(|| "none".to_owned(), |n| format!("{:?}", n.state).to_lowercase()),
                mac: (next_hop.destination_mac != [0; 6]).then(|| mac_text(next_hop.destination_mac)),
                alive,
                reason: if alive { String::new() } else { why_down(kernel, gateway, compiled) },
                packets: counter.packets,
                bytes: counter.bytes,
            });
        }
        Ok(views)
    }

    /// Metrics and number of the custom routes over each next hop.
    fn users(&self, interfaces: &Interfaces) -> BTreeMap<Gateway, (Vec<u32>, u32)> {
        let mut users: BTreeMap<Gateway, (Vec<u32>, u32)> = BTreeMap::new();
        for route in self.snapshot.desired.routes.values() {
            let Ok(link) = interfaces.find(&route.key.interface, &self.snapshot.kernel) else { continue };
            let gateway = Gateway { ifindex: link.index, address: route.key.next_hop };
            let (metrics, routes) = users.entry(gateway).or_default();
            if let Err(at) = metrics.binary_search(&route.metric) {
                metrics.insert(at, route.metric);
            }
            *routes += 1;
        }
        users
    }

    /// Every verdict that was given.
    pub fn drops(&self) -> Result<Vec<DropsView>, Refusal> {
        let verdicts = self.counters.verdicts().map_err(|error| Refusal::new(chain(&error)))?;
        let view =
            |((hook, reason), counter): ((netroute_common::verdict::Hook, Reason), Counter)| DropsView {
                hook: hook.name().to_owned(),
                reason: reason.name().to_owned(),
                verdict: verdict(reason).to_owned(),
                packets: counter.packets,
                bytes: counter.bytes,
                explanation: reason.explanation().trim().to_owned(),
            };
        Ok(verdicts.into_iter().map(view).collect())
    }
}

/// Where the route of a prefix comes from.
fn origin(snapshot: &Snapshot, prefix: IpNet) -> String {
    let custom = snapshot.desired.routes.values().find(|route| route.key.destination == prefix);
    if let Some(route) = custom {
        return route.origin.to_string();
    }
    let of_kernel = snapshot.kernel.routes.iter().any(|route| route.destination == prefix);
    if of_kernel {
        "kernel"
    } else if prefix.prefix_len() == prefix.max_prefix_len() {
        "neighbour"
    } else {
        "built in"
    }
    .to_owned()
}

fn verdict(reason: Reason) -> &'static str {
    match reason.fate() {
        _ if reason == Reason::Forwarded => "forward",
        Fate::Pass => "pass",
        Fate::Answer => "answer",
        Fate::Drop => "drop",
    }
}

fn kernel_reason(next_hop: &NextHop) -> Option<Reason> {
    use netroute_common::layout::route::{KIND_KERNEL, KIND_LOCAL, KIND_NEIGHBOUR, KIND_NOT_FORWARDED};
    match next_hop.kind {
        KIND_NEIGHBOUR | KIND_POD => None,
        KIND_LOCAL => Some(Reason::Local),
        KIND_NOT_FORWARDED => Some(Reason::NotForwarded),
        KIND_KERNEL => Some(Reason::KernelRoute),
        _ => Some(Reason::NeighbourUnresolved),
    }
}

fn why_down(kernel: &KernelState, gateway: Gateway, compiled: &crate::compile::Compiled) -> String {
    let Some(link) = kernel.links.get(&gateway.ifindex) else { return "its interface is gone".to_owned() };
    match health::judge(kernel, link, gateway.address) {
        health::Health::Down(reason) => reason,
        health::Health::Resolving => "its MAC is being resolved".to_owned(),
        _ if compiled.probes.contains_key(&gateway) => "probe or hold time after a failure".to_owned(),
        _ => "hold time after a failure".to_owned(),
    }
}

/// Alias of a NIC, name of another device.
pub fn name_of(interfaces: &Interfaces, kernel: &KernelState, ifindex: u32) -> String {
    let device = || kernel.links.get(&ifindex).map(|link| link.name.clone());
    interfaces.alias(ifindex).map(str::to_owned).or_else(device).unwrap_or_else(|| "-".to_owned())
}

/// Six octets in the usual notation.
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
