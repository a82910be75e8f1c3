//! Section `test-run`: every program and path alone, without drivers and network stack.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::xdp::DevMap;
use netroute_common::verdict::{Hook, Reason};
use netroute_user::apply::apply;
use netroute_user::compile::image::Image;
use netroute_user::load::testrun::TestBed;
use netroute_user::plan::diff;

use crate::egress;
use crate::fib;
use crate::packet;
use crate::probe::{self, Flows, Kind, Probe, Sample};
use crate::sample::{Outcome, Row, Section, Unit, median, quick};
use crate::service_flows::{self, ServiceFlows};
use crate::stage::{Stage, Way};
use crate::tables;

pub const SECTION: Section = Section { name: "test-run", run };

const ROUNDS: usize = 41;
const SAMPLE: Duration = Duration::from_millis(2);
const SIZES: [(usize, &str); 4] = [(1, "1"), (10, "10"), (1_000, "1k"), (100_000, "100k")];

/// One thing to measure.
struct Planned {
    id: String,
    title: String,
    probe: Probe,
    /// The rows whose difference, what making packets new costs, is to be subtracted.
    restored_by: Option<Restore>,
}

/// A program that makes packets new in front of one that returns at once, and the latter alone.
#[derive(Clone, Copy)]
struct Restore {
    id: &'static str,
    floor: &'static str,
}

const XDP4: Restore = Restore { id: "restore.xdp4", floor: "floor.xdp-return" };
const XDP6: Restore = Restore { id: "restore.xdp6", floor: "floor.xdp-return" };
const TC4: Restore = Restore { id: "restore.tc4", floor: "floor.tc-return" };
const TC6: Restore = Restore { id: "restore.tc6", floor: "floor.tc-return" };
const FLOW4_XDP: Restore = Restore { id: "restore.flow4.xdp", floor: "floor.xdp-return" };
const FLOW4_TC: Restore = Restore { id: "restore.flow4.tc", floor: "floor.tc-return" };
const FLOW6_XDP: Restore = Restore { id: "restore.flow6.xdp", floor: "floor.xdp-return" };

fn run(object: &Path) -> Result<Vec<Row>> {
    // In a thread of its own: it moves into another namespace.
    let rows = std::thread::scope(|scope| scope.spawn(|| measure(object)).join());
    rows.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn measure(object: &Path) -> Result<Vec<Row>> {
    let stage = Stage::build()?;
    let mut plan = Plan { stage, object, rows: Vec::new() };
    plan.floors()?;
    plan.routes()?;
    plan.ways()?;
    plan.passes()?;
    plan.services()?;
    plan.policies()?;
    plan.fib()?;
    let Plan { rows: planned, .. } = plan;
    let (names, probes): (Vec<_>, Vec<_>) = planned
        .into_iter()
        .map(|planned| ((planned.id, planned.title, planned.restored_by), planned.probe))
        .unzip();
    let samples = probe::interleaved(&probes, if quick() { 3 } else { ROUNDS }, SAMPLE)?;
    let median_of = |id: &str| -> Result<f64> {
        let index = names.iter().position(|(name, ..)| name == id);
        Ok(median(&samples[index.with_context(|| format!("no row {id}"))?]))
    };
    let mut rows = Vec::new();
    for ((id, title, restored_by), samples) in names.iter().zip(&samples) {
        let cost = match restored_by {
            Some(Restore { id, floor }) => median_of(id)? - median_of(floor)?,
            None => 0.0,
        };
        rows.push(Row {
            id: id.clone(),
            title: title.clone(),
            unit: Unit::NanosecondsPerPacket,
            outcome: Outcome::Measured(samples.iter().map(|sample| sample - cost).collect()),
        });
    }
    Ok(rows)
}

struct Plan<'a> {
    stage: Stage,
    object: &'a Path,
    rows: Vec<Planned>,
}

impl Plan<'_> {
    fn add(&mut self, id: impl Into<String>, title: impl Into<String>, probe: Probe, by: Option<Restore>) {
        self.rows.push(Planned { id: id.into(), title: title.into(), probe, restored_by: by });
    }

    fn ten(&self, way: Way) -> Result<Rc<TestBed>> {
        self.stage.bed(&tables::prefixes4(10), &[], way)
    }

    fn tc(&self) -> Kind {
        Kind::Tc { ifindex: self.stage.nic }
    }

    /// A program of the benchmark's own, with `EXITS` filled.
    fn own(&self, name: &'static str, kind: Kind, expected: u32) -> Result<Probe> {
        let mut loader = probe::small();
        loader.override_global("EXIT", &self.stage.out, true);
        let mut object = probe::load(&mut loader, self.object, &[name])?;
        let exits = object.map_mut("EXITS").context("no map EXITS")?;
        DevMap::try_from(exits)?.set(0, self.stage.out, None, 0)?;
        Probe::own(object, name, kind, packet::frame4(tables::NOWHERE4)?, expected)
    }

    fn floors(&mut self) -> Result<()> {
        let tc = self.tc();
        for (id, title, name, kind, expected) in [
            ("floor.xdp-return", "XDP, returns at once", "floor_return", Kind::Xdp, probe::XDP_PASS),
            ("floor.xdp-tx", "XDP, parse + XDP_TX", "floor_tx", Kind::Xdp, probe::XDP_TX),
            ("floor.xdp-redirect", "XDP, parse + redirect", "floor_redirect", Kind::Xdp, probe::XDP_REDIRECT),
            ("floor.tc-return", "TC, returns at once", "floor_tc_return", tc, probe::TC_ACT_UNSPEC),
            ("floor.tc-redirect", "TC, parse + redirect", "floor_tc_redirect", tc, probe::TC_ACT_REDIRECT),
        ] {
            let probe = self.own(name, kind, expected)?;
            self.add(id, title, probe, None);
        }
        let one4 = Flows::V4(vec![tables::NOWHERE4]);
        let one6 = Flows::V6(tables::destinations6(&tables::prefixes6(1), 1));
        for (id, flows, kind) in [
            (XDP4.id, &one4, Kind::Xdp),
            (XDP6.id, &one6, Kind::Xdp),
            (TC4.id, &one4, tc),
            (TC6.id, &one6, tc),
        ] {
            let (name, expected) = match kind {
                Kind::Xdp => ("floor_return", probe::XDP_PASS),
                Kind::Tc { .. } => ("floor_tc_return", probe::TC_ACT_UNSPEC),
            };
            let floor = probe::load(&mut probe::small(), self.object, &[name])?;
            let program = floor.program(name).context("no floor")?.fd()?;
            let probe = Probe::restored(self.object, program, kind, flows, expected)?;
            self.add(id, "making a packet new + return at once", probe, None);
        }
        Ok(())
    }

    fn routes(&mut self) -> Result<()> {
        let tc = self.tc();
        for (size, name) in SIZES {
            let (routes4, routes6) = (tables::prefixes4(size), tables::prefixes6(size));
            let bed = self.stage.bed(&routes4, &routes6, Way::Out)?;
            let flow4 = Flows::V4(tables::destinations4(&routes4, 1));
            let flow6 = Flows::V6(tables::destinations6(&routes6, 1));
            let title = |family: &str, what: &str| format!("{family}, {name} route(s), {what}");
            let redirect = probe::XDP_REDIRECT;
            let xdp4 = self.forwarding(&bed, Hook::XdpNic, Kind::Xdp, &flow4, redirect)?;
            self.add(format!("xdp.route4.{name}"), title("IPv4", "XDP to another NIC"), xdp4, Some(XDP4));
            let xdp6 = self.forwarding(&bed, Hook::XdpNic, Kind::Xdp, &flow6, redirect)?;
            self.add(format!("xdp.route6.{name}"), title("IPv6", "XDP to another NIC"), xdp6, Some(XDP6));
            let tc4 = self.forwarding(&bed, Hook::TcPod, tc, &flow4, probe::TC_ACT_REDIRECT)?;
            self.add(format!("tc.route4.{name}"), title("IPv4", "TC from a pod to a NIC"), tc4, Some(TC4));
            let tc6 = self.forwarding(&bed, Hook::TcPod, tc, &flow6, probe::TC_ACT_REDIRECT)?;
            self.add(format!("tc.route6.{name}"), title("IPv6", "TC from a pod to a NIC"), tc6, Some(TC6));
        }
        Ok(())
    }

    /// The same with 10 routes, to everywhere else.
    fn ways(&mut self) -> Result<()> {
        let tc = self.tc();
        let flow = Flows::V4(tables::destinations4(&tables::prefixes4(10), 1));
        for (id, title, way, action) in [
            ("xdp.same-nic", "XDP back out of the NIC", Way::Same, probe::XDP_TX),
            ("xdp.group.4", "XDP, one of 4 next hops", Way::Group(4), probe::XDP_REDIRECT),
            ("xdp.group.16", "XDP, one of 16 next hops", Way::Group(16), probe::XDP_REDIRECT),
        ] {
            let bed = self.ten(way)?;
            let probe = self.forwarding(&bed, Hook::XdpNic, Kind::Xdp, &flow, action)?;
            self.add(id, format!("IPv4, 10 routes, {title}"), probe, Some(XDP4));
        }
        for (id, title, way, hook) in [
            ("tc.nic-to-nic", "TC from a NIC to a NIC", Way::Out, Hook::TcNic),
            ("tc.nic-to-pod", "TC from a NIC to a pod", Way::Pod, Hook::TcNic),
            ("tc.pod-to-pod", "TC from a pod to a pod", Way::Pod, Hook::TcPod),
        ] {
            let bed = self.ten(way)?;
            let probe = self.forwarding(&bed, hook, tc, &flow, probe::TC_ACT_REDIRECT)?;
            self.add(id, format!("IPv4, 10 routes, {title}"), probe, Some(TC4));
        }
        Ok(())
    }

    /// What goes up to the kernel stays as it is: no need to make it new.
    fn passes(&mut self) -> Result<()> {
        let out = self.ten(Way::Out)?;
        let local = self.ten(Way::Local)?;
        let [there] = tables::destinations4(&tables::prefixes4(10), 1)[..] else {
            bail!("not one destination")
        };
        let other = [2, 0, 0, 0, 0, 0x77];
        let frames = [
            ("local", "address of this node", &local, packet::frame4(there)?, Reason::Local),
            ("no-route", "no route", &out, packet::frame4(tables::NOWHERE4)?, Reason::NoRoute),
            (
                "other-mac",
                "not for this MAC",
                &out,
                packet::frame4_with(there, other, 64)?,
                Reason::NotForThisMac,
            ),
            ("ttl-1", "TTL 1", &out, packet::frame4_with(there, packet::NIC_MAC, 1)?, Reason::TtlExpired),
        ];
        for (id, title, bed, frame, reason) in frames {
            for (hook, kind, name, action) in [
                (Hook::XdpNic, Kind::Xdp, "xdp", probe::XDP_PASS),
                (Hook::TcNic, self.tc(), "tc", probe::TC_ACT_UNSPEC),
            ] {
                let probe = Probe::product(bed, hook, kind, frame.clone(), action)?;
                let sample = judged(&probe, bed, hook, reason)?;
                ensure!(sample.frame == frame, "a packet that goes up was changed: {id}");
                let title = format!("IPv4, 10 routes, {name}, up to the kernel: {title}");
                self.add(format!("{name}.pass.{id}"), title, probe, None);
            }
        }
        Ok(())
    }

    /// Established flows of a Service, one packet of each in turn.
    fn services(&mut self) -> Result<()> {
        let tc = self.tc();
        let (nic, pod) = (Hook::XdpNic, Hook::TcPod);
        for (id, cast, hook, kind, tcp, by) in [
            ("xdp.service4.4k", service_flows::V4, nic, Kind::Xdp, true, FLOW4_XDP),
            ("tc.service4.4k", service_flows::V4, pod, tc, true, FLOW4_TC),
            ("tc.egress4.4k", service_flows::EGRESS4, pod, tc, true, FLOW4_TC),
            ("xdp.service6.4k", service_flows::V6, nic, Kind::Xdp, true, FLOW6_XDP),
            ("xdp.service4-udp.4k", service_flows::V4, nic, Kind::Xdp, false, FLOW4_XDP),
        ] {
            let flows = ServiceFlows::open(&self.stage, cast, hook, tcp)?;
            let (floor, passed, forwarded, what) = match kind {
                Kind::Xdp => ("floor_return", probe::XDP_PASS, probe::XDP_REDIRECT, "XDP, masqueraded"),
                Kind::Tc { .. } => {
                    ("floor_tc_return", probe::TC_ACT_UNSPEC, probe::TC_ACT_REDIRECT, "TC from a pod")
                }
            };
            if !self.rows.iter().any(|row| row.id == by.id) {
                let probe = flows.restoring(self.object, floor, kind, passed)?;
                self.add(by.id, "making a packet of a flow new + return at once", probe, None);
            }
            let probe = flows.probe(self.object, kind, forwarded)?;
            let sample = judged(&probe, &flows.bed, hook, Reason::Forwarded)?;
            flows.verify(&sample.frame).with_context(|| id.to_owned())?;
            let of = if id == "tc.egress4.4k" { "masqueraded by policy" } else { "Service" };
            let title = format!("{of}, 4096 established {} flows, {what}", if tcp { "TCP" } else { "UDP" });
            self.add(id, title, probe, Some(by));
        }
        Ok(())
    }

    /// What policies say of a packet of no flow, by themselves: one that is denied stays as it is.
    fn policies(&mut self) -> Result<()> {
        for (policies, name) in [(1, "1"), (1_000, "1k")] {
            let prefixes = tables::prefixes4(policies);
            let [there] = tables::destinations4(&prefixes, 1)[..] else { bail!("not one destination") };
            let mut bed = self.stage.empty_bed(policies)?;
            let mut image = self.stage.image(&prefixes, &[], Way::Out);
            image.egress = egress::denied(packet::SOURCE4.into(), &prefixes);
            apply(&diff(&Image::default(), &image), &mut bed.store).context("cannot fill the maps")?;
            let (bed, frame) = (Rc::new(bed), packet::frame4(there)?);
            let probe = Probe::product(&bed, Hook::TcPod, self.tc(), frame, probe::TC_ACT_SHOT)?;
            judged(&probe, &bed, Hook::TcPod, Reason::EgressDenied)?;
            let title = format!("IPv4, TC from a pod, denied by one of {name} policies for as many prefixes");
            self.add(format!("tc.denied4.{name}"), title, probe, None);
        }
        Ok(())
    }

    /// The same as [`Self::routes`], by the kernel's FIB. Last, since each leaves the stage.
    fn fib(&mut self) -> Result<()> {
        for (size, name) in SIZES {
            let prefixes = tables::prefixes4(size);
            let flow = Flows::V4(tables::destinations4(&prefixes, 1));
            let probe = fib::probe(self.object, &fib::Router::build(&prefixes)?, "fib_forward", &flow)?;
            let title = format!("IPv4, {name} route(s), XDP by bpf_fib_lookup");
            self.add(format!("xdp.fib4.{name}"), title, probe, Some(XDP4));
        }
        Ok(())
    }

    /// A probe of forwarded packets, after a look at whether they are.
    fn forwarding(
        &self,
        bed: &Rc<TestBed>,
        hook: Hook,
        kind: Kind,
        flows: &Flows,
        action: u32,
    ) -> Result<Probe> {
        let probe = Probe::restored(self.object, bed.program_fd(hook)?, kind, flows, action)?;
        let sample = judged(&probe, bed, hook, Reason::Forwarded)?;
        if matches!(flows, Flows::V4(_)) {
            ensure!(
                packet::is_valid4(&sample.frame, packet::TTL - 1),
                "forwarded with a wrong TTL or checksum"
            );
        }
        Ok(probe)
    }
}

/// Runs the probe, and makes sure that each packet was given its verdict for this reason.
fn judged(probe: &Probe, bed: &TestBed, hook: Hook, reason: Reason) -> Result<Sample> {
    // All of a table's flows.
    const REPEAT: u32 = 4096;
    let before = bed.counters.verdict(hook, reason)?.packets;
    let sample = probe.run(REPEAT)?;
    let more = bed.counters.verdict(hook, reason)?.packets - before;
    ensure!(more == u64::from(REPEAT), "{more} of {REPEAT} packets were {reason:?}");
    Ok(sample)
}
