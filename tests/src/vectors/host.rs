//! Vectors on the host: the pipeline over a packet and tables in memory.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use netroute_common::host::{HostPacket, HostServices, HostTables};
use netroute_common::layout::egress::EgressCounter;
use netroute_common::layout::service::ServiceCounter;
use netroute_common::packet::HEADERS;
use netroute_common::pipeline::{Arrival, run};
use netroute_common::verdict::{Hook, Verdict};
use netroute_common::wire::eth::ETH_LEN;

use super::check::{Input, Judge};
use super::outcome::{Action, Outcome};
use super::rewrite::sum;
use super::tables::TableSet;

/// The packet logic as a library.
pub struct Host {
    tables: TableSet,
    /// Flows and the clock, from packet to packet.
    kept: HostServices,
}

/// Of a machine that has run for a while: a time that was noted is not 0.
const START: u64 = 1_000_000_000_000;

impl Default for Host {
    fn default() -> Self {
        Self { tables: TableSet::default(), kept: nothing_kept() }
    }
}

fn nothing_kept() -> HostServices {
    let kept = HostServices::default();
    kept.now.set(START);
    kept
}

impl Host {
    /// One packet over the flows of those before it.
    fn judge(&mut self, hook: Hook, input: &Input) -> (Verdict, HostPacket, HostTables) {
        let mut tables = self.tables.on_host();
        carry_on(&self.kept, &mut tables.services);
        let (verdict, packet) = run_packet(&tables, hook, input);
        carry_on(&tables.services, &mut self.kept);
        (verdict, packet, tables)
    }
}

impl Judge for Host {
    fn install(&mut self, tables: &TableSet) -> Result<()> {
        self.tables = tables.clone();
        Ok(())
    }

    fn forget(&mut self) -> Result<()> {
        self.kept = nothing_kept();
        Ok(())
    }

    fn wait(&mut self, seconds: u64) -> Result<Option<&'static str>> {
        let now = self.kept.now.get();
        self.kept.now.set(now + seconds * 1_000_000_000);
        Ok(None)
    }

    fn run(&mut self, hook: Hook, input: &Input) -> Result<Outcome> {
        let (verdict, packet, tables) = self.judge(hook, input);
        if hook != Hook::XdpNic && !matches!(verdict, Verdict::Answer(_)) {
            ensure_told(&packet, input)?;
        }
        let frame = packet.frame().to_vec();
        let exit = match verdict {
            Verdict::Forward(exit) => Some(exit),
            Verdict::Pass(_) | Verdict::Answer(_) | Verdict::Drop(_) => None,
        };
        let action = Action::of(verdict, hook);
        let (counted, services, egress) =
            (tables.counted(), counted_services(&tables), counted_egress(&tables));
        Ok(Outcome { action, frame, counted, services, egress, exit })
    }

    fn forward(&mut self, hook: Hook, input: &Input) -> Result<Vec<u8>> {
        Ok(self.judge(hook, input).1.frame().to_vec())
    }

    fn refuses(&self, _hook: Hook, _input: &Input) -> Option<&'static str> {
        None
    }
}

/// That the stack was told of all by which the sum over an IPv6 packet changed: a checksum that the device
/// made over it (`CHECKSUM_COMPLETE`) is right afterwards. Over IPv4 that is the kernel's own account.
fn ensure_told(packet: &HostPacket, input: &Input) -> Result<()> {
    if !has_sums(&input.frame) {
        return Ok(());
    }
    let words = packet.word_changes().iter().map(|change| u32::from(!change.old) + u32::from(change.new));
    let sums = packet.words_changes().iter().map(|change| u32::from(change.fold()));
    let told: u32 = words.chain(sums).sum();
    let sum = |frame: &[u8]| frame.get(ETH_LEN..).map_or(0, sum);
    let (before, after) = (sum(&input.frame), sum(packet.frame()));
    ensure!(
        (before + told) % 0xffff == after,
        "the stack was told of {told:#x}, from {before:#x} to {after:#x}"
    );
    Ok(())
}

/// IPv6, and not UDP without a checksum, which nothing makes up for.
fn has_sums(frame: &[u8]) -> bool {
    let udp = frame.get(20) == Some(&17);
    frame.get(12..14) == Some(&[0x86, 0xdd]) && !(udp && frame.get(60..62) == Some(&[0, 0]))
}

/// What packets leave behind for those after them.
fn carry_on(from: &HostServices, to: &mut HostServices) {
    to.now.set(from.now.get());
    to.affinity = from.affinity.clone();
    to.flows4 = from.flows4.clone();
    to.flows6 = from.flows6.clone();
    to.fragments = from.fragments.clone();
}

/// `SERVICE_STATS` as the host counted it, without the slots that are zero.
pub fn counted_services(tables: &HostTables) -> BTreeMap<u32, ServiceCounter> {
    let counted = tables.services.counted.borrow();
    let all = counted.iter().map(|(&service, &counter)| (service, counter));
    all.filter(|(_, counter)| *counter != ServiceCounter::default()).collect()
}

/// `EGRESS_STATS` likewise; of a time whether it is there.
pub fn counted_egress(tables: &HostTables) -> BTreeMap<u32, EgressCounter> {
    let counted = tables.egress.counted.borrow();
    let timeless = counted.iter().map(|(&policy, &counter)| (policy, timeless(counter)));
    timeless
        .filter(|(_, counter)| EgressCounter { last_hit: 0, ..*counter } != EgressCounter::default())
        .collect()
}

pub fn timeless(counter: EgressCounter) -> EgressCounter {
    EgressCounter { last_hit: u64::from(counter.last_hit != 0), ..counter }
}

/// One packet through the pipeline: the verdict, and the frame as it is then.
pub fn judge(tables: &HostTables, hook: Hook, input: &Input) -> (Verdict, Vec<u8>) {
    let (verdict, packet) = run_packet(tables, hook, input);
    (verdict, packet.frame().to_vec())
}

impl Input {
    /// As a hook meets it.
    pub fn packet(&self, hook: Hook) -> HostPacket {
        let mut packet = HostPacket::new(&self.frame, self.interface.mac);
        if hook != Hook::XdpNic {
            packet = packet.with_linear(HEADERS);
            if let Some(segment) = self.segment {
                packet = packet.with_segment(segment);
            }
            if self.nic_vlan_tag {
                packet = packet.with_vlan_tag();
            }
        }
        packet
    }
}

fn run_packet(tables: &HostTables, hook: Hook, input: &Input) -> (Verdict, HostPacket) {
    let mut packet = input.packet(hook);
    let verdict = run(&mut packet, tables, Arrival { hook, ifindex: input.interface.index });
    (verdict, packet)
}
