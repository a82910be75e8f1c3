//! The committed table of targets, and how a run stands to it.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::sample::{Outcome, Row, Unit, median, quantile};

const TABLE: &str = include_str!("../targets.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    target: Vec<Target>,
}

/// What one comparison should come to.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Target {
    /// What is compared, for people.
    pub work: String,
    /// A row.
    pub value: String,
    /// The row it is divided by. Without one the row itself has a target, in its own unit.
    pub over: Option<String>,
    /// A row subtracted from both before they are divided, or from the one.
    pub minus: Option<String>,
    /// The design's target: one of both.
    pub at_most: Option<f64>,
    pub at_least: Option<f64>,
    /// Where `--check` fails: as far on the wrong side of the target as a noisy machine may bring
    /// it. Only ratios have one.
    pub check: Option<f64>,
    /// Why there is no such row yet.
    pub absent: Option<String>,
}

/// How a run stands to one target.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    pub target: Target,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    Measured {
        /// Median of the rounds.
        middle: f64,
        /// Nine of ten rounds were above.
        low: f64,
        /// Nine of ten rounds were below.
        high: f64,
        met: bool,
        /// Beyond what `--check` allows.
        broken: bool,
        /// Of a target without a second row.
        unit: Option<Unit>,
    },
    NotMeasured {
        reason: String,
    },
}

/// The targets in the table's order.
///
/// # Errors
/// The table contradicts itself.
pub fn read() -> Result<Vec<Target>> {
    let Table { target } = toml::from_str(TABLE).context("in targets.toml")?;
    for target in &target {
        let Target { work, over, at_most, at_least, check, value: _, minus: _, absent: _ } = target;
        ensure!(at_most.is_some() != at_least.is_some(), "{work}: one of at-most and at-least");
        ensure!(over.is_some() || check.is_none(), "{work}: check wants `over`");
        let wide = match (at_most, at_least, check) {
            (Some(target), _, Some(check)) => check >= target,
            (_, Some(target), Some(check)) => check <= target,
            _ => true,
        };
        ensure!(wide, "{work}: check is narrower than the target");
    }
    Ok(target)
}

impl Target {
    /// Compares rows of one run.
    pub fn judge(&self, rows: &[Row]) -> Verdict {
        match self.rounds(rows) {
            Ok((rounds, unit)) => self.verdict(&rounds, unit),
            Err(reason) => Verdict::NotMeasured { reason: self.absent.clone().unwrap_or(reason) },
        }
    }

    fn verdict(&self, rounds: &[f64], unit: Option<Unit>) -> Verdict {
        let middle = median(rounds);
        let holds = |limit: Option<f64>| match (self.at_most, self.at_least, limit) {
            (Some(_), _, Some(limit)) => middle <= limit,
            (_, Some(_), Some(limit)) => middle >= limit,
            _ => true,
        };
        Verdict::Measured {
            middle,
            low: quantile(rounds, 0.1),
            high: quantile(rounds, 0.9),
            met: holds(self.at_most.or(self.at_least)),
            broken: !holds(self.check),
            unit,
        }
    }

    /// The number of each round, or why there is none.
    fn rounds(&self, rows: &[Row]) -> Result<(Vec<f64>, Option<Unit>), String> {
        let (value, unit) = samples(rows, &self.value)?;
        let floor = match &self.minus {
            Some(minus) => median(samples(rows, minus)?.0),
            None => 0.0,
        };
        let Some(over) = &self.over else {
            return Ok((value.iter().map(|value| value - floor).collect(), Some(unit)));
        };
        let (over, _) = samples(rows, over)?;
        // Rows of different sections were not interleaved: their rounds have nothing in common,
        // and each is divided by the middle of the other.
        let paired = value.len() == over.len();
        let middle = [median(over)];
        let over = if paired { over } else { &middle[..] };
        Ok((value.iter().zip(over.iter().cycle()).map(|(a, b)| (a - floor) / (b - floor)).collect(), None))
    }
}

fn samples<'a>(rows: &'a [Row], id: &str) -> Result<(&'a [f64], Unit), String> {
    let row = rows.iter().find(|row| row.id == id).ok_or_else(|| format!("no row {id} in this run"))?;
    match &row.outcome {
        Outcome::NotMeasured(reason) => Err(format!("{id}: {reason}")),
        Outcome::Measured(_) => {
            row.samples().map(|samples| (samples, row.unit)).ok_or_else(|| format!("{id}: no samples"))
        }
    }
}
