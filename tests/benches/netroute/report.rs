//! A run as text and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::sample::{Outcome, Row, median, quantile};
use crate::targets::{Standing, Target, Verdict};

/// Where the numbers come from.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub kernel: String,
    pub processor: String,
    pub processors: usize,
    /// Over 1, 5 and 15 minutes when the run began.
    pub load_average: String,
    /// Seconds since 1970.
    pub time: u64,
}

/// All of a run.
#[derive(Serialize)]
pub struct Report {
    pub machine: Machine,
    pub targets: Vec<Standing>,
    pub rows: Vec<Row>,
}

impl Machine {
    pub fn look() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let cpus = read("/proc/cpuinfo")?;
        let name = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = read("/proc/loadavg")?;
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            processor: name.map_or_else(|| "unknown".into(), |(_, name)| name.to_owned()),
            processors: std::thread::available_parallelism()?.get(),
            load_average: load.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
            time: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        })
    }
}

impl Report {
    pub fn new(machine: Machine, targets: Vec<Target>, rows: Vec<Row>) -> Self {
        let judge = |target: Target| Standing { verdict: target.judge(&rows), target };
        Self { machine, targets: targets.into_iter().map(judge).collect(), rows }
    }

    /// The works whose ratio is beyond what the table of targets allows.
    pub fn broken(&self) -> Vec<&str> {
        let broken =
            |standing: &&Standing| matches!(standing.verdict, Verdict::Measured { broken: true, .. });
        self.targets.iter().filter(broken).map(|standing| standing.target.work.as_str()).collect()
    }

    pub fn write_json(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    pub fn text(&self) -> Result<String> {
        let Machine { kernel, processor, processors, load_average, time: _ } = &self.machine;
        let mut text = String::new();
        writeln!(text, "Linux {kernel}, {processors} x {processor}, load average {load_average}\n")?;
        writeln!(text, "{:<62} {:>8}  {:>8}  {:<18} VERDICT", "TARGETS", "TARGET", "MEASURED", "10% .. 90%")?;
        for Standing { target, verdict } in &self.targets {
            write!(text, "{:<62} {:>8}  ", target.work, limit(target))?;
            match verdict {
                Verdict::Measured { middle, low, high, met, broken, unit: _ } => {
                    let spread = format!("{} .. {}", short(*low), short(*high));
                    let verdict = match (met, broken) {
                        (true, _) => "met",
                        (false, false) => "missed",
                        (false, true) => "missed, and beyond what --check allows",
                    };
                    writeln!(text, "{:>8}  {spread:<18} {verdict}", short(*middle))?;
                }
                Verdict::NotMeasured { reason } => writeln!(text, "not measured: {reason}")?,
            }
        }
        writeln!(
            text,
            "\n{:<26} {:>11} {:>11}  {:<20} {:<9} ",
            "ROW", "MEDIAN", "MIN", "10% .. 90%", "UNIT"
        )?;
        for Row { id, title, unit, outcome } in &self.rows {
            match outcome {
                Outcome::Measured(samples) => {
                    let spread =
                        format!("{} .. {}", short(quantile(samples, 0.1)), short(quantile(samples, 0.9)));
                    let (median, min) = (short(median(samples)), short(quantile(samples, 0.0)));
                    writeln!(
                        text,
                        "{id:<26} {median:>11} {min:>11}  {spread:<20} {:<9} {title}",
                        unit.name()
                    )?;
                }
                Outcome::NotMeasured(reason) => writeln!(text, "{id:<26} not measured: {reason}")?,
            }
        }
        Ok(text)
    }
}

fn limit(target: &Target) -> String {
    match (target.at_most, target.at_least) {
        (Some(limit), _) => format!("<= {}", short(limit)),
        (_, Some(limit)) => format!(">= {}", short(limit)),
        _ => String::new(),
    }
}

/// Three digits where they mean something.
fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}
