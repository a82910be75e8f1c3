//! Egress policies and the pods they are about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::route::Probe;
use super::service::{ObjectKey, Protocol};

pub type Labels = BTreeMap<String, String>;

/// Priority of a policy that names none.
pub const DEFAULT_PRIORITY: u32 = 1000;

/// What leaves the cluster, from whom and to where, and what is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressPolicy {
    pub name: String,
    /// `creationTimestamp`, seconds of Unix time; manifests have none.
    pub created: Option<i64>,
    /// Lower wins, as a metric does.
    pub priority: u32,
    pub from: From,
    pub to: To,
    /// What is asked for, or what is wrong with it: who and where to are known all the same, and that
    /// traffic is denied.
    pub effect: Result<Effect, String>,
}

/// Who sends. Without selectors, prefixes and node it is every pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct From {
    pub pods: Option<Selector>,
    pub namespaces: Option<Selector>,
    /// No host bits set; empty = everywhere.
    pub cidrs: Vec<IpNet>,
    /// The node's own processes as well.
    pub node: bool,
}

impl From {
    /// Whether pods are meant; where only the node is named, they are not.
    #[must_use]
    pub const fn takes_pods(&self) -> bool {
        !self.node || self.pods.is_some() || self.namespaces.is_some() || !self.cidrs.is_empty()
    }

    /// Whether labels decide: then nothing is known of a pod without an object.
    #[must_use]
    pub fn asks_labels(&self) -> bool {
        let asks = |selector: &Option<Selector>| selector.as_ref().is_some_and(|one| !one.is_empty());
        asks(&self.pods) || asks(&self.namespaces)
    }
}

/// As of Kubernetes' label selectors: all of it must hold; empty takes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    pub equal: Labels,
    pub expressions: Vec<Expression>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    pub key: String,
    pub operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
}

impl Selector {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.equal.is_empty() && self.expressions.is_empty()
    }

    #[must_use]
    pub fn takes(&self, labels: &Labels) -> bool {
        self.equal.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|expression| expression.takes(labels))
    }
}

impl Expression {
    fn takes(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            // A label that is not there has none of the values.
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct To {
    /// Without host bits, never empty: what names none has the whole of both families.
    pub cidrs: BTreeSet<IpNet>,
    /// Not these; the next policy in order is asked.
    pub except: BTreeSet<IpNet>,
    /// Empty = everything.
    pub ports: Vec<PortRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    pub protocol: Protocol,
    pub first: u16,
    pub last: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub action: Action,
    /// Empty = the route decides.
    pub via: Vec<Via>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny {
        /// Answered, and not just dropped.
        reject: bool,
    },
    /// With the address of the NIC that it leaves by.
    Masquerade,
    /// With one of these, never empty, none twice.
    Snat(Vec<IpAddr>),
}

impl Action {
    /// As it is written.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Allow => "Allow",
            Self::Deny { .. } => "Deny",
            Self::Masquerade => "Masquerade",
            Self::Snat(_) => "Snat",
        }
    }
}

/// A next hop, as of a custom route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Via {
    /// Alias, or device name.
    pub interface: String,
    pub next_hop: IpAddr,
    /// Lower is preferred.
    pub metric: u32,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.next_hop, self.interface)
    }
}

/// A pod that runs, or will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub key: ObjectKey,
    pub labels: Labels,
    /// Where it was put; `None` = nowhere yet.
    pub node: Option<String>,
    pub addresses: BTreeSet<IpAddr>,
    /// It has the node's own addresses: its processes are the node's.
    pub host_network: bool,
    /// It is to end: if another has its address, that one counts.
    pub ending: bool,
}

/// What becomes of what no policy selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultEgress {
    #[default]
    Allow,
    Masquerade,
    Deny,
}

/// What the agent's configuration says about egress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressSettings {
    pub default: DefaultEgress,
    /// Pods of the whole cluster.
    pub pod_cidrs: Vec<IpNet>,
    pub node_cidrs: Vec<IpNet>,
    /// Pods send from their own addresses only (E6).
    pub own_sources: bool,
    /// Of next hops of policies.
    pub probe: Option<Probe>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &[(&str, &str)]) -> Labels {
        text.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn expression(operator: Operator) -> Selector {
        let key = "app".to_owned();
        Selector { expressions: vec![Expression { key, operator }], ..Selector::default() }
    }

    #[test]
    fn selectors_are_those_of_kubernetes() {
        let values = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        for (operator, a, c, none) in [
            (Operator::In(values.clone()), true, false, false),
            (Operator::NotIn(values), false, true, true),
            (Operator::Exists, true, true, false),
            (Operator::DoesNotExist, false, false, true),
        ] {
            let selector = expression(operator);
            let taken = [labels(&[("app", "a")]), labels(&[("app", "c")]), labels(&[])];
            assert_eq!(taken.map(|labels| selector.takes(&labels)), [a, c, none], "{selector:?}");
        }
        let both = Selector { equal: labels(&[("app", "a"), ("tier", "x")]), ..Selector::default() };
        assert!(both.takes(&labels(&[("app", "a"), ("tier", "x"), ("more", "y")])));
        assert!(!both.takes(&labels(&[("app", "a")])));
        assert!(Selector::default().takes(&labels(&[])));
    }

    #[test]
    fn the_node_alone_is_no_pod() {
        assert!(From::default().takes_pods());
        let node = From { node: true, ..From::default() };
        assert!(!node.takes_pods());
        assert!(From { pods: Some(Selector::default()), ..node.clone() }.takes_pods());
        assert!(!From { pods: Some(Selector::default()), ..node }.asks_labels());
    }
}
