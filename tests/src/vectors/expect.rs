//! What a vector expects, made into the exact outcome: bytes from the input and the expectation,
//! nothing from the packet logic.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use netroute_common::host::Counted;
use netroute_common::layout::egress::EgressCounter;
use netroute_common::layout::route::{KIND_POD, UNCOUNTED};
use netroute_common::layout::service::ServiceCounter;
use netroute_common::layout::stats::Counter;
use netroute_common::verdict::{Exit, Hook, Reason};
use serde::{Deserialize, Serialize};

use super::answer::{AnswerText, answer};
use super::cast::NIC;
use super::check::Input;
use super::icmp::rewrite_quote;
use super::outcome::{Action, Outcome};
use super::rewrite::{rewrite, sides, sum};
use super::tables::{Bounds, TableSet, read_prefix};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expect {
    /// A reason by its name.
    pub reason: String,
    /// The next hop; only of forwarded packets, and of all but those that the kernel sends as it was about to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// If it is not the way that the next hop's kind and interface suggest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitText>,
    /// Of packets that are not forwarded; pass if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ActionText>,
    /// Of packets that are refused: the packet becomes the answer and goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerText>,
    /// The MTU that the answer `too-big` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// `address` or `address:port` that the packet is from afterwards, if that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Likewise, that it is to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// `source -> destination`, each as `address:port`, of the packet that an ICMP error quotes afterwards, if
    /// that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quoted: Option<String>,
    /// The Service port that counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The egress policy that counts it: as denied, if it is dropped or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Whether those count it as the first of a flow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_flow: bool,
    /// The prefix whose counter counts it, if it is not the longest of the new destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Leaves by the next hop that the other direction came from, whatever the route says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
    /// Place of the next hop in the group, if the group names it twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<u32>,
    /// Where `ROUTE_STATS` counts it, as a number: no route needs to be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
}

/// How a packet leaves, as vectors name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitText {
    /// Out of the NIC it came in on, by XDP.
    SameNic,
    /// By the next hop's interface: through its slot of `PORTS` in XDP, by its index at TC.
    Interface,
    Pod,
    /// Out of the NIC that it was about to leave by, at TC egress.
    Onward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionText {
    Pass,
    Drop,
}

impl Expect {
    pub fn outcome(&self, tables: &TableSet, hook: Hook, input: &Input) -> Result<Outcome> {
        let reason =
            Reason::from_name(&self.reason).with_context(|| format!("no reason `{}`", self.reason))?;
        let one = Counter { packets: 1, bytes: u64::try_from(input.frame.len())? };
        let mut counted = Counted::default();
        counted.verdicts.insert(reason, one);
        let mut frame = input.frame.clone();
        if self.source.is_some() || self.destination.is_some() {
            rewrite(&mut frame, self.source.as_deref(), self.destination.as_deref())?;
        }
        if let Some(quoted) = &self.quoted {
            rewrite_quote(&mut frame, quoted)?;
        }
        let services = self.services(tables, reason, one)?;
        let egress = self.egress(tables, one)?;
        if reason != Reason::Forwarded {
            ensure!(self.via.is_none() && self.exit.is_none(), "`via` and `exit` are for forwarded packets");
            if let Some(how) = self.answer {
                let frame = answer(&input.frame, how, self.mtu)?;
                return Ok(Outcome {
                    action: Action::Redirect,
                    frame,
                    counted,
                    services,
                    egress,
                    exit: None,
                });
            }
            ensure!(self.mtu.is_none(), "`mtu` without `answer`");
            let action = match self.action.unwrap_or(ActionText::Pass) {
                ActionText::Pass => Action::Pass,
                ActionText::Drop => Action::Drop,
            };
            return Ok(Outcome { action, frame, counted, services, egress, exit: None });
        }
        ensure!(self.action.is_none(), "`action` is for packets that are not forwarded");
        let Some(via) = &self.via else {
            ensure!(hook == Hook::TcOut && self.exit.is_none(), "forwarded without `via`");
            let exit = Some(Exit::Onward);
            return Ok(Outcome { action: Action::Pass, frame, counted, services, egress, exit });
        };
        let (id, next_hop) = tables.next_hop(via)?;
        counted.next_hops.insert(id, one);
        let slot = self.stats(tables, &frame, id)?;
        if slot < Bounds::ROUTE_STATS {
            counted.routes.insert(slot, one);
        }
        let usual = match next_hop.kind {
            KIND_POD => ExitText::Pod,
            _ if hook == Hook::XdpNic && next_hop.ifindex == NIC.index => ExitText::SameNic,
            _ if hook == Hook::TcOut && next_hop.ifindex == input.interface.index => ExitText::Onward,
            _ => ExitText::Interface,
        };
        let (action, exit) = match (self.exit.unwrap_or(usual), hook) {
            (ExitText::SameNic, Hook::XdpNic) => (Action::Reflect, Exit::SameNic),
            (ExitText::Interface, Hook::XdpNic) => (Action::Redirect, Exit::Port(next_hop.port)),
            (ExitText::Interface, _) => (Action::Redirect, Exit::Interface(next_hop.ifindex)),
            (ExitText::Pod, Hook::TcNic | Hook::TcPod) => (Action::Redirect, Exit::Pod(next_hop.ifindex)),
            (ExitText::Onward, Hook::TcOut) => (Action::Pass, Exit::Onward),
            (exit, _) => bail!("no exit {exit:?} at {}", hook.name()),
        };
        frame[0..6].copy_from_slice(&next_hop.destination_mac);
        frame[6..12].copy_from_slice(&next_hop.source_mac);
        // What leaves the node has been sent or routed by the kernel.
        if hook != Hook::TcOut {
            hop(&mut frame)?;
        }
        Ok(Outcome { action, frame, counted, services, egress, exit: Some(exit) })
    }

    fn egress(&self, tables: &TableSet, one: Counter) -> Result<BTreeMap<u32, EgressCounter>> {
        let Some(name) = &self.policy else { return Ok(BTreeMap::new()) };
        let denied = self.answer.is_some() || self.action == Some(ActionText::Drop);
        let counter = if denied {
            EgressCounter { denied: 1, last_hit: 1, ..EgressCounter::default() }
        } else {
            let Counter { packets, bytes } = one;
            EgressCounter { packets, bytes, new_flows: self.new_flow.into(), denied: 0, last_hit: 1 }
        };
        Ok(BTreeMap::from([(tables.egress.index(name)?, counter)]))
    }

    fn services(
        &self,
        tables: &TableSet,
        reason: Reason,
        one: Counter,
    ) -> Result<BTreeMap<u32, ServiceCounter>> {
        let Some(name) = &self.service else {
            ensure!(!self.new_flow || self.policy.is_some(), "`new-flow` without `service` or `policy`");
            return Ok(BTreeMap::new());
        };
        let counter = match reason {
            Reason::NoEndpoint | Reason::NoLocalEndpoint | Reason::RefusedSilently => {
                ServiceCounter { no_endpoint: 1, ..ServiceCounter::default() }
            }
            _ => ServiceCounter {
                packets: one.packets,
                bytes: one.bytes,
                new_flows: self.new_flow.into(),
                no_endpoint: 0,
            },
        };
        Ok(BTreeMap::from([(tables.services.index(name)?, counter)]))
    }

    /// Where the route of this frame counts those for the next hop.
    fn stats(&self, tables: &TableSet, frame: &[u8], next_hop: u32) -> Result<u32> {
        if let Some(slot) = self.slot {
            return Ok(slot);
        }
        if self.back {
            return Ok(UNCOUNTED);
        }
        if let Some(group) = self.group_of_policy(tables, frame)? {
            let group = tables.groups.get(&group).context("the policy's group is not in the tables")?;
            // Its answers go by the route.
            if let Some(place) = group.members.iter().position(|member| member.next_hop == next_hop) {
                return Ok(UNCOUNTED.wrapping_add(u32::try_from(place)?));
            }
        }
        let prefix = match &self.route {
            Some(prefix) => Some(read_prefix(prefix)?),
            None => tables.longest_prefix(sides(frame)?.1.address),
        };
        let route = prefix.and_then(|prefix| tables.routes.get(&prefix));
        let route = route.context("the expected route is not in the tables")?;
        let group = tables.groups.get(&route.group).context("the expected route has no group")?;
        if let Some(place) = self.place {
            return Ok(route.stats.wrapping_add(place));
        }
        let place = group.members.iter().position(|member| member.next_hop == next_hop);
        let place = place.context("`via` is not in the group of the route")?;
        Ok(route.stats.wrapping_add(u32::try_from(place)?))
    }
}

const IP_AT: usize = 14;

impl Expect {
    /// The next hops that the policy names for what it sends out.
    fn group_of_policy(&self, tables: &TableSet, frame: &[u8]) -> Result<Option<u32>> {
        let Some(name) = &self.policy else { return Ok(None) };
        let Some(policy) = tables.egress.policies.get(&tables.egress.index(name)?) else { return Ok(None) };
        let v6 = frame.get(IP_AT).is_some_and(|first| first >> 4 == 6);
        let group = if v6 { policy.group6 } else { policy.group4 };
        Ok((group != 0).then_some(group))
    }
}

/// Lowers TTL or hop limit as a router does (RFC 1812 section 5.3.1, RFC 8200 section 3).
fn hop(frame: &mut [u8]) -> Result<()> {
    let ip = frame.get_mut(IP_AT..).context("no room for an IP header")?;
    if ip.first().context("empty packet")? >> 4 == 6 {
        *ip.get_mut(7).context("cut IPv6 header")? -= 1;
        return Ok(());
    }
    let header = ip.get_mut(..20).context("cut IPv4 header")?;
    let before = sum(header);
    header[8] -= 1;
    header[10..12].fill(0);
    // The sum over a valid header must stay what it was; so must the sum over an invalid one, for
    // the next router to see that it is.
    let checksum = u16::try_from((before + 0xffff - sum(header)) % 0xffff)?;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}
