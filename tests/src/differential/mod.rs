//! Random packets over random tables, the packet logic on the host against the programs in the
//! kernel: action, every byte and every counter must be the same.
//!
//! It must not know what the right answer is, only that there is one.

mod dump;
mod egress;
mod packets;
mod services;
mod tables;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
pub use fastrand::Rng;
use netroute_common::host::{Counted, HostTables};
use netroute_common::layout::egress::EgressCounter;
use netroute_common::layout::flow::{Flow, Fragment};
use netroute_common::layout::service::{Affinity, ServiceCounter};
use netroute_common::layout::stats::Counter;
use netroute_common::verdict::{Hook, Reason};

use crate::kernel_run::{FlowSet, KernelBench, is_invalid, more, more_of_policies};
use crate::vectors::{Action, Input, Judge, TableSet, counted_egress, counted_services, judge_on_host};

pub use dump::{as_vector, dump};
pub use egress::{random_egress, random_egress_input};
pub use packets::random_input;
pub use services::{random_service_input, random_services};
pub use tables::random_tables;

/// The kernel's side of the comparison.
pub trait Programs {
    /// Replaces all tables, those of flows by empty ones.
    fn install(&mut self, tables: &TableSet) -> Result<()>;
    fn test_run(&self, hook: Hook, input: &Input) -> Result<(Action, Vec<u8>)>;
    fn verdict(&self, hook: Hook, reason: Reason) -> Result<Counter>;
    fn counted(&self, hook: Hook) -> Result<Counted>;
    /// What was counted for Services.
    fn services(&self) -> Result<BTreeMap<u32, ServiceCounter>>;
    /// What was counted for egress policies.
    fn policies(&self) -> Result<BTreeMap<u32, EgressCounter>>;
    fn flows(&self) -> Result<FlowSet>;
}

impl Programs for KernelBench {
    fn install(&mut self, tables: &TableSet) -> Result<()> {
        Judge::install(self, tables)?;
        self.forget()
    }

    fn test_run(&self, hook: Hook, input: &Input) -> Result<(Action, Vec<u8>)> {
        Self::test_run(self, hook, input)
    }

    fn verdict(&self, hook: Hook, reason: Reason) -> Result<Counter> {
        Self::verdict(self, hook, reason)
    }

    fn counted(&self, hook: Hook) -> Result<Counted> {
        Self::counted(self, hook)
    }

    fn services(&self) -> Result<BTreeMap<u32, ServiceCounter>> {
        Self::services(self)
    }

    fn policies(&self) -> Result<BTreeMap<u32, EgressCounter>> {
        Self::policies(self)
    }

    fn flows(&self) -> Result<FlowSet> {
        Self::flows(self)
    }
}

/// How much to run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub seed: u64,
    pub packets: u32,
    /// After so many packets come other tables.
    pub per_tables: u32,
}

/// The seed of every run that asks for no other.
pub const DEFAULT_SEED: u64 = 0x6e65_7472_6f75_7465;

impl Settings {
    /// `packets` with the default seed, or with the one of `NETROUTE_SEED`.
    pub fn of_environment(packets: u32) -> Result<Self> {
        let seed = match std::env::var("NETROUTE_SEED") {
            Ok(text) => text.parse()?,
            Err(_) => DEFAULT_SEED,
        };
        Ok(Self { seed, packets, per_tables: 1000 })
    }
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Packets by hook, and whether they were said to be IPv6.
    pub packets: BTreeMap<(Hook, bool), u32>,
    pub reasons: BTreeMap<Reason, u32>,
    /// Frames that this kernel takes no test run of.
    pub refused: u32,
    pub tables: u32,
    /// Entries of flows, after the last packet of each of the tables.
    pub flows: usize,
    pub duration: Duration,
    /// The first difference, with a vector that shows it.
    pub difference: Option<String>,
}

/// Runs until all packets agree or one does not.
pub fn run(programs: &mut dyn Programs, settings: Settings) -> Result<Report> {
    let start = Instant::now();
    let mut rng = Rng::with_seed(settings.seed);
    let mut report = Report::default();
    let mut left = settings.packets;
    while left > 0 && report.difference.is_none() {
        let now = left.min(settings.per_tables);
        left -= now;
        report.tables += 1;
        let mut tables = random_tables(&mut rng);
        random_egress(&mut rng, &mut tables)?;
        random_services(&mut rng, &mut tables)?;
        programs.install(&tables)?;
        let mut round = Round::begin(programs, &tables)?;
        report.difference = round.run(&mut rng, now, &mut report)?;
    }
    report.duration = start.elapsed();
    if let Some(difference) = &mut report.difference {
        *difference = format!("seed {}: {difference}", settings.seed);
    }
    Ok(report)
}

/// The packets between two changes of the tables.
struct Round<'a> {
    programs: &'a mut dyn Programs,
    tables: &'a TableSet,
    host: HostTables,
    /// What the counters of the kernel must be.
    expected: [Counted; Hook::ALL.len()],
    services_before: BTreeMap<u32, ServiceCounter>,
    policies_before: BTreeMap<u32, EgressCounter>,
    /// Packets that left something behind.
    before: Vec<(Hook, Input)>,
}

impl<'a> Round<'a> {
    fn begin(programs: &'a mut dyn Programs, tables: &'a TableSet) -> Result<Self> {
        let mut expected = Hook::ALL.map(|_| Counted::default());
        for (hook, expected) in Hook::ALL.into_iter().zip(&mut expected) {
            *expected = programs.counted(hook)?;
        }
        let services_before = programs.services()?;
        let policies_before = programs.policies()?;
        let (host, before) = (tables.on_host(), Vec::new());
        Ok(Self { programs, tables, host, expected, services_before, policies_before, before })
    }

    fn run(&mut self, rng: &mut Rng, packets: u32, report: &mut Report) -> Result<Option<String>> {
        for _ in 0..packets {
            let place = rng.usize(..Hook::ALL.len());
            let hook = Hook::ALL[place];
            let input = match rng.u8(..3) {
                0 => random_input(rng, self.tables, hook),
                1 => random_service_input(rng, self.tables, &self.host)?,
                _ => random_egress_input(rng, self.tables, &self.host, hook)?,
            };
            let counted = (counted_services(&self.host), counted_egress(&self.host));
            if let Some(difference) = self.one(place, &input, report)? {
                let vector = dump(self.tables, &self.before, hook, &input)?;
                return Ok(Some(format!("{difference}\n{vector}")));
            }
            if counted != (counted_services(&self.host), counted_egress(&self.host)) {
                self.before.push((hook, input));
            }
        }
        Ok(match self.counters()? {
            None => self.left_behind(report)?,
            difference => difference,
        })
    }

    fn one(&mut self, place: usize, input: &Input, report: &mut Report) -> Result<Option<String>> {
        let hook = Hook::ALL[place];
        let (action, frame) = match self.programs.test_run(hook, input) {
            Ok(ran) => ran,
            Err(error) if is_invalid(&error) && is_short(hook, input) => {
                report.refused += 1;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let (verdict, on_host) = judge_on_host(&self.host, hook, input);
        let reason = verdict.reason();
        let is_v6 = input.frame.get(12..14) == Some(&[0x86, 0xdd]);
        *report.packets.entry((hook, is_v6)).or_default() += 1;
        *report.reasons.entry(reason).or_default() += 1;
        if action != Action::of(verdict, hook) {
            return Ok(Some(format!("action at {}: host {verdict:?}, kernel {action:?}", hook.name())));
        }
        if frame != on_host {
            return Ok(Some(format!("frame at {} ({}): host and kernel differ", hook.name(), reason.name())));
        }
        let expected = self.expected[place].verdicts.entry(reason).or_default();
        expected.packets += 1;
        expected.bytes += u64::try_from(input.frame.len())?;
        let counter = self.programs.verdict(hook, reason)?;
        let same = counter == *expected;
        Ok((!same).then(|| {
            format!("reason at {}: host {}, which the kernel did not count", hook.name(), reason.name())
        }))
    }

    /// All counters, after all packets.
    fn counters(&mut self) -> Result<Option<String>> {
        let forwarded = self.host.counted();
        for expected in &mut self.expected {
            add(&mut expected.routes, &forwarded.routes);
            add(&mut expected.next_hops, &forwarded.next_hops);
        }
        for (hook, expected) in Hook::ALL.into_iter().zip(&self.expected) {
            let counted = self.programs.counted(hook)?;
            if counted != *expected {
                return Ok(Some(format!(
                    "counters at {}: host {expected:?}, kernel {counted:?}",
                    hook.name()
                )));
            }
        }
        Ok(None)
    }

    /// Flows, affinity, first fragments and the counters of Services, after all packets.
    fn left_behind(&mut self, report: &mut Report) -> Result<Option<String>> {
        let on_host = FlowSet {
            flows4: self.host.services.flows4.borrow().clone(),
            flows6: self.host.services.flows6.borrow().clone(),
            affinity: self.host.services.affinity.borrow().clone(),
            fragments: self.host.services.fragments.borrow().clone(),
        };
        report.flows += on_host.flows4.len() + on_host.flows6.len();
        let in_kernel = timeless(&self.programs.flows()?);
        let on_host = timeless(&on_host);
        if in_kernel != on_host {
            return Ok(Some(format!("flows: host {on_host:#?}, kernel {in_kernel:#?}")));
        }
        let on_host = counted_services(&self.host);
        let in_kernel = more(&self.programs.services()?, &self.services_before);
        if in_kernel != on_host {
            return Ok(Some(format!("Services: host {on_host:?}, kernel {in_kernel:?}")));
        }
        let untimed = |counted: BTreeMap<u32, EgressCounter>| -> BTreeMap<u32, EgressCounter> {
            let counters = counted.into_iter();
            counters.map(|(policy, counter)| (policy, EgressCounter { last_hit: 0, ..counter })).collect()
        };
        let on_host = untimed(counted_egress(&self.host));
        let in_kernel = untimed(more_of_policies(&self.programs.policies()?, &self.policies_before));
        let same = in_kernel == on_host;
        Ok((!same).then(|| format!("policies: host {on_host:?}, kernel {in_kernel:?}")))
    }
}

/// All but the times, of which there is one for each side.
fn timeless(flows: &FlowSet) -> FlowSet {
    let mut flows = flows.clone();
    let entries = flows.flows4.values_mut().chain(flows.flows6.values_mut());
    entries.for_each(|flow| *flow = Flow { seen: 0, touched: 0, ..*flow });
    flows.affinity.values_mut().for_each(|entry| *entry = Affinity { used: 0, ..*entry });
    flows.fragments.values_mut().for_each(|first| *first = Fragment { seen: 0, ..*first });
    flows
}

fn add(sum: &mut BTreeMap<u32, Counter>, more: &BTreeMap<u32, Counter>) {
    for (&slot, more) in more {
        let counter = sum.entry(slot).or_default();
        counter.packets += more.packets;
        counter.bytes += more.bytes;
    }
}

/// Frames that end within the IP header, which some kernels take no TC test run of.
fn is_short(hook: Hook, input: &Input) -> bool {
    hook != Hook::XdpNic && input.frame.len() < 54
}

impl Report {
    /// That the run was one: every hook and family, and every reason that a packet can bring about.
    pub fn ensure_wide(&self) -> Result<()> {
        for hook in Hook::ALL {
            for is_v6 in [false, true] {
                let count = self.packets.get(&(hook, is_v6)).copied().unwrap_or(0);
                let total: u32 = self.packets.values().sum();
                ensure!(
                    count > total / 20,
                    "only {count} of {total} packets at {} (v6: {is_v6})",
                    hook.name()
                );
            }
        }
        // Those behind it have no program yet that could say them.
        let unreachable = [Reason::RedirectFailed];
        let reachable = |reason: &&Reason| **reason < Reason::EgressDenied && !unreachable.contains(reason);
        let missing: Vec<_> = Reason::ALL
            .iter()
            .filter(|reason| reachable(reason) && !self.reasons.contains_key(reason))
            .collect();
        ensure!(missing.is_empty(), "no packet came to {missing:?}");
        Ok(())
    }
}
