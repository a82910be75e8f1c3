//! What a vector expects, made into the exact outcome: bytes from the input and the expectation,
//! nothing from the packet logic.

use anyhow::{Context, Result, bail, ensure};
use netroute_common::host::Counted;
use netroute_common::layout::stats::Counter;
use netroute_common::verdict::{Exit, Hook, Reason};
use serde::{Deserialize, Serialize};

use super::check::Input;
use super::outcome::{Action, Outcome};
use super::tables::{Bounds, TableSet, read_prefix};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expect {
    /// A reason by its name.
    pub reason: String,
    /// The next hop; only of forwarded packets, and always of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitText>,
    /// The prefix whose counter counts it, if there is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Place of the next hop in the group, if the group names it twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<u32>,
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
}

impl Expect {
    pub fn outcome(&self, tables: &TableSet, hook: Hook, input: &Input) -> Result<Outcome> {
        let reason =
            Reason::from_name(&self.reason).with_context(|| format!("no reason `{}`", self.reason))?;
        let one = Counter { packets: 1, bytes: u64::try_from(input.frame.len())? };
        let mut counted = Counted::default();
        counted.verdicts.insert(reason, one);
        if reason != Reason::Forwarded {
            ensure!(self.via.is_none() && self.exit.is_none(), "`via` and `exit` are for forwarded packets");
            return Ok(Outcome { action: Action::Pass, frame: input.frame.clone(), counted, exit: None });
        }
        let (id, next_hop) = tables.next_hop(self.via.as_deref().context("forwarded without `via`")?)?;
        counted.next_hops.insert(id, one);
        let slot = self.stats(tables, id)?;
        if slot < Bounds::ROUTE_STATS {
            counted.routes.insert(slot, one);
        }
        let (action, exit) = match (self.exit.context("forwarded without `exit`")?, hook) {
            (ExitText::SameNic, Hook::XdpNic) => (Action::Reflect, Exit::SameNic),
            (ExitText::Interface, Hook::XdpNic) => (Action::Redirect, Exit::Port(next_hop.port)),
            (ExitText::Interface, _) => (Action::Redirect, Exit::Interface(next_hop.ifindex)),
            (ExitText::Pod, Hook::TcNic | Hook::TcPod) => (Action::Redirect, Exit::Pod(next_hop.ifindex)),
            (exit, _) => bail!("no exit {exit:?} at {}", hook.name()),
        };
        let mut frame = input.frame.clone();
        frame[0..6].copy_from_slice(&next_hop.destination_mac);
        frame[6..12].copy_from_slice(&next_hop.source_mac);
        hop(&mut frame)?;
        Ok(Outcome { action, frame, counted, exit: Some(exit) })
    }

    fn stats(&self, tables: &TableSet, next_hop: u32) -> Result<u32> {
        let route = match &self.route {
            Some(prefix) => tables.routes.get(&read_prefix(prefix)?),
            None if tables.routes.len() == 1 => tables.routes.values().next(),
            None => bail!("more than one route: say which by `route`"),
        };
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

/// One's complement sum of 16-bit words (RFC 1071), with 0 for 0xffff, which means the same.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    words.fold(0, |sum, word| (sum + word) % 0xffff)
}
