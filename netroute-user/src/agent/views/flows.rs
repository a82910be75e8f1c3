//! Flows by what people call them: clients, front ends, Services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netroute_common::layout::egress::DEFAULT_POLICY;
use netroute_common::layout::flow::{FLOW_EGRESS, Flow};

use crate::agent::core::Agent;
use crate::api::request::{FlowFilter, Refusal};
use crate::api::types::{FlowView, FlowsView, FlushView};
use crate::apply::StoreError;
use crate::apply::flows::{Entry, FlowState, FlowTables, Tuple, now};
use crate::compile::services::selection::ServicePort;
use crate::desired::service::ServiceKey;
use crate::error::chain;

const NANOSECONDS: u64 = 1_000_000_000;

/// The flow tables, and the names of Services that were installed when it was made.
pub struct FlowReader {
    tables: Arc<Mutex<FlowTables>>,
    names: BTreeMap<u32, ServiceKey>,
    policies: BTreeMap<u32, String>,
}

/// A filter in the words of the tables.
struct Wanted {
    services: Option<BTreeSet<u32>>,
    filter: FlowFilter,
}

impl Wanted {
    /// Of either direction's entry.
    fn takes(&self, entry: &Entry) -> bool {
        let FlowFilter { service: _, client, state } = self.filter;
        self.services.as_ref().is_none_or(|services| services.contains(&entry.flow.service))
            && client.is_none_or(|client| client == entry.client())
            && state.is_none_or(|state| state == FlowState::of(&entry.flow))
    }
}

impl FlowReader {
    #[must_use]
    pub fn of(agent: &Agent) -> Self {
        let ids = &agent.snapshot.compiled.services.ids.ids;
        let name = |(port, id): (&ServicePort, &u32)| {
            let ServicePort { namespace, name, .. } = port.clone();
            (*id, ServiceKey { namespace, name })
        };
        let statuses = &agent.snapshot.compiled.egress.statuses;
        let policies =
            statuses.iter().flat_map(|(name, status)| status.stats.iter().map(|id| (*id, name.clone())));
        let default = (DEFAULT_POLICY, "default".to_owned());
        let policies = policies.chain([default]).collect();
        Self { tables: agent.flows.clone(), names: ids.iter().map(name).collect(), policies }
    }

    /// The flows that the filter takes, `limit` of them at most, by client.
    pub fn list(&self, filter: FlowFilter, limit: usize) -> Result<FlowsView, Refusal> {
        let wanted = self.wanted(filter)?;
        let tables = self.tables();
        let (mut entries, mut total) = (BTreeMap::new(), 0);
        let visit = |entry: Entry| {
            if entry.is_reply() || !wanted.takes(&entry) || entries.contains_key(&entry.tuple) {
                return;
            }
            total += 1;
            if entries.len() < limit {
                entries.insert(entry.tuple, entry);
            }
        };
        tables.each(visit).map_err(refused)?;
        let now = now();
        let view = |entry: &Entry| {
            let answers = tables.find(&entry.other()).map_err(refused)?;
            Ok(self.view(entry, &answers.unwrap_or_default(), now))
        };
        let flows = entries.values().map(view).collect::<Result<_, Refusal>>()?;
        Ok(FlowsView { flows, total })
    }

    /// Removes both directions of the flows that the filter takes.
    pub fn flush(&self, filter: FlowFilter) -> Result<FlushView, Refusal> {
        let wanted = self.wanted(filter)?;
        let mut tables = self.tables();
        let mut found: BTreeMap<Tuple, bool> = BTreeMap::new();
        let visit = |entry: Entry| {
            if wanted.takes(&entry) {
                found.insert(entry.tuple, entry.is_reply());
            }
        };
        tables.each(visit).map_err(refused)?;
        for tuple in found.keys() {
            tables.remove(tuple).map_err(refused)?;
        }
        let flows = found.values().filter(|is_reply| !**is_reply).count();
        Ok(FlushView { removed: u64::try_from(flows).unwrap_or(u64::MAX) })
    }

    /// A reader that panicked has left nothing half done: each access is one system call.
    fn tables(&self) -> MutexGuard<'_, FlowTables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self, filter: FlowFilter) -> Result<Wanted, Refusal> {
        let services = filter.service.as_ref().map(|wanted| {
            let ids = self.names.iter().filter(|(_, name)| *name == wanted).map(|(id, _)| *id);
            let ids: BTreeSet<u32> = ids.collect();
            let none = || Refusal::new(format!("no Service {wanted} is served; see `netroute service list`"));
            if ids.is_empty() { Err(none()) } else { Ok(ids) }
        });
        Ok(Wanted { services: services.transpose()?, filter })
    }

    fn view(&self, entry: &Entry, answers: &Flow, now: u64) -> FlowView {
        let Entry { tuple, flow } = entry;
        let becomes = entry.rewritten();
        let seen = flow.seen.max(answers.seen);
        let is_let_out = flow.flags & FLOW_EGRESS != 0;
        FlowView {
            protocol: protocol_name(tuple.protocol),
            client: tuple.source,
            front_end: tuple.destination,
            endpoint: becomes.destination,
            masquerade: (becomes.source != tuple.source).then_some(becomes.source),
            service: self.names.get(&flow.service).map(ToString::to_string).unwrap_or_default(),
            policy: self.policies.get(&flow.policy).filter(|_| is_let_out).cloned().unwrap_or_default(),
            state: FlowState::of(flow),
            packets: flow.packets,
            bytes: flow.bytes,
            reply_packets: answers.packets,
            reply_bytes: answers.bytes,
            idle_seconds: now.saturating_sub(seen) / NANOSECONDS,
        }
    }
}

fn refused(error: StoreError) -> Refusal {
    Refusal::new(chain(&error))
}

fn protocol_name(number: u8) -> String {
    match number {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        other => other.to_string(),
    }
}
