//! The policy that decides, and those that would if it were not there.

use netroute_common::egress::Egress as _;
use netroute_common::layout::egress::{
    ACTION_ALLOW, ACTION_DENY, ACTION_MASQUERADE, DEFAULT_POLICY, IDENTITY_CLUSTER, IDENTITY_NODE,
    POLICY_IN_FORCE, Policy,
};
use netroute_common::layout::flow::FLOW_EGRESS;
use netroute_common::stage::leave::Question;
use netroute_common::stage::serve::Decision;

use super::Scene;
use super::hook::known;
use crate::api::explain_types::PolicyStageView;
use crate::compile::egress::applicable::{Destination, Sender, applicable};
use crate::compile::egress::condition::PolicyStatus;
use crate::compile::services::image::unmapped;
use crate::desired::egress::EgressPolicy;
use crate::error::one_line;
use crate::explain::{Judged, Trace};

impl Scene<'_> {
    pub(super) fn policy(&self, judged: &Judged) -> Option<PolicyStageView> {
        let Judged { trace, worked, .. } = judged;
        let worked = worked.as_ref()?;
        if trace.judged.is_none() {
            let flow = known(judged).filter(|flow| flow.flags & FLOW_EGRESS != 0)?;
            let reason = "as its flow was judged; no policy has changed since".to_owned();
            return Some(PolicyStageView { reason, ..self.decided_by(flow.policy, None, false) });
        }
        let in_force =
            self.tables.policy(DEFAULT_POLICY).is_some_and(|policy| policy.flags & POLICY_IN_FORCE != 0);
        // The default is looked at first.
        let Some(winner) = trace.policies.get(1).filter(|_| in_force) else {
            return Some(unjudged(why_unjudged(judged, in_force)));
        };
        let of_node = matches!(trace.identity, Some((_, Some(IDENTITY_NODE))));
        Some(self.decided_by(*winner, Some(&worked.question), of_node))
    }

    /// `id` is an index into `EGRESS_POLICIES`.
    fn decided_by(&self, id: u32, question: Option<&Question>, of_node: bool) -> PolicyStageView {
        let name = self.policy_name(id);
        let cluster = &self.snapshot.desired.cluster;
        let policy = name.as_ref().and_then(|name| cluster.egress_policies.get(name));
        let applies = question.map(|question| self.applies(question, of_node)).unwrap_or_default();
        let others = applies.iter().filter(|other| Some(&other.name) != name.as_ref());
        let status = name.as_ref().and_then(|name| self.snapshot.compiled.egress.statuses.get(name));
        PolicyStageView {
            priority: policy.map(|policy| policy.priority),
            action: self.tables.policy(id).map(word).unwrap_or_default().to_owned(),
            shadows: others.map(|policy| line(&policy.name)).collect(),
            conditions: status.into_iter().flat_map(conditions).collect(),
            reason: match (&name, id) {
                (Some(_), _) => String::new(),
                (None, DEFAULT_POLICY) => {
                    "no policy selects it: defaultEgress of the configuration".to_owned()
                }
                (None, _) if of_node => "no policy selects it: the node is let out".to_owned(),
                (None, _) => {
                    "there is no room for the policy that decides; see `netroute egress list`".to_owned()
                }
            },
            policy: name.map(|name| line(&name)),
        }
    }

    fn policy_name(&self, id: u32) -> Option<String> {
        let statuses = &self.snapshot.compiled.egress.statuses;
        statuses.iter().find(|(_, status)| status.stats.contains(&id)).map(|(name, _)| name.clone())
    }

    fn applies(&self, question: &Question, of_node: bool) -> Vec<&EgressPolicy> {
        let cluster = &self.snapshot.desired.cluster;
        let source = unmapped(question.source);
        let here = self.snapshot.desired.service_settings.node_name.as_str();
        let mut pods: Vec<_> = cluster
            .pods
            .values()
            .filter(|pod| !pod.host_network && pod.node.as_deref() == Some(here))
            .filter(|pod| pod.addresses.contains(&source))
            .collect();
        pods.sort_by_key(|pod| pod.ending);
        let sender = match pods.first() {
            _ if of_node => Sender::Node(source),
            Some(pod) => Sender::Pod(pod, source),
            None => Sender::Unlabelled(source),
        };
        let to = Destination {
            address: unmapped(question.destination),
            port: question.port,
            protocol: question.protocol,
        };
        applicable(cluster, sender, to)
    }
}

const fn word(policy: &Policy) -> &'static str {
    match policy.action {
        ACTION_DENY => "Deny",
        ACTION_ALLOW => "Allow",
        ACTION_MASQUERADE => "Masquerade",
        _ => "Snat",
    }
}

fn conditions(status: &PolicyStatus) -> impl Iterator<Item = String> + '_ {
    status.conditions.iter().map(|condition| line(&condition.to_string()))
}

/// What others wrote is in it.
fn line(text: &str) -> String {
    one_line(text).into_owned()
}

const fn unjudged(reason: String) -> PolicyStageView {
    PolicyStageView {
        policy: None,
        priority: None,
        action: String::new(),
        shadows: Vec::new(),
        conditions: Vec::new(),
        reason,
    }
}

fn why_unjudged(judged: &Judged, in_force: bool) -> String {
    let Trace { identity, rule_sets, .. } = &judged.trace;
    let refusal = judged.trace.judged.and_then(Decision::refusal);
    let to_cluster = rule_sets
        .first()
        .is_some_and(|(prefix, found)| prefix.identity == IDENTITY_CLUSTER.to_be_bytes() && found.is_some());
    match (refusal, identity) {
        _ if !in_force => "no policy is in force".to_owned(),
        (Some(reason), _) => reason.explanation().trim().to_owned(),
        _ if rule_sets.is_empty() => "it comes in: policies are about what leaves".to_owned(),
        (None, Some((_, None))) => "its source is no pod of this node, and no policy names it".to_owned(),
        (None, Some((_, Some(IDENTITY_NODE)))) => {
            "no policy selects the node's own processes for it".to_owned()
        }
        _ if to_cluster => "within the cluster, whose own traffic is not judged".to_owned(),
        _ => "it comes in: policies are about what leaves".to_owned(),
    }
}
