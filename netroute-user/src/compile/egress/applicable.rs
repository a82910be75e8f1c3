//! Which policies have a say in one packet: what the compiled rules came from, for people to see.

use std::cmp::Reverse;
use std::net::IpAddr;

use ipnet::IpNet;

use super::content::{covers, rules_of};
use super::order::{Order, Rank};
use super::select::{self, Selector};
use crate::desired::egress::{EgressPolicy, Pod};
use crate::desired::service::Cluster;

/// Who sends.
#[derive(Clone, Copy, Debug)]
pub enum Sender<'a> {
    Pod(&'a Pod, IpAddr),
    /// A pod that no object tells of.
    Unlabelled(IpAddr),
    Node(IpAddr),
}

/// Where to, by which protocol; the port is 0 where there is none.
#[derive(Clone, Copy, Debug)]
pub struct Destination {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: u8,
}

/// All policies that apply, the one that decides first: the others would, were it not there.
#[must_use]
pub fn applicable<'a>(cluster: &'a Cluster, sender: Sender<'a>, to: Destination) -> Vec<&'a EgressPolicy> {
    let order = Order::of(&cluster.egress_policies);
    let selected = match sender {
        Sender::Pod(pod, address) => Selector::new(&order, &cluster.namespaces).pod(pod, address),
        Sender::Unlabelled(address) => select::unlabelled(&order, address).unwrap_or_default(),
        Sender::Node(address) => select::node(&order, address),
    };
    let host = IpNet::from(to.address);
    let mut found: Vec<(u32, Reverse<u8>, Rank, &EgressPolicy)> = selected
        .into_iter()
        .filter_map(|rank| {
            let policy = order.get(rank)?;
            let takes = rules_of(rank, policy).iter().any(|rule| {
                rule.protocol == 0
                    || rule.protocol == to.protocol && (rule.first..=rule.last).contains(&to.port)
            });
            let length = covers(policy, &host).filter(|_| takes)?;
            Some((policy.priority, Reverse(length), rank, policy))
        })
        .collect();
    found.sort_unstable_by_key(|&(priority, length, rank, _)| (priority, length, rank));
    found.into_iter().map(|(.., policy)| policy).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::*;
    use crate::desired::egress::{Action, Effect, From, PortRange, Selector as Labels, To};
    use crate::desired::service::{ObjectKey, Protocol};

    fn policy(name: &str, priority: u32, cidr: &str, from: From, ports: &[(u16, u16)]) -> EgressPolicy {
        let range = |&(first, last): &(u16, u16)| PortRange { protocol: Protocol::Tcp, first, last };
        let to = To {
            cidrs: BTreeSet::from([cidr.parse().unwrap()]),
            except: BTreeSet::from(["203.0.113.9/32".parse().unwrap()]),
            ports: ports.iter().map(range).collect(),
        };
        let effect = Ok(Effect { action: Action::Allow, via: Vec::new() });
        EgressPolicy { name: name.into(), created: None, priority, from, to, effect }
    }

    fn names(cluster: &Cluster, sender: Sender<'_>, address: &str, port: u16, protocol: u8) -> String {
        let to = Destination { address: address.parse().unwrap(), port, protocol };
        let found = applicable(cluster, sender, to);
        found.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn e1_those_that_apply_come_in_the_order_in_which_they_are_asked() {
        let equal = BTreeMap::from([("app".to_owned(), "nvr".to_owned())]);
        let nvr =
            From { pods: Some(Labels { equal: equal.clone(), ..Labels::default() }), ..From::default() };
        let node = From { node: true, ..From::default() };
        let all = [
            policy("all", 40, "0.0.0.0/0", From::default(), &[]),
            policy("near", 40, "203.0.113.0/24", From::default(), &[]),
            policy("nvr", 30, "0.0.0.0/0", nvr, &[(80, 90), (443, 443)]),
            policy("node", 10, "0.0.0.0/0", node, &[]),
        ];
        let policies = all.into_iter().map(|policy| (policy.name.clone(), policy)).collect();
        let cluster = Cluster { egress_policies: Arc::new(policies), ..Cluster::default() };
        let address: IpAddr = [10, 244, 1, 10].into();
        let pod = Pod {
            key: ObjectKey { namespace: "shop".into(), name: "nvr".into() },
            labels: equal,
            node: None,
            addresses: BTreeSet::from([address]),
            host_network: false,
            ending: false,
        };
        let nvr = Sender::Pod(&pod, address);
        assert_eq!(names(&cluster, nvr, "203.0.113.10", 80, 6), "nvr near all");
        assert_eq!(names(&cluster, nvr, "198.51.100.1", 443, 6), "nvr all");
        assert_eq!(names(&cluster, nvr, "203.0.113.10", 91, 6), "near all", "no port of its");
        assert_eq!(names(&cluster, nvr, "203.0.113.10", 80, 17), "near all", "no protocol of its");
        assert_eq!(names(&cluster, nvr, "203.0.113.9", 80, 6), "", "left out by all");
        assert_eq!(names(&cluster, Sender::Node(address), "203.0.113.10", 80, 6), "node");
        let unknown = Sender::Unlabelled(address);
        assert_eq!(names(&cluster, unknown, "203.0.113.10", 80, 6), "", "labels decide, and are not known");
    }
}
