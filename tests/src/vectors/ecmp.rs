//! Many flows over next hops that die and return: how they are shared, and who moves.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use netroute_common::verdict::Hook;
use serde::{Deserialize, Serialize};

use super::Vector;
use super::check::{Input, Judge, Ran};
use super::packet::PacketText;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ecmp {
    /// A packet of the first flow; the others differ in `vary`.
    pub packet: PacketText,
    pub flows: u32,
    pub vary: Vary,
    /// More packets, each of the same flow as the one in its place of `flows`: they must take the
    /// same way. Built like `packet`.
    #[serde(default)]
    pub companions: Vec<PacketText>,
    #[serde(rename = "step")]
    pub steps: Vec<EcmpStep>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vary {
    SourcePort,
    /// The last three bytes of the source address.
    SourceAddress,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EcmpStep {
    #[serde(default)]
    pub dead: Vec<String>,
    /// Part of the flows on each next hop, of 1; what is not named gets none.
    pub shares: BTreeMap<String, f64>,
}

/// By how much a part of 10 000 flows may miss its share: over four standard deviations of an
/// even split.
const TOLERANCE: f64 = 0.02;

type Way = [u8; 6];

/// Runs all steps at each hook of the vector.
pub fn run_ecmp(vector: &Vector, judge: &mut dyn Judge) -> Result<Ran> {
    let ecmp = vector.ecmp.as_ref().context("no `ecmp`")?;
    let mut ran = Ran::default();
    for hook in &vector.hooks {
        let mut tables = vector.tables.compile()?;
        let names: Vec<String> = vector.tables.next_hops.keys().cloned().collect();
        let mut ways: Vec<Vec<String>> = Vec::new();
        for (number, step) in ecmp.steps.iter().enumerate() {
            for name in &names {
                tables.set_alive(name, !step.dead.contains(name))?;
            }
            judge.install(&tables)?;
            let by_mac: BTreeMap<Way, &String> = names
                .iter()
                .map(|name| Ok((tables.next_hop(name)?.1.destination_mac, name)))
                .collect::<Result<_>>()?;
            ensure!(by_mac.len() == names.len(), "two next hops with one MAC address");
            let label = format!("{} step {number}", hook.hook().name());
            let mut taken = Vec::new();
            for flow in 0..ecmp.flows {
                let way = way_of(ecmp, &ecmp.packet, flow, hook.hook(), judge, &by_mac)?;
                for packet in &ecmp.companions {
                    let other = way_of(ecmp, packet, flow, hook.hook(), judge, &by_mac)?;
                    if other != way {
                        ran.failures.push(format!("{label}: flow {flow} parts: {way} and {other}"));
                    }
                }
                ran.packets += 1 + ecmp.companions.len();
                taken.push(way);
            }
            ran.failures.extend(shares(step, &taken).iter().map(|line| format!("{label}: {line}")));
            ways.push(taken);
        }
        ran.failures.extend(moves(&ecmp.steps, &ways));
    }
    Ok(ran)
}

/// The next hop that a packet of this flow takes.
fn way_of(
    ecmp: &Ecmp,
    packet: &PacketText,
    flow: u32,
    hook: Hook,
    judge: &mut dyn Judge,
    by_mac: &BTreeMap<Way, &String>,
) -> Result<String> {
    let input = of_flow(packet, ecmp.vary, flow)?;
    let frame = judge.forward(hook, &input)?;
    let mac: Way = frame.get(..6).context("no frame")?.try_into()?;
    Ok(by_mac.get(&mac).map_or_else(|| "up to the kernel".to_owned(), |&name| name.clone()))
}

fn of_flow(packet: &PacketText, vary: Vary, flow: u32) -> Result<Input> {
    let mut input = packet.build()?;
    let ip = 14;
    let version = input.frame[ip] >> 4;
    let (addresses_end, header) = if version == 6 { (ip + 24, 40) } else { (ip + 16, 20) };
    match vary {
        Vary::SourceAddress => {
            input.frame[addresses_end - 3..addresses_end].copy_from_slice(&flow.to_be_bytes()[1..]);
        }
        Vary::SourcePort => {
            let port = 1024 + u16::try_from(flow)?;
            input.frame[ip + header..ip + header + 2].copy_from_slice(&port.to_be_bytes());
        }
    }
    Ok(input)
}

fn shares(step: &EcmpStep, taken: &[String]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = step.shares.keys().map(|name| (name.as_str(), 0)).collect();
    for name in taken {
        *counts.entry(name).or_default() += 1;
    }
    let wrong = |(name, count): (&str, usize)| {
        let part = count as f64 / taken.len() as f64;
        let expected = step.shares.get(name).copied().unwrap_or(0.0);
        let exact = expected == 0.0 || expected == 1.0;
        let fits = if exact { part == expected } else { (part - expected).abs() < TOLERANCE };
        (!fits).then(|| format!("{name} has {part:.4} of the flows, expected {expected:.4}"))
    };
    counts.into_iter().filter_map(wrong).collect()
}

/// Between any two steps a flow moves only if its next hop died, or to one that returned.
fn moves(steps: &[EcmpStep], ways: &[Vec<String>]) -> Vec<String> {
    let mut failures = Vec::new();
    for (before, from) in steps.iter().zip(ways) {
        for (after, to) in steps.iter().zip(ways) {
            let dead_before: BTreeSet<&String> = before.dead.iter().collect();
            let dead_after: BTreeSet<&String> = after.dead.iter().collect();
            let wrong = from.iter().zip(to).filter(|(from, to)| {
                let died = dead_after.contains(from);
                let returned = dead_before.contains(to);
                from != to && !died && !returned
            });
            let wrong = wrong.count();
            if wrong != 0 {
                failures.push(format!(
                    "{wrong} flows move between {:?} dead and {:?} dead without need",
                    before.dead, after.dead
                ));
            }
        }
    }
    failures
}
