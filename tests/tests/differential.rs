//! Host against kernel, on random packets and tables; and that a difference would be seen.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use fastrand::Rng;
use netroute_common::host::Counted;
use netroute_common::layout::egress::EgressCounter;
use netroute_common::layout::service::ServiceCounter;
use netroute_common::layout::stats::Counter;
use netroute_common::pipeline::Arrival;
use netroute_common::verdict::{Hook, Reason};
use netroute_tests::differential::{
    DEFAULT_SEED, Programs, Settings, as_vector, dump, random_egress, random_egress_input, random_input,
    random_service_input, random_services, random_tables, run,
};
use netroute_tests::kernel_run::{FlowSet, KernelBench, Unable};
use netroute_tests::patience::patient;
use netroute_tests::vectors::{Action, Host, Input, TableSet, Vector, judge_on_host, run_cases};
use netroute_user::explain::{LiveMaps, LiveTables};

/// Packets that are explained: each takes some dozen system calls.
const EXPLAINED: u32 = 120_000;

/// No packet, however broken, is judged otherwise in the kernel.
#[test]
fn r12_n11_host_and_kernel_agree_on_random_packets() -> Result<()> {
    let Some(mut bench) = bench("the differential test")? else { return Ok(()) };
    let packets = match std::env::var("NETROUTE_PACKETS") {
        Ok(text) => text.parse()?,
        Err(_) => 240_000,
    };
    let settings = Settings::of_environment(packets)?;
    let report = run(&mut bench, settings)?;
    println!("seed {}: {report:#?}", settings.seed);
    if let Some(difference) = report.difference {
        panic!("save what follows as a vector:\n{difference}");
    }
    report.ensure_wide()?;
    let ran: u32 = report.packets.values().sum();
    assert!(ran + report.refused == packets && ran > packets / 100 * 90, "{ran} of {packets} packets ran");
    assert!(report.duration < patient(Duration::from_secs(60)), "took {:?}", report.duration);
    let forwarded = report.reasons.get(&Reason::Forwarded).copied().unwrap_or(0);
    println!(
        "MEASURED host and kernel agree on {ran} random packets, {forwarded} of them forwarded, over {} tables \
         in {:.1} s (seed {})",
        report.tables,
        report.duration.as_secs_f64(),
        settings.seed
    );
    Ok(())
}

/// What `netroute explain` says of a packet is what the kernel does with it next: the same verdict, the same frame.
/// And that explaining changes nothing the comparison of flows and counters with the host's would show.
#[test]
fn explaining_and_kernel_agree_on_random_packets() -> Result<()> {
    let Some(bench) = bench("explaining against the kernel")? else { return Ok(()) };
    let mut programs = Explained::over(bench)?;
    let settings = Settings::of_environment(EXPLAINED)?;
    let report = run(&mut programs, settings)?;
    if let Some(difference) = report.difference {
        panic!("save what follows as a vector:\n{difference}");
    }
    let ran: u32 = report.packets.values().sum();
    assert!(programs.frames.get() == ran && ran > EXPLAINED / 100 * 90, "{ran} packets ran");
    println!("MEASURED explaining and kernel agree on {ran} random packets (seed {})", settings.seed);
    Ok(())
}

/// Negative control: were the kernel's answer another one, that would be told.
#[test]
fn another_answer_than_explained_is_reported() -> Result<()> {
    let Some(bench) = bench("the negative control of explaining")? else { return Ok(()) };
    let mut programs = Explained::over(bench)?;
    let settings = Settings { seed: DEFAULT_SEED, packets: 3000, per_tables: 500 };
    for (how, what) in [
        (Tampering::LastByte, "another frame than explained"),
        (Tampering::Ttl, "another frame than explained"),
        (Tampering::Action, "explained Redirect, done Reflect"),
    ] {
        programs.kernel.how = how;
        let error = run(&mut programs, settings).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(what), "{how:?} is not reported as `{what}`: {error}");
    }
    Ok(())
}

/// The kernel, with each packet explained over its maps first.
struct Explained {
    kernel: Tampered,
    maps: LiveMaps,
    /// Packets that were compared.
    frames: Cell<u32>,
}

impl Explained {
    fn over(bench: KernelBench) -> Result<Self> {
        let maps = LiveMaps::from_maps(|name| Ok(bench.map(name).expect("a map of the object")))?;
        let kernel = Tampered { bench, how: Tampering::Nothing };
        Ok(Self { kernel, maps, frames: Cell::new(0) })
    }
}

impl Programs for Explained {
    fn install(&mut self, tables: &TableSet) -> Result<()> {
        self.kernel.install(tables)
    }

    fn test_run(&self, hook: Hook, input: &Input) -> Result<(Action, Vec<u8>)> {
        let tables = LiveTables::new(&self.maps);
        let mut packet = input.packet(hook);
        let arrival = Arrival { hook, ifindex: input.interface.index };
        let explained = tables.judge(&mut packet, arrival)?;
        let (action, frame) = self.kernel.test_run(hook, input)?;
        let reason = explained.verdict.reason().name();
        let said = Action::of(explained.verdict, hook);
        ensure!(said == action, "{} ({reason}): explained {said:?}, done {action:?}", hook.name());
        ensure!(explained.frame == frame, "{} ({reason}): another frame than explained", hook.name());
        self.frames.set(self.frames.get() + 1);
        Ok((action, frame))
    }

    fn verdict(&self, hook: Hook, reason: Reason) -> Result<Counter> {
        self.kernel.verdict(hook, reason)
    }

    fn counted(&self, hook: Hook) -> Result<Counted> {
        self.kernel.counted(hook)
    }

    fn services(&self) -> Result<BTreeMap<u32, ServiceCounter>> {
        self.kernel.services()
    }

    fn policies(&self) -> Result<BTreeMap<u32, EgressCounter>> {
        self.kernel.policies()
    }

    fn flows(&self) -> Result<FlowSet> {
        self.kernel.flows()
    }
}

/// Negative control: each of these one-sided changes must be reported.
#[test]
fn a_difference_is_reported() -> Result<()> {
    let Some(bench) = bench("the negative control")? else { return Ok(()) };
    let mut programs = Tampered { bench, how: Tampering::Nothing };
    let settings = Settings { seed: DEFAULT_SEED, packets: 3000, per_tables: 500 };
    let report = run(&mut programs, settings)?;
    assert_eq!(report.difference, None, "without tampering there is none");
    for (how, what) in [
        (Tampering::LastByte, "frame at"),
        (Tampering::Ttl, "frame at"),
        (Tampering::Action, "action at"),
        (Tampering::NextHopMac, "frame at"),
        (Tampering::NextHopDead, " at "),
        (Tampering::RouteLost, " at "),
        (Tampering::VerdictLost, "reason at"),
        (Tampering::RouteCounter, "counters at"),
        (Tampering::ServiceCounter, "Services: "),
        (Tampering::PolicyCounter, "policies: "),
        (Tampering::FlowLost, "flows: "),
        (Tampering::FragmentLost, "flows: "),
    ] {
        programs.how = how;
        let report = run(&mut programs, settings)?;
        let difference = report.difference.unwrap_or_default();
        assert!(difference.contains(what), "{how:?} is not reported as `{what}`: {difference}");
    }
    Ok(())
}

/// What a failing run prints can be saved as a vector: it holds the same packet and tables.
#[test]
fn a_dump_is_a_vector() -> Result<()> {
    let mut rng = Rng::with_seed(1);
    for _ in 0..300 {
        let mut tables = random_tables(&mut rng);
        random_egress(&mut rng, &mut tables)?;
        random_services(&mut rng, &mut tables)?;
        let host = tables.on_host();
        let mut before = Vec::new();
        for hook in Hook::ALL.into_iter().chain(Hook::ALL) {
            let input = if before.len() < 2 {
                random_service_input(&mut rng, &tables, &host)?
            } else if before.len() < 5 {
                random_egress_input(&mut rng, &tables, &host, hook)?
            } else {
                random_input(&mut rng, &tables, hook)
            };
            let text = dump(&tables, &before, hook, &input)?;
            let vector: Vector = toml::from_str(&text)?;
            let again = vector.tables.compile()?;
            assert_eq!((&again.routes, &again.groups), (&tables.routes, &tables.groups));
            assert_eq!((&again.next_hops, &again.ports), (&tables.next_hops, &tables.ports));
            assert_eq!(again.services, tables.services);
            assert_eq!(again.egress, tables.egress);
            let last = vector.stories.iter().flat_map(|story| &story.steps).last();
            let packet = last.map_or_else(|| &vector.cases[0].packet, |step| step.packet.as_ref().unwrap());
            assert_eq!(packet.build()?, input);
            let ran = run_cases(&vector, &mut Host::default(), false)?;
            assert!(ran.failures.is_empty(), "{}\n{text}", ran.failures.join("\n"));
            assert_eq!(toml::to_string(&as_vector(&tables, &before, hook, &input)?)?, text);
            let _ = judge_on_host(&host, hook, &input);
            before.push((hook, input));
        }
    }
    Ok(())
}

fn bench(what: &str) -> Result<Option<KernelBench>> {
    match KernelBench::load()? {
        Ok(bench) => Ok(Some(bench)),
        Err(Unable(reason)) => {
            println!("SKIPPED: {what}: {reason}");
            Ok(None)
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tampering {
    Nothing,
    LastByte,
    Ttl,
    Action,
    NextHopMac,
    NextHopDead,
    RouteLost,
    VerdictLost,
    RouteCounter,
    ServiceCounter,
    PolicyCounter,
    FlowLost,
    FragmentLost,
}

/// The kernel, with one thing about it changed behind the comparison's back.
struct Tampered {
    bench: KernelBench,
    how: Tampering,
}

impl Programs for Tampered {
    fn install(&mut self, tables: &TableSet) -> Result<()> {
        let mut tables = tables.clone();
        match self.how {
            Tampering::NextHopMac => {
                for next_hop in tables.next_hops.values_mut() {
                    next_hop.destination_mac[5] ^= 1;
                    if next_hop.destination_mac == [0; 6] {
                        next_hop.destination_mac[5] = 2;
                    }
                }
            }
            Tampering::NextHopDead => {
                tables.next_hops.values_mut().for_each(|next_hop| next_hop.alive = 0);
            }
            Tampering::RouteLost => drop(tables.routes.pop_last()),
            _ => {}
        }
        Programs::install(&mut self.bench, &tables)
    }

    fn test_run(&self, hook: Hook, input: &Input) -> Result<(Action, Vec<u8>)> {
        let (mut action, mut frame) = self.bench.test_run(hook, input)?;
        match self.how {
            Tampering::LastByte => *frame.last_mut().unwrap_or(&mut 0) ^= 0x80,
            Tampering::Ttl if action != Action::Pass => frame[22] ^= 1,
            Tampering::Action if action == Action::Redirect => action = Action::Reflect,
            _ => {}
        }
        Ok((action, frame))
    }

    fn verdict(&self, hook: Hook, reason: Reason) -> Result<Counter> {
        let counter = self.bench.verdict(hook, reason)?;
        let lost = u64::from(self.how == Tampering::VerdictLost && reason == Reason::MartianSource);
        Ok(Counter { packets: counter.packets.wrapping_sub(lost), ..counter })
    }

    fn counted(&self, hook: Hook) -> Result<Counted> {
        let mut counted = self.bench.counted(hook)?;
        if self.how == Tampering::RouteCounter
            && let Some(counter) = counted.routes.values_mut().next()
        {
            // Differs each time it is read.
            counter.bytes = counter.bytes.wrapping_mul(2).wrapping_add(1);
        }
        Ok(counted)
    }

    fn services(&self) -> Result<BTreeMap<u32, ServiceCounter>> {
        let mut services = self.bench.services()?;
        if self.how == Tampering::ServiceCounter {
            services.values_mut().for_each(|counter| counter.packets *= 2);
        }
        Ok(services)
    }

    fn policies(&self) -> Result<BTreeMap<u32, EgressCounter>> {
        let mut policies = self.bench.policies()?;
        if self.how == Tampering::PolicyCounter {
            policies.values_mut().for_each(|counter| counter.packets *= 2);
        }
        Ok(policies)
    }

    fn flows(&self) -> Result<FlowSet> {
        let mut flows = self.bench.flows()?;
        match self.how {
            Tampering::FlowLost => drop(flows.flows4.pop_last()),
            Tampering::FragmentLost => drop(flows.fragments.pop_last()),
            _ => {}
        }
        Ok(flows)
    }
}
