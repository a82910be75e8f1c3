//! Rounds over all paths, one burst per path and round.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::lane::{Lane, Scene};
use crate::baseline::forget_connections;
use crate::generator::Traffic;
use crate::sample::{Outcome, Row, Unit, quick};

/// One row of the report.
pub struct Path {
    pub id: String,
    pub title: String,
    pub lane: Rc<Lane>,
    pub traffic: Traffic,
    /// Connections that the router tracks are forgotten before each burst: new flows stay new.
    pub tracked: bool,
}

const ROUNDS: usize = 9;
const QUICK_ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(300);
/// Packets of the burst that tells how many make a round.
const TRIAL: u32 = 50_000;
/// Packets in front of each burst that are not counted: caches are those of this path by then.
const WARM_UP: u32 = 8_192;

/// Time per packet that arrived, in nanoseconds. What was lost stands in the row's title.
pub fn measure(scene: &mut Scene, paths: &[Path]) -> Result<Vec<Row>> {
    let mut packets = Vec::new();
    for path in paths {
        let burst = burst(scene, path, TRIAL)?;
        let most = if path.tracked { MOST_CONNECTIONS } else { MOST_PACKETS };
        packets.push((ROUND.as_nanos() as f64 / burst.time).clamp(1_000.0, most) as u32);
    }
    let mut times = vec![Vec::new(); paths.len()];
    let mut sent = vec![0.0; paths.len()];
    let mut lost = vec![0.0; paths.len()];
    for _ in 0..if quick() { QUICK_ROUNDS } else { ROUNDS } {
        for (at, path) in paths.iter().enumerate() {
            let burst = burst(scene, path, packets[at])?;
            times[at].push(burst.time);
            sent[at] += f64::from(packets[at]);
            lost[at] += burst.lost;
        }
    }
    let rows = paths.iter().zip(times).zip(sent.iter().zip(lost)).map(|((path, times), (sent, lost))| Row {
        id: path.id.clone(),
        title: format!("{}{}", path.title, loss(lost / sent)),
        unit: Unit::NanosecondsPerPacket,
        outcome: Outcome::Measured(times),
    });
    Ok(rows.collect())
}

/// Of a burst, as far as a machine's speed allows.
const MOST_PACKETS: f64 = 20_000_000.0;
/// The kernel tracks 262144 connections unless told otherwise, and then begins to drop.
const MOST_CONNECTIONS: f64 = 200_000.0;

struct Burst {
    /// Nanoseconds per packet.
    time: f64,
    /// Packets.
    lost: f64,
}

fn burst(scene: &mut Scene, path: &Path, packets: u32) -> Result<Burst> {
    if let Some(router) = path.lane.router.as_ref().filter(|_| path.tracked) {
        router.run(forget_connections).context("cannot forget connections")?;
    }
    scene.generator.aim(&path.traffic, path.lane.slot, path.lane.mac)?;
    let (arrived, time) = scene.generator.send([WARM_UP, packets], || scene.sink.arrived())?;
    ensure!(arrived > 0, "{}: nothing arrived", path.id);
    // What is still on its way has arrived before the next burst has been set up.
    let lost = f64::from(packets) - arrived as f64;
    Ok(Burst { time: time.as_nanos() as f64 / arrived as f64, lost: lost.max(0.0) })
}

fn loss(share: f64) -> String {
    if share < 0.000_5 { String::new() } else { format!(" ({:.1} % lost)", share * 100.0) }
}
