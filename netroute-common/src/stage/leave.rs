//! What leaves the cluster: the policy that lets it out, and whose address it leaves with. And what comes in
//! to a pod, so that the answers are known for such.

use super::family::Family;
use super::hold::give_back;
use super::open::{Chosen, From, hash};
use super::serve::{Asked, Decision, Scratch};
use super::tuple::Tuple;
use crate::egress::{Egress, EgressEvent};
use crate::layout::egress::{
    ACTION_ALLOW, ACTION_DENY, ACTION_MASQUERADE, DEFAULT_POLICY, EgressPrefix, EgressRule, IDENTITY_CLUSTER,
    IDENTITY_NODE, Identity, MAX_RULES, POLICY_DEGRADED, POLICY_IN_FORCE, POLICY_REJECT, PREFIX_PODS, Policy,
    RuleSet,
};
use crate::layout::flow::{FLOW_EGRESS, FLOW_INBOUND};
use crate::layout::service::Address;
use crate::services::Services;
use crate::tables::Tables;
use crate::verdict::{Hook, Reason};
use crate::wire::l4::{PROTOCOL_TCP, TCP_RST};

/// A packet as policies look at it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Question {
    pub source: Address,
    pub destination: Address,
    pub port: u16,
    pub protocol: u8,
    /// 1 if `port` is there; else only rules for every packet match.
    pub has_port: u8,
}

/// Judges what the scratch holds: a packet of no flow, one that opens a flow to an endpoint, or one of a flow
/// that was let out under policies of before. A function of its own.
#[inline(always)]
pub fn leave<F: Family, T: Tables + Services + Egress>(tables: &T, decision: Decision) -> Decision {
    let in_force = tables.policy(DEFAULT_POLICY).is_some_and(|policy| policy.flags & POLICY_IN_FORCE != 0);
    if !in_force {
        return decision.unjudged();
    }
    let judged = F::scratch(tables, |scratch| {
        if decision == Decision::LEAVES && scratch.asked.arrival.hook == Hook::TcNic {
            return enter_pod::<F, T>(tables, scratch);
        }
        ask::<F>(scratch, decision);
        judge::<F, T>(tables, scratch, decision)
    });
    let judged = judged.unwrap_or(Decision::refused(Reason::TableInconsistent));
    if judged.refusal().is_some() {
        // Of a flow that is cut.
        give_back::<F, T>(tables, decision.unjudged());
    }
    judged
}

/// Fills in the question: of an answer, what the pod's packets look like; of a Service's flow, where its endpoint is.
#[inline(always)]
fn ask<F: Family>(scratch: &mut Scratch<F::Tuple>, decision: Decision) {
    let Scratch { asked, to, question, standing, .. } = scratch;
    let tuple = asked.tuple;
    let (source, destination, port) = match decision {
        Decision::LEAVES | Decision::PORTLESS => (tuple.source(), tuple.destination(), tuple.ports().1),
        _ if standing.reply => (to.destination(), tuple.source(), tuple.ports().0),
        _ => (tuple.source(), to.destination(), to.ports().1),
    };
    let has_port = u8::from(decision != Decision::PORTLESS);
    *question = Question { source, destination, port, protocol: tuple.protocol(), has_port };
}

#[inline(always)]
fn judge<F: Family, T: Tables + Services + Egress>(
    tables: &T,
    scratch: &mut Scratch<F::Tuple>,
    decision: Decision,
) -> Decision {
    let Scratch { asked, to, chosen, question, standing, .. } = scratch;
    if of_cluster(tables, &question.destination).is_some() {
        return decision.unjudged();
    }
    let Some(identity) = tables.identity(&question.source) else {
        let at_pod = asked.arrival.hook == Hook::TcPod;
        let of_pod = of_cluster(tables, &question.source).is_some_and(|set| set.flags & PREFIX_PODS != 0);
        let ours = at_pod || of_pod;
        return if ours { Decision::refused(Reason::EgressUnknownSource) } else { decision.unjudged() };
    };
    let id = match policy_for(tables, identity, question) {
        Ok(id) => id,
        Err(reason) => return Decision::refused(reason),
    };
    // The default is for pods.
    if id == DEFAULT_POLICY && identity == IDENTITY_NODE {
        return decision.unjudged();
    }
    let (Some(policy), Some(default)) = (tables.policy(id), tables.policy(DEFAULT_POLICY)) else {
        return Decision::refused(Reason::TableInconsistent);
    };
    if policy.action == ACTION_DENY {
        tables.count_egress(id, asked.bytes, tables.now(), EgressEvent::Denied);
        return Decision::refused(denial(policy));
    }
    if matches!(decision, Decision::STALE | Decision::STALE_CHANGES) {
        F::flow(tables, &asked.tuple, |_, flow| {
            flow.policy = id;
            flow.policies = default.generation;
        });
        return decision.unjudged();
    }
    let from = match policy.action {
        ACTION_ALLOW => From::Client,
        ACTION_MASQUERADE => From::Interface,
        _ => From::Policy,
    };
    scratch.via = if F::VERSION == 4 { policy.group4 } else { policy.group6 };
    (chosen.policy, chosen.policies) = (id, default.generation);
    if decision == Decision::PORTLESS {
        if from != From::Client {
            tables.count_egress(id, asked.bytes, tables.now(), EgressEvent::Denied);
            let piece = asked.fragmented;
            return Decision::refused(if piece { Reason::EgressFragment } else { Reason::EgressProtocol });
        }
        tables.count_egress(id, asked.bytes, tables.now(), EgressEvent::Packet);
        *to = asked.tuple;
        return Decision::ALLOWED;
    }
    if decision == Decision::OPENS {
        // A Service's flow, to an endpoint outside.
        chosen.flags = FLOW_EGRESS;
        if chosen.from == From::Client {
            chosen.from = from;
        }
        return decision;
    }
    opens::<F, T>(tables, (asked, to, chosen), question.destination, (from, FLOW_EGRESS));
    standing.outward = true;
    Decision::OPENS
}

/// A flow to where the packet is going anyway.
#[inline(always)]
fn opens<F: Family, T: Services>(
    tables: &T,
    (asked, to, chosen): (&mut Asked<F::Tuple>, &mut F::Tuple, &mut Chosen),
    destination: Address,
    (from, flags): (From, u8),
) {
    asked.now = tables.now();
    let port = asked.tuple.ports().1;
    chosen.endpoint = destination;
    chosen.source = asked.tuple.source();
    chosen.service = 0;
    (chosen.backend, chosen.generation) = (0, 0);
    chosen.hash = hash(&asked.tuple);
    chosen.port = port;
    chosen.from = from;
    chosen.flags = flags;
    *to = F::Tuple::new(&destination, &destination, (0, port), asked.tuple.protocol());
}

/// What comes from outside to a pod of this node opens a flow too: the pod's answers belong to it and are no
/// policy's.
#[inline(always)]
fn enter_pod<F: Family, T: Services + Egress>(tables: &T, scratch: &mut Scratch<F::Tuple>) -> Decision {
    let Scratch { asked, to, chosen, .. } = scratch;
    let (client, pod) = (asked.tuple.source(), asked.tuple.destination());
    let reset = asked.tuple.protocol() == PROTOCOL_TCP && asked.tcp & TCP_RST != 0;
    if reset || tables.identity(&pod).is_none() || of_cluster(tables, &client).is_some() {
        return Decision::NONE;
    }
    (chosen.policy, chosen.policies) = (DEFAULT_POLICY, 0);
    opens::<F, T>(tables, (asked, to, chosen), pod, (From::Client, FLOW_INBOUND));
    Decision::OPENS
}

/// What is known of an address as one of the cluster's.
#[inline(always)]
fn of_cluster<E: Egress>(tables: &E, address: &Address) -> Option<RuleSet> {
    tables.rules(&EgressPrefix { identity: IDENTITY_CLUSTER.to_be_bytes(), address: *address })
}

/// The policy that wins; an error where that depends on a port that the packet does not show.
#[inline(always)]
fn policy_for<E: Egress>(tables: &E, identity: Identity, question: &Question) -> Result<u32, Reason> {
    let destination = EgressPrefix { identity: identity.to_be_bytes(), address: question.destination };
    let RuleSet { first, count, .. } = tables.rules(&destination).unwrap_or_default();
    for n in 0..MAX_RULES {
        if n >= count {
            break;
        }
        let rule = tables.rule(first.wrapping_add(n.into())).ok_or(Reason::TableInconsistent)?;
        let EgressRule { policy, first_port, last_port, protocol, .. } = *rule;
        if protocol == 0 {
            return Ok(policy);
        }
        if question.protocol == 0 {
            return Err(Reason::EgressProtocol);
        }
        if protocol != question.protocol {
            continue;
        }
        let every_port = first_port == 0 && last_port == u16::MAX;
        if question.has_port == 0 && !every_port {
            return Err(Reason::EgressFragment);
        }
        if every_port || question.port.wrapping_sub(first_port) <= last_port.wrapping_sub(first_port) {
            return Ok(policy);
        }
    }
    Ok(DEFAULT_POLICY)
}

#[inline(always)]
fn denial(policy: &Policy) -> Reason {
    match policy.flags & (POLICY_DEGRADED | POLICY_REJECT) {
        POLICY_REJECT => Reason::EgressRejected,
        0 => Reason::EgressDenied,
        _ => Reason::EgressDegraded,
    }
}
