//! The endpoints of one port of a Service, over all its EndpointSlices: which can be used from the
//! whole cluster, and which on this node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::selection::{Endpoint, SelectionInputs};
use crate::desired::service::{EndpointSlice, Family, ServicePortSpec, SliceEndpoint, SlicePort, ZONE_LABEL};

/// Most endpoints that a front end gets.
pub const MOST_ENDPOINTS: usize = 4096;

/// This node, as endpoints and their hints name it.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    node: &'a str,
    zone: Option<&'a str>,
}

impl<'a> Here<'a> {
    pub fn of(inputs: &SelectionInputs<'a>) -> Self {
        let settings = inputs.settings;
        let declared = inputs.nodes.get(&settings.node_name).and_then(|node| node.zone());
        let configured = || settings.node_labels.get(ZONE_LABEL).map(String::as_str);
        Self { node: &settings.node_name, zone: declared.or_else(configured) }
    }

    pub fn is_local(&self, endpoint: &SliceEndpoint) -> bool {
        endpoint.node.as_deref() == Some(self.node)
    }
}

/// For one port and one family.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    pub cluster: BTreeSet<Endpoint>,
    pub local: BTreeSet<Endpoint>,
    /// How many the cluster-wide set has without the limit.
    pub found: usize,
}

/// Whom a hint names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hint {
    Nobody,
    Elsewhere,
    Here,
}

impl Hint {
    fn of(hints: &BTreeSet<String>, here: Option<&str>) -> Self {
        if hints.is_empty() {
            Self::Nobody
        } else if here.is_some_and(|here| hints.contains(here)) {
            Self::Here
        } else {
            Self::Elsewhere
        }
    }
}

/// An endpoint as all slices together have it: while it moves from one to another it is in both.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    local: bool,
    ready: bool,
    /// Goes away, but still answers.
    last_resort: bool,
    node: Hint,
    zone: Hint,
}

/// Sets of one family; `None` if no slice has the port.
pub fn sets<'a>(
    port: &ServicePortSpec,
    family: Family,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    here: Here<'_>,
) -> Option<Sets> {
    let (mut candidates, mut known) = (BTreeMap::new(), false);
    for slice in slices.filter(|slice| slice.family == family) {
        let same = |other: &&_| is_same(port, other);
        for number in slice.ports.iter().filter(same).map(|found| found.port) {
            known = true;
            for endpoint in slice.endpoints.iter().filter(|endpoint| Family::from(endpoint.address) == family)
            {
                add(&mut candidates, endpoint, number, here);
            }
        }
    }
    known.then(|| chosen(&candidates))
}

/// Ports of slices have the names of the Service's, whatever `targetPort` says (S10).
fn is_same(port: &ServicePortSpec, other: &SlicePort) -> bool {
    port.name == other.name && port.protocol == other.protocol
}

fn add(
    candidates: &mut BTreeMap<(IpAddr, u16), Candidate>,
    endpoint: &SliceEndpoint,
    port: u16,
    here: Here<'_>,
) {
    let SliceEndpoint { address, ready, serving, terminating, node: _, node_hints, zone_hints } = endpoint;
    let next = Candidate {
        local: here.is_local(endpoint),
        ready: *ready,
        last_resort: *serving && *terminating,
        node: Hint::of(node_hints, Some(here.node)),
        zone: Hint::of(zone_hints, here.zone),
    };
    let merge = |old: &mut Candidate| {
        *old = Candidate {
            local: old.local || next.local,
            ready: old.ready || next.ready,
            last_resort: old.last_resort || next.last_resort,
            node: old.node.max(next.node),
            zone: old.zone.max(next.zone),
        };
    };
    candidates.entry((*address, port)).and_modify(merge).or_insert(next);
}

fn chosen(candidates: &BTreeMap<(IpAddr, u16), Candidate>) -> Sets {
    let hinted = hinted(candidates.values().filter(|candidate| candidate.ready));
    let ready = |candidate: &Candidate| candidate.ready && hinted(candidate);
    let cluster = usable(candidates, ready, |candidate| candidate.last_resort);
    let local = usable(
        candidates,
        |candidate| candidate.ready && candidate.local,
        |candidate| candidate.last_resort && candidate.local,
    );
    let found = cluster.len();
    Sets { cluster: limited(cluster), local: limited(local), found }
}

/// The same on all nodes, so that they agree about where a client goes.
fn limited(set: BTreeSet<Endpoint>) -> BTreeSet<Endpoint> {
    if set.len() > MOST_ENDPOINTS { set.into_iter().take(MOST_ENDPOINTS).collect() } else { set }
}

/// Those that are ready; if there is none, those that still answer (S1).
fn usable(
    candidates: &BTreeMap<(IpAddr, u16), Candidate>,
    ready: impl Fn(&Candidate) -> bool,
    last_resort: impl Fn(&Candidate) -> bool,
) -> BTreeSet<Endpoint> {
    let set = |wanted: &dyn Fn(&Candidate) -> bool| -> BTreeSet<Endpoint> {
        let wanted = candidates.iter().filter(|(_, candidate)| wanted(candidate));
        wanted
            .map(|(&(address, port), candidate)| Endpoint { address, port, local: candidate.local })
            .collect()
    };
    let found = set(&ready);
    if found.is_empty() { set(&last_resort) } else { found }
}

/// Which of the ready endpoints this node should use (S2): hints count if all of them have one and
/// one names this node, or else its zone.
fn hinted<'a>(ready: impl Iterator<Item = &'a Candidate> + Clone) -> fn(&Candidate) -> bool {
    let counts = |of: fn(&Candidate) -> Hint| {
        ready.clone().all(|candidate| of(candidate) != Hint::Nobody)
            && ready.clone().any(|candidate| of(candidate) == Hint::Here)
    };
    if counts(|candidate| candidate.node) {
        |candidate| candidate.node == Hint::Here
    } else if counts(|candidate| candidate.zone) {
        |candidate| candidate.zone == Hint::Here
    } else {
        |_| true
    }
}

/// How many pods of this node are ready (S15). A pod of both families counts once.
pub fn local_ready<'a>(slices: impl Iterator<Item = &'a EndpointSlice> + Clone, here: Here<'_>) -> usize {
    let of_family = |family| {
        let endpoints = slices.clone().filter(|slice| slice.family == family);
        let ready = endpoints
            .flat_map(|slice| &slice.endpoints)
            .filter(|endpoint| endpoint.ready && here.is_local(endpoint));
        ready.map(|endpoint| endpoint.address).collect::<BTreeSet<_>>().len()
    };
    of_family(Family::V4).max(of_family(Family::V6))
}
