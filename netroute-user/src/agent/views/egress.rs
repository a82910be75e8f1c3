//! Egress policies: what was asked for, what became of it, and what was counted.

use netroute_common::layout::egress::EgressCounter;

use super::Reader;
use crate::api::request::Refusal;
use crate::api::types::{EgressCondition, EgressState, EgressView};
use crate::apply::flows::now;
use crate::compile::egress::condition::PolicyStatus;
use crate::desired::egress::{Action, EgressPolicy, Expression, From, Operator, PortRange, Selector, Via};
use crate::error::{chain, one_line};

const NANOSECONDS: u64 = 1_000_000_000;

impl Reader {
    /// All policies in the order in which they are asked, or the one of this name.
    pub fn egress(&self, name: Option<&str>) -> Result<Vec<EgressView>, Refusal> {
        let policies = &self.snapshot.desired.cluster.egress_policies;
        if let Some(name) = name
            && !policies.contains_key(name)
        {
            return Err(Refusal::new(format!(
                "there is no EgressPolicy {name}; `netroute egress list` shows what is there"
            )));
        }
        let mut wanted: Vec<&EgressPolicy> =
            policies.values().filter(|policy| name.is_none_or(|name| name == policy.name)).collect();
        wanted
            .sort_by_key(|policy| (policy.priority, policy.created.is_none(), policy.created, &policy.name));
        wanted.into_iter().map(|policy| self.egress_policy(policy)).collect()
    }

    fn egress_policy(&self, policy: &EgressPolicy) -> Result<EgressView, Refusal> {
        // One that came after the last compilation has no status yet.
        let status = self.snapshot.compiled.egress.statuses.get(&policy.name);
        let mut sum = EgressCounter::default();
        for slot in status.into_iter().flat_map(|status| &status.stats) {
            let one = self.counters.egress(*slot).map_err(|error| Refusal::new(chain(&error)))?;
            sum.packets = sum.packets.wrapping_add(one.packets);
            sum.bytes = sum.bytes.wrapping_add(one.bytes);
            sum.new_flows = sum.new_flows.wrapping_add(one.new_flows);
            sum.denied = sum.denied.wrapping_add(one.denied);
            sum.last_hit = sum.last_hit.max(one.last_hit);
        }
        let EgressCounter { packets, bytes, new_flows, denied, last_hit } = sum;
        let effect = policy.effect.as_ref().ok();
        let condition = |condition: &crate::compile::egress::condition::Condition| EgressCondition {
            reason: condition.reason().to_owned(),
            message: one_line(&condition.to_string()).into_owned(),
        };
        let except = policy.to.except.iter().map(|prefix| format!("!{prefix}"));
        Ok(EgressView {
            name: policy.name.clone(),
            priority: policy.priority,
            action: effect.map(|effect| effect.action.word()).unwrap_or_default().to_owned(),
            state: status.map_or(EgressState::Degraded, PolicyStatus::state),
            conditions: status.iter().flat_map(|status| &status.conditions).map(condition).collect(),
            from: one_line(&from(&policy.from)).into_owned(),
            to: policy.to.cidrs.iter().map(ToString::to_string).chain(except).collect(),
            ports: policy.to.ports.iter().map(ports).collect(),
            snat: match effect.map(|effect| &effect.action) {
                Some(Action::Snat(addresses)) => addresses.iter().map(ToString::to_string).collect(),
                _ => Vec::new(),
            },
            via: effect.iter().flat_map(|effect| &effect.via).map(via).collect(),
            pods: status.map_or(0, |status| u32::try_from(status.pods).unwrap_or(u32::MAX)),
            packets,
            bytes,
            new_flows,
            denied,
            last_hit_seconds: (last_hit > 0).then(|| now().saturating_sub(last_hit) / NANOSECONDS),
        })
    }
}

fn from(from: &From) -> String {
    let From { pods, namespaces, cidrs, node } = from;
    let mut parts = Vec::new();
    if from.takes_pods() {
        parts.push(match pods {
            Some(selector) if !selector.is_empty() => format!("pods with {}", selected(selector)),
            _ => "all pods".to_owned(),
        });
        if let Some(selector) = namespaces.as_ref().filter(|selector| !selector.is_empty()) {
            parts.push(format!("in namespaces with {}", selected(selector)));
        }
    }
    if *node {
        parts.push(if parts.is_empty() { "the node".to_owned() } else { "and the node".to_owned() });
    }
    if !cidrs.is_empty() {
        let list: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
        parts.push(format!("within {}", list.join(", ")));
    }
    parts.join(" ")
}

fn selected(selector: &Selector) -> String {
    let equal = selector.equal.iter().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.expressions.iter().map(|Expression { key, operator }| {
        let list = |values: &std::collections::BTreeSet<String>| {
            values.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        match operator {
            Operator::In(values) => format!("{key} in ({})", list(values)),
            Operator::NotIn(values) => format!("{key} not in ({})", list(values)),
            Operator::Exists => key.clone(),
            Operator::DoesNotExist => format!("!{key}"),
        }
    });
    equal.chain(expressions).collect::<Vec<_>>().join(", ")
}

fn ports(PortRange { protocol, first, last }: &PortRange) -> String {
    match (first, last) {
        (0, &u16::MAX) => protocol.to_string(),
        (first, last) if first == last => format!("{protocol} {first}"),
        (first, last) => format!("{protocol} {first}-{last}"),
    }
}

fn via(via: &Via) -> String {
    one_line(&format!("{via} metric {}", via.metric)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::service::Protocol;

    #[test]
    fn who_is_meant_is_said_in_a_line() {
        let selector = |key: &str, value: &str| Selector {
            equal: [(key.to_owned(), value.to_owned())].into(),
            ..Selector::default()
        };
        assert_eq!(from(&From::default()), "all pods");
        assert_eq!(from(&From { node: true, ..From::default() }), "the node");
        let mut pods = selector("app", "nvr");
        let values = ["a".to_owned(), "b".to_owned()].into();
        pods.expressions = vec![
            Expression { key: "tier".into(), operator: Operator::NotIn(values) },
            Expression { key: "old".into(), operator: Operator::DoesNotExist },
        ];
        let all = From {
            pods: Some(pods),
            namespaces: Some(selector("team", "video")),
            cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            node: true,
        };
        assert_eq!(
            from(&all),
            "pods with app=nvr, tier not in (a, b), !old in namespaces with team=video and the node \
             within 10.244.1.0/24"
        );
    }

    #[test]
    fn ports_are_said_as_short_as_they_can() {
        let said = |first, last| ports(&PortRange { protocol: Protocol::Tcp, first, last });
        assert_eq!([said(0, 65535), said(80, 80), said(554, 560)], ["TCP", "TCP 80", "TCP 554-560"]);
    }
}
