//! The flow tables in the kernel: a pass removes what is over, and nothing else. Needs root.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Result;
use netroute_common::layout::config::Nic;
use netroute_common::layout::flow::{
    FLOW_REPLY, Flow, STATE_CLOSING, STATE_ESTABLISHED, STATE_OPENING, STATE_RESET, Timers,
};
use netroute_user::apply::MapStore;
use netroute_user::apply::flows::{Entry, Pass, Tuple, now};
use netroute_user::compile::image::Limits;
use netroute_user::compile::services::image::mapped;
use netroute_user::load::object::bpf_object;
use netroute_user::load::testrun::TestBed;
use netroute_user::plan::{ServiceStep, Step};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Seconds. The node may have been up for as little.
const TIMERS: Timers = Timers {
    tcp_opening: 2,
    tcp_established: 8,
    tcp_closing: 4,
    tcp_reset: 3,
    udp_opening: 2,
    udp_established: 6,
};

fn bed(timers: Option<Timers>) -> Result<TestBed> {
    let limits = Limits { flows4: 8192, flows6: 64, opening4: 8192, opening6: 64, ..Limits::DEFAULT };
    let mut bed = TestBed::load(bpf_object(), limits, &Nic::default())?;
    if let Some(timers) = timers {
        bed.store.write(&Step::Service(ServiceStep::SetTimers { timers }))?;
    }
    Ok(bed)
}

/// A flow's client entry and its answers', last seen so many seconds ago.
fn flow(client: &str, protocol: u8, state: u8, quiet: [f64; 2]) -> [Entry; 2] {
    let at = |four: &str, six: &str| -> SocketAddr {
        if client.starts_with('[') { six.parse().unwrap() } else { four.parse().unwrap() }
    };
    let client: SocketAddr = client.parse().unwrap();
    let front_end = at("10.96.0.10:80", "[fd00::10]:80");
    let endpoint = at("10.244.1.5:8080", "[fd01::5]:8080");
    let entry = |from, to, becomes: (SocketAddr, SocketAddr), flags, quiet: f64| Entry {
        tuple: Tuple { protocol, source: from, destination: to },
        flow: Flow {
            seen: now().saturating_sub((quiet * 1e9) as u64),
            source: mapped(becomes.0.ip()),
            destination: mapped(becomes.1.ip()),
            source_port: becomes.0.port(),
            destination_port: becomes.1.port(),
            state,
            flags,
            protocol,
            service: u32::from(client.port()),
            ..Flow::default()
        },
    };
    let [asked, answered] = quiet;
    [
        entry(client, front_end, (client, endpoint), 0, asked),
        entry(endpoint, client, (front_end, client), FLOW_REPLY, answered),
    ]
}

fn enter(bed: &mut TestBed, entries: &[Entry]) -> Result<()> {
    entries.iter().try_for_each(|entry| bed.enter_flow(entry))?;
    Ok(())
}

fn pass(bed: &mut TestBed) -> Result<Pass> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(runtime.block_on(bed.flows.pass())?)
}

fn left(bed: &TestBed) -> Result<BTreeSet<Tuple>> {
    let mut left = BTreeSet::new();
    bed.flows.each(|entry| left.extend([entry.tuple]))?;
    Ok(left)
}

#[test]
fn n6_a_pass_removes_exactly_what_is_over_in_each_state() -> Result<()> {
    let mut bed = bed(Some(TIMERS))?;
    let timers = [
        (TCP, STATE_OPENING, TIMERS.tcp_opening),
        (TCP, STATE_ESTABLISHED, TIMERS.tcp_established),
        (TCP, STATE_CLOSING, TIMERS.tcp_closing),
        (TCP, STATE_RESET, TIMERS.tcp_reset),
        (UDP, STATE_OPENING, TIMERS.udp_opening),
        (UDP, STATE_ESTABLISHED, TIMERS.udp_established),
    ];
    let (mut stays, mut services) = (BTreeSet::new(), BTreeSet::new());
    let mut port = 1000;
    for (protocol, state, seconds) in timers {
        let over = f64::from(seconds) + 0.1;
        let lives = f64::from(seconds) - 1.0;
        for quiet in [[over, over], [lives, lives], [lives, over]] {
            for host in ["10.0.0.1", "[2001:db8::1]"] {
                port += 1;
                let entries = flow(&format!("{host}:{port}"), protocol, state, quiet);
                enter(&mut bed, &entries)?;
                let living = entries.iter().zip(quiet).filter(|(_, quiet)| *quiet == lives);
                stays.extend(living.map(|(entry, _)| entry.tuple));
                services.extend((quiet != [over, over]).then_some(port));
            }
        }
    }
    let pass = pass(&mut bed)?;
    assert_eq!(left(&bed)?, stays, "each direction by itself");
    assert_eq!(pass.removed, 3 * 12, "{pass:?}");
    assert_eq!(pass.services, services, "s21: what flows carry");
    assert!(pass.complete);
    let fill: Vec<_> = pass.tables.iter().map(|(map, fill)| (*map, fill.entries(), fill.capacity)).collect();
    assert_eq!(fill, [("FLOWS4", 12, 8192), ("FLOWS6", 12, 64), ("OPENING4", 6, 8192), ("OPENING6", 6, 64)]);
    Ok(())
}

#[test]
fn n14_without_timers_nothing_is_over() -> Result<()> {
    let mut bed = bed(None)?;
    let entries = flow("10.0.0.1:1000", TCP, STATE_ESTABLISHED, [1e6, 1e6]);
    enter(&mut bed, &entries)?;
    assert_eq!(pass(&mut bed)?.removed, 0);
    assert_eq!(left(&bed)?.len(), 2);
    Ok(())
}

#[test]
fn s21_the_numbers_that_flows_carry_are_read_without_removing_any() -> Result<()> {
    let mut bed = bed(Some(TIMERS))?;
    enter(&mut bed, &flow("10.0.0.1:1000", TCP, STATE_CLOSING, [9.0, 9.0]))?;
    enter(&mut bed, &flow("[2001:db8::1]:1001", UDP, STATE_OPENING, [0.0, 0.0]))?;
    assert_eq!(bed.flows.services()?, [1000, 1001].into());
    assert_eq!(left(&bed)?.len(), 4);
    Ok(())
}

#[test]
fn n6_a_full_table_is_cleared_in_one_pass() -> Result<()> {
    let mut bed = bed(Some(TIMERS))?;
    let mut stays = 0;
    for number in 0..4096_u32 {
        // Three in four are over, so that the walk stands on removed entries most of the time.
        let quiet = if number % 4 == 0 { 0.0 } else { 9.0 };
        stays += usize::from(quiet == 0.0) * 2;
        let client = format!("10.1.{}.{}:7", number >> 8, number & 0xff);
        enter(&mut bed, &flow(&client, TCP, STATE_ESTABLISHED, [quiet, quiet]))?;
    }
    let pass = pass(&mut bed)?;
    assert!(pass.complete);
    assert_eq!(pass.removed, 3 * 2048, "{pass:?}");
    let fill = &pass.tables["FLOWS4"];
    assert_eq!((fill.entries() as usize, left(&bed)?.len()), (stays, stays));
    Ok(())
}
