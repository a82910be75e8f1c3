//! The entries of `EGRESS_POLICIES` and `SNAT`: what each policy does on this node, or that it denies for
//! want of what it asks for (E4, E5).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use netroute_common::layout::egress::{
    ACTION_ALLOW, ACTION_DENY, ACTION_MASQUERADE, ACTION_SNAT, MAX_SNAT_ADDRESSES, POLICY_DEGRADED,
    POLICY_REJECT, Policy, SnatAddress,
};

use super::condition::Condition;
use super::runs::Runs;
use super::vias::{Way, Ways};
use crate::compile::Inputs;
use crate::compile::interfaces::Interfaces;
use crate::compile::services::image::mapped;
use crate::desired::egress::{Action, EgressPolicy};
use crate::desired::service::Family;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Denies for now.
pub(super) const DEGRADED: Policy = Policy {
    generation: 0,
    group4: 0,
    group6: 0,
    snat4: 0,
    snat6: 0,
    snat4_count: 0,
    snat6_count: 0,
    action: ACTION_DENY,
    flags: POLICY_DEGRADED,
    zero: [0; 2],
};

/// One policy on this node.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) entry: Policy,
    /// By IP version: denied, while the other one is not.
    pub(super) denied: [bool; 2],
    pub(super) conditions: Vec<Condition>,
}

/// Judges policies one after the other; the first ones get what room there is for addresses.
pub(super) struct Judge<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) interfaces: &'a Interfaces,
    pub(super) ways: &'a BTreeMap<String, Ways>,
    pub(super) snat: Runs<SnatAddress>,
}

impl Judge<'_> {
    pub(super) fn judge(&mut self, policy: &EgressPolicy) -> Judged {
        let effect = match &policy.effect {
            Ok(effect) => effect,
            Err(wrong) => return refused(vec![Condition::Invalid(wrong.clone())]),
        };
        let ways = self.ways.get(&policy.name);
        let mut conditions: Vec<Condition> = ways.map(|ways| ways.conditions.clone()).unwrap_or_default();
        let mut entry = Policy { action: action(&effect.action), ..Policy::default() };
        if let Action::Deny { reject: true } = effect.action {
            entry.flags = POLICY_REJECT;
        }
        let asked =
            FAMILIES.map(|family| policy.to.cidrs.iter().any(|one| Family::from(one.addr()) == family));
        let mut denied = [false; 2];
        let mut addresses: [Arc<[SnatAddress]>; 2] = [Arc::default(), Arc::default()];
        for (at, family) in FAMILIES.into_iter().enumerate().filter(|(at, _)| asked[*at]) {
            let way = ways.map(|ways| &ways.of[at]);
            match way {
                None => {}
                Some(Way::Group(group)) if family == Family::V4 => entry.group4 = *group,
                Some(Way::Group(group)) => entry.group6 = *group,
                Some(Way::NotGiven) => {
                    conditions.push(Condition::NoVia(family));
                    denied[at] = true;
                }
                Some(Way::Unusable) => {
                    conditions.push(Condition::NoNextHop(family));
                    denied[at] = true;
                }
            }
            if let Action::Snat(all) = &effect.action {
                addresses[at] = self.addresses(all, family, ways, &mut conditions);
                denied[at] |= addresses[at].is_empty();
            }
        }
        if (0..2).all(|at| denied[at] || !asked[at]) {
            return refused(conditions);
        }
        if !self.place(&mut entry, &addresses) {
            conditions.push(Condition::SnatFull { limit: self.inputs.limits.snat });
            return refused(conditions);
        }
        Judged { entry, denied, conditions }
    }

    /// Those that are on a NIC which the traffic can leave by.
    fn addresses(
        &self,
        all: &[IpAddr],
        family: Family,
        ways: Option<&Ways>,
        conditions: &mut Vec<Condition>,
    ) -> Arc<[SnatAddress]> {
        let allowed = ways.map(|ways| &ways.interfaces);
        let mut found = Vec::new();
        for address in all.iter().filter(|one| Family::from(**one) == family) {
            let before = found.len();
            let held = self.inputs.kernel.addresses.iter().filter(|held| {
                held.usable
                    && held.address.addr() == *address
                    && self.interfaces.is_nic(held.ifindex)
                    && allowed.is_none_or(|allowed| allowed.contains(&(family, held.ifindex)))
            });
            found.extend(held.map(|held| SnatAddress {
                address: mapped(*address),
                ifindex: held.ifindex,
                first_port: self.inputs.nat.first_port,
                ports: self.inputs.nat.ports,
            }));
            if found.len() == before {
                conditions.push(Condition::SnatElsewhere(*address));
            }
        }
        found.truncate(usize::from(MAX_SNAT_ADDRESSES));
        if found.is_empty() {
            conditions.push(Condition::NoSnat(family));
        }
        for (_, ifindex) in allowed.into_iter().flatten().filter(|(of, _)| *of == family) {
            if !found.is_empty() && found.iter().all(|one| one.ifindex != *ifindex) {
                let interface = self.interfaces.alias(*ifindex).unwrap_or_default().to_owned();
                conditions.push(Condition::SnatNotOn { interface, family });
            }
        }
        found.into()
    }

    fn place(&mut self, entry: &mut Policy, addresses: &[Arc<[SnatAddress]>; 2]) -> bool {
        let Some(firsts) = self.snat.place_all(addresses) else { return false };
        let count = |at: usize| u16::try_from(addresses[at].len()).unwrap_or(MAX_SNAT_ADDRESSES);
        if let [first4, first6] = firsts[..] {
            (entry.snat4, entry.snat6) = (first4, first6);
            (entry.snat4_count, entry.snat6_count) = (count(0), count(1));
        }
        true
    }
}

const fn action(action: &Action) -> u8 {
    match action {
        Action::Allow => ACTION_ALLOW,
        Action::Deny { .. } => ACTION_DENY,
        Action::Masquerade => ACTION_MASQUERADE,
        Action::Snat(_) => ACTION_SNAT,
    }
}

const fn refused(conditions: Vec<Condition>) -> Judged {
    Judged { entry: DEGRADED, denied: [false; 2], conditions }
}
