//! Which policies select which source.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::order::{Order, Rank};
use crate::desired::egress::{EgressPolicy, From, Labels, Pod};

/// Label that the API server sets on every namespace (Kubernetes 1.21).
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Selects pods; asks once for each namespace.
pub(super) struct Selector<'a> {
    order: &'a Order<'a>,
    namespaces: &'a BTreeMap<String, Labels>,
    by_namespace: BTreeMap<&'a str, Vec<(Rank, &'a From)>>,
}

impl<'a> Selector<'a> {
    pub(super) const fn new(order: &'a Order<'a>, namespaces: &'a BTreeMap<String, Labels>) -> Self {
        Self { order, namespaces, by_namespace: BTreeMap::new() }
    }

    /// The policies that select the pod with this address.
    pub(super) fn pod(&mut self, pod: &'a Pod, address: IpAddr) -> Vec<Rank> {
        let namespace = pod.key.namespace.as_str();
        if !self.by_namespace.contains_key(namespace) {
            let found = self.in_namespace(namespace);
            self.by_namespace.insert(namespace, found);
        }
        let found = self.by_namespace.get(namespace).map(Vec::as_slice).unwrap_or_default();
        let takes = |from: &From| {
            from.pods.as_ref().is_none_or(|selector| selector.takes(&pod.labels)) && within(from, address)
        };
        found.iter().filter(|(_, from)| takes(from)).map(|(rank, _)| *rank).collect()
    }

    fn in_namespace(&self, namespace: &str) -> Vec<(Rank, &'a From)> {
        let named = Labels::from([(NAME_LABEL.to_owned(), namespace.to_owned())]);
        let labels = self.namespaces.get(namespace).unwrap_or(&named);
        let takes = |from: &From| {
            from.takes_pods() && from.namespaces.as_ref().is_none_or(|selector| selector.takes(labels))
        };
        let all = self.order.ranked().map(|(rank, policy)| (rank, &policy.from));
        all.filter(|(_, from)| takes(from)).collect()
    }
}

/// Of a pod that no object tells the labels of; `None` if a policy asks for them.
pub(super) fn unlabelled(order: &Order<'_>, address: IpAddr) -> Option<Vec<Rank>> {
    if order.0.iter().any(|policy| policy.from.asks_labels()) {
        return None;
    }
    let takes = |policy: &EgressPolicy| policy.from.takes_pods() && within(&policy.from, address);
    Some(order.ranked().filter(|(_, policy)| takes(policy)).map(|(rank, _)| rank).collect())
}

/// Of the node's own processes.
pub(super) fn node(order: &Order<'_>, address: IpAddr) -> Vec<Rank> {
    let takes = |policy: &EgressPolicy| policy.from.node && within(&policy.from, address);
    order.ranked().filter(|(_, policy)| takes(policy)).map(|(rank, _)| rank).collect()
}

fn within(from: &From, address: IpAddr) -> bool {
    let cidrs = &from.cidrs;
    cidrs.is_empty() || cidrs.iter().any(|prefix| prefix.contains(&address))
}
