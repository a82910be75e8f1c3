//! The sources on this node, each with the set of policies that select it.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::net::IpAddr;
use std::slice::Iter;
use std::sync::Arc;

use ipnet::IpNet;

use super::memory::{Known, Memory};
use super::order::{Order, Rank};
use super::select::{self, Selector};
use crate::compile::Inputs;
use crate::compile::interfaces::Interfaces;
use crate::compile::services::selection::NodeAddresses;
use crate::desired::egress::Pod;
use crate::kernel::KernelRouteKind;

/// Index into [`Sources::sets`].
pub(super) type SetId = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Node,
    Pod,
}

#[derive(Debug, Default)]
pub(super) struct Sources {
    /// In order of addresses, none twice.
    pub(super) addresses: Vec<(IpAddr, Owner, SetId)>,
    /// Pods' addresses whose policies are not known: what they send is dropped.
    pub(super) unknown: Vec<IpAddr>,
    pub(super) node: BTreeSet<IpAddr>,
    /// Sets of policies, each in order. Some may be nobody's any more.
    pub(super) sets: Vec<Arc<[Rank]>>,
    /// By set, how many pods have it.
    pub(super) pods: Vec<usize>,
    /// For the next compilation.
    pub(super) known: Vec<Known>,
}

impl Sources {
    pub(super) fn of(
        inputs: &Inputs<'_>,
        interfaces: &Interfaces,
        order: &Order<'_>,
        before: &Memory,
    ) -> Self {
        let cluster = &inputs.desired.cluster;
        let same = before.has(&cluster.egress_policies, &cluster.namespaces);
        let mut sets = Sets::new(if same { &before.sets } else { &[] });
        let mut found = Self { node: node_addresses(inputs), ..Self::default() };
        if order.0.iter().any(|policy| policy.from.node) {
            for address in &found.node {
                let set = select::node(order, *address);
                // What no policy names is not judged.
                if !set.is_empty() {
                    found.addresses.push((*address, Owner::Node, sets.id(set)));
                }
            }
        }
        let known: &[Known] = if same { &before.known } else { &[] };
        found.labelled(inputs, order, known, &mut sets);
        found.settle();
        found.others(inputs, interfaces, order, &mut sets);
        found.sets = sets.list;
        found
    }

    /// Pods with an object. `known` is in the same order.
    fn labelled(&mut self, inputs: &Inputs<'_>, order: &Order<'_>, known: &[Known], sets: &mut Sets) {
        let cluster = &inputs.desired.cluster;
        let here = inputs.desired.service_settings.node_name.as_str();
        let mut selector = Selector::new(order, &cluster.namespaces);
        let mut known = known.iter().peekable();
        let mut ending = Vec::new();
        for pod in cluster.pods.values() {
            if pod.host_network || pod.node.as_deref() != Some(here) {
                continue;
            }
            let selected = match as_before(&mut known, pod) {
                Some(before) => before.sets.clone(),
                None => {
                    let of_one = |address: &IpAddr| (*address, sets.id(selector.pod(pod, *address)));
                    pod.addresses.iter().map(of_one).collect()
                }
            };
            for (_, set) in selected.iter().take(1) {
                self.count(*set);
            }
            let list = if pod.ending { &mut ending } else { &mut self.addresses };
            list.extend(selected.iter().map(|(address, set)| (*address, Owner::Pod, *set)));
            self.known.push(Known { pod: pod.clone(), sets: selected });
        }
        let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
        if !ending.is_empty() {
            taken.extend(self.addresses.iter().map(|(address, ..)| *address));
        }
        self.addresses.extend(ending.into_iter().filter(|(address, ..)| !taken.contains(address)));
    }

    fn count(&mut self, set: SetId) {
        let at = set as usize;
        if self.pods.len() <= at {
            self.pods.resize(at + 1, 0);
        }
        self.pods[at] += 1;
    }

    /// Addresses in order. One that several pods claim, whose policies are different, is nobody's.
    fn settle(&mut self) {
        let node = &self.node;
        self.addresses.retain(|(address, owner, _)| *owner == Owner::Node || !node.contains(address));
        self.addresses.sort_unstable();
        self.addresses.dedup();
        let twice: BTreeSet<IpAddr> = self
            .addresses
            .windows(2)
            .filter_map(|pair| (pair[0].0 == pair[1].0).then_some(pair[0].0))
            .collect();
        if !twice.is_empty() {
            self.addresses.retain(|(address, ..)| !twice.contains(address));
            self.unknown.extend(twice);
        }
    }

    /// Pods that the kernel has a route to, and nobody an object of.
    fn others(&mut self, inputs: &Inputs<'_>, interfaces: &Interfaces, order: &Order<'_>, sets: &mut Sets) {
        let mut found = Vec::new();
        let routed: BTreeSet<IpAddr> = routed(inputs, interfaces).collect();
        for address in routed {
            let is =
                |list: &[(IpAddr, Owner, SetId)]| list.binary_search_by_key(&address, |one| one.0).is_ok();
            if is(&self.addresses) || self.node.contains(&address) || self.unknown.contains(&address) {
                continue;
            }
            match select::unlabelled(order, address) {
                Some(set) => {
                    let set = sets.id(set);
                    self.count(set);
                    found.push((address, Owner::Pod, set));
                }
                None => self.unknown.push(address),
            }
        }
        if !found.is_empty() {
            self.addresses.extend(found);
            self.addresses.sort_unstable();
        }
    }
}

/// What is known of the pod, if it is as it was. Most are the very same, at the same place.
fn as_before<'k>(known: &mut Peekable<Iter<'k, Known>>, pod: &Arc<Pod>) -> Option<&'k Known> {
    let same = |before: &&Known| Arc::ptr_eq(&before.pod, pod);
    if let Some(before) = known.next_if(same) {
        return Some(before);
    }
    while known.next_if(|before| before.pod.key < pod.key).is_some() {}
    known.next_if(|before| before.pod == *pod)
}

/// Numbers of sets, for pods are many and sets few.
struct Sets {
    list: Vec<Arc<[Rank]>>,
    ids: BTreeMap<Arc<[Rank]>, SetId>,
}

impl Sets {
    fn new(before: &[Arc<[Rank]>]) -> Self {
        Self { list: before.to_vec(), ids: before.iter().cloned().zip(0..).collect() }
    }

    fn id(&mut self, set: Vec<Rank>) -> SetId {
        if let Some(id) = self.ids.get(&set[..]) {
            return *id;
        }
        let set: Arc<[Rank]> = set.into();
        let id = SetId::try_from(self.list.len()).unwrap_or(SetId::MAX);
        self.list.push(set.clone());
        self.ids.insert(set, id);
        id
    }
}

/// Without those that every pod may have, and those that go nowhere.
fn node_addresses(inputs: &Inputs<'_>) -> BTreeSet<IpAddr> {
    let leaves = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    NodeAddresses::of(inputs.desired, inputs.kernel).all.into_iter().filter(leaves).collect()
}

fn routed(inputs: &Inputs<'_>, interfaces: &Interfaces) -> impl Iterator<Item = IpAddr> {
    let pods: BTreeSet<u32> = interfaces.pods().collect();
    let is_host = |prefix: &IpNet| prefix.prefix_len() == prefix.max_prefix_len();
    let hosts = inputs.kernel.routes.iter().filter(move |route| is_host(&route.destination));
    hosts
        .filter(move |route| {
            matches!(route.next_hops.as_slice(), [only] if only.gateway.is_none() && pods.contains(&only.ifindex))
        })
        .filter(|route| route.kind == KernelRouteKind::Unicast)
        .map(|route| route.destination.addr())
}
