//! Packets one after the other, over the flows that those before them left behind.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::check::{Input, Judge, Ran};
use super::egress::EgressChange;
use super::outcome::Outcome;
use super::packet::arrow;
use super::rewrite::sides;
use super::sender::sent;
use super::services::ServicesText;
use super::tables::{TableSet, TablesText};
use super::{Expect, HookText, PacketText, Vector};

/// Told once for each hook of its vector, from no flows on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Story {
    pub name: String,
    /// Instead of the vector's hooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Vec<HookText>>,
    /// Why the kernel cannot be asked; the story runs on the host alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_only: Option<String>,
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// What happens next, in the order of the fields.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Step {
    pub name: String,
    /// Seconds pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Backends and front ends that are otherwise from now on, by their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<ServicesText>,
    /// Likewise of egress policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<EgressChange>,
    /// Next hops that are dead from now on; the others live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead: Option<Vec<String>>,
    /// Where the packet comes in, if not where the story is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookText>,
    /// A port `$name` is the one that an earlier step gave the name to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<PacketText>,
    /// A port `$name` without a meaning yet gets that of the packet: another one than it came with, of
    /// `ports`. `$any` keeps no meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// From the first to the last; the well-known ones are none of them if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<[u16; 2]>,
    /// What an address `$name` of the source may be that has no meaning yet: it gets that of the packet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// So many packets instead of one, each of a port that is one more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u16>,
    /// Which port that is: the source's if it is not said.
    pub vary_destination: bool,
}

const HIGH_PORTS: RangeInclusive<u16> = 1024..=u16::MAX;
const ANY: &str = "any";

/// A story while it is told.
struct Telling {
    text: TablesText,
    tables: TableSet,
    ports: BTreeMap<String, u16>,
    addresses: BTreeMap<String, IpAddr>,
}

/// Tells a story before a judge.
pub(super) fn run_story(vector: &Vector, story: &Story, judge: &mut dyn Judge, ran: &mut Ran) -> Result<()> {
    for &hook in story.hooks.as_ref().unwrap_or(&vector.hooks) {
        let mut telling = Telling {
            text: vector.tables.clone(),
            tables: vector.tables.compile()?,
            ports: BTreeMap::new(),
            addresses: BTreeMap::new(),
        };
        judge.install(&telling.tables)?;
        judge.forget()?;
        for (number, step) in (1..).zip(&story.steps) {
            let label = format!("{} at {}, {number}. {}", story.name, hook.hook().name(), step.name);
            let told = telling.step(step, step.hook.unwrap_or(hook), &label, judge, ran);
            if let Some(reason) = told.context(label.clone())? {
                ran.skipped.push(format!("{label}, and what follows: {reason}"));
                break;
            }
        }
        judge.install(&vector.tables.compile()?)?;
    }
    Ok(())
}

impl Telling {
    /// Why the judge cannot be told the rest, if it cannot.
    fn step(
        &mut self,
        step: &Step,
        hook: HookText,
        label: &str,
        judge: &mut dyn Judge,
        ran: &mut Ran,
    ) -> Result<Option<&'static str>> {
        if let Some(seconds) = step.after
            && let Some(reason) = judge.wait(seconds)?
        {
            return Ok(Some(reason));
        }
        self.change(step, judge)?;
        let Some(packet) = &step.packet else {
            ensure!(step.expect.is_none(), "`expect` without `packet`");
            return Ok(None);
        };
        let expect = step.expect.as_ref().context("`packet` without `expect`")?;
        for time in 0..step.times.unwrap_or(1) {
            let packet = self.packet(packet, time, step.vary_destination)?;
            let input = sent(&packet, hook.hook(), &self.tables)?;
            if let Some(reason) = judge.refuses(hook.hook(), &input) {
                return Ok(Some(reason));
            }
            let came = judge.run(hook.hook(), &input)?;
            let expect = self.expect(step, expect, &input, &came)?;
            let expected = expect.outcome(&self.tables, hook.hook(), &input)?;
            ran.packets += 1;
            let label = if time == 0 { label.to_owned() } else { format!("{label}, time {time}") };
            ran.failures.extend(expected.differences(&came).iter().map(|line| format!("{label}: {line}")));
        }
        Ok(None)
    }

    /// Tables that are otherwise from this step on.
    fn change(&mut self, step: &Step, judge: &mut dyn Judge) -> Result<()> {
        if let Some(changes) = &step.change {
            self.text.services = self.text.services.changed(changes)?;
        }
        if let Some(change) = &step.egress {
            self.text.egress.change(change)?;
        }
        if let Some(dead) = &step.dead {
            for (name, next_hop) in &mut self.text.next_hops {
                next_hop.alive = !dead.contains(name);
            }
        }
        if step.change.is_some() || step.egress.is_some() || step.dead.is_some() {
            self.tables = self.text.compile()?;
            judge.install(&self.tables)?;
        }
        Ok(())
    }

    fn packet(&self, text: &PacketText, more: u16, vary_destination: bool) -> Result<PacketText> {
        let mut packet = text.clone();
        for (name, address) in &self.addresses {
            packet.ip = packet.ip.map(|ip| ip.replace(&format!("${name}"), &address.to_string()));
        }
        for ports in [&mut packet.tcp, &mut packet.udp, &mut packet.sctp] {
            let Some(text) = ports.as_deref() else { continue };
            let (from, to) = arrow(text)?;
            let (mut from, mut to) = (self.port(from)?, self.port(to)?);
            let varied = if vary_destination { &mut to } else { &mut from };
            *varied += more;
            *ports = Some(format!("{from} -> {to}"));
        }
        if let Some((kind, identifier)) = packet.echo.as_deref().and_then(|text| text.split_once(' ')) {
            packet.echo = Some(format!("{kind} {}", self.port(identifier)? + more));
        }
        if let Some(quote) = packet.icmp_message.as_mut().and_then(|message| message.quote.as_mut()) {
            **quote = self.packet(quote, 0, false)?;
        }
        Ok(packet)
    }

    fn port(&self, text: &str) -> Result<u16> {
        match text.strip_prefix('$') {
            Some(name) => self.ports.get(name).copied().with_context(|| format!("no port `{text}` yet")),
            None => Ok(text.parse()?),
        }
    }

    /// With a number for each named port.
    fn expect(&mut self, step: &Step, text: &Expect, input: &Input, came: &Outcome) -> Result<Expect> {
        let mut expect = text.clone();
        let named = text.source.as_deref().and_then(|source| source.strip_prefix('$')?.rsplit_once(':'));
        if let Some((name, port)) = named {
            let address = self.name_address(name, step, came)?;
            expect.source = Some(SocketAddr::new(address, self.port(port)?).to_string());
        }
        for (side, is_source) in [(&mut expect.source, true), (&mut expect.destination, false)] {
            let Some((address, name)) = side.as_deref().and_then(|text| text.split_once(":$")) else {
                continue;
            };
            let port = match self.ports.get(name) {
                Some(&port) => port,
                None => {
                    let (old, new) = (sides(&input.frame)?, sides(&came.frame)?);
                    let (old, new) = if is_source { (old.0, new.0) } else { (old.1, new.1) };
                    self.name_port(name, step, old.port, new.port)
                }
            };
            *side = Some(SocketAddr::new(address.parse()?, port).to_string());
        }
        if let Some(quoted) = &mut expect.quoted {
            let (source, destination) = arrow(quoted)?;
            *quoted = format!("{} -> {}", self.named(source)?, self.named(destination)?);
        }
        Ok(expect)
    }

    /// The address as it came if it may be that, else one that did not come.
    fn name_address(&mut self, name: &str, step: &Step, came: &Outcome) -> Result<IpAddr> {
        if let Some(&known) = self.addresses.get(name) {
            return Ok(known);
        }
        let (new, _) = sides(&came.frame)?;
        if !step.addresses.contains(&new.address) {
            return step.addresses.first().copied().with_context(|| format!("`${name}` of no `addresses`"));
        }
        self.addresses.insert(name.to_owned(), new.address);
        Ok(new.address)
    }

    /// An `address:port` whose port may be one that has a name.
    fn named(&self, text: &str) -> Result<String> {
        let Some((address, _)) = text.split_once(":$") else { return Ok(text.to_owned()) };
        let port = self.port(&text[address.len() + 1..])?;
        Ok(SocketAddr::new(address.parse()?, port).to_string())
    }

    /// The port as it came if it may be that, else one that did not come.
    fn name_port(&mut self, name: &str, step: &Step, old: u16, new: u16) -> u16 {
        let allowed = step.ports.map_or(HIGH_PORTS, |[first, last]| first..=last);
        if new == old || !allowed.contains(&new) {
            return new ^ 1;
        }
        if name != ANY {
            self.ports.insert(name.to_owned(), new);
        }
        new
    }
}
