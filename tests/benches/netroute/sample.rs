//! What a section gives to the report.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::Result;
use serde::Serialize;

/// A part of the benchmark. `run` gets the path of the benchmark's own BPF object.
#[derive(Clone, Copy)]
pub struct Section {
    pub name: &'static str,
    pub run: fn(&Path) -> Result<Vec<Row>>,
}

/// One thing that was measured, or could not be.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Stable key, dotted: `xdp.route4.10`. The table of targets refers to it.
    pub id: String,
    /// For people.
    pub title: String,
    pub unit: Unit,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    NanosecondsPerPacket,
    /// Of one thing done once.
    Nanoseconds,
    Milliseconds,
    Bytes,
    Count,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// One number per round. Rows whose rounds were interleaved have the same length, and their
    /// n-th numbers were taken one right after the other.
    Measured(Vec<f64>),
    /// Why there is no number.
    NotMeasured(String),
}

impl Unit {
    pub const fn name(self) -> &'static str {
        match self {
            Self::NanosecondsPerPacket => "ns/packet",
            Self::Nanoseconds => "ns",
            Self::Milliseconds => "ms",
            Self::Bytes => "bytes",
            Self::Count => "",
        }
    }
}

impl Row {
    pub fn samples(&self) -> Option<&[f64]> {
        match &self.outcome {
            Outcome::Measured(samples) if !samples.is_empty() => Some(samples),
            _ => None,
        }
    }
}

static QUICK: OnceLock<bool> = OnceLock::new();

/// Called once, before the first section.
pub fn set_quick(quick: bool) {
    let _ = QUICK.set(quick);
}

/// Whether rounds, sizes and durations are to be cut down: a look at whether it works at all.
pub fn quick() -> bool {
    QUICK.get().copied().unwrap_or(false)
}

/// The middle of the numbers; of an even count the mean of both. NaN of none.
pub fn median(numbers: &[f64]) -> f64 {
    quantile(numbers, 0.5)
}

/// The number below which that part (0..=1) of all lies, between two of them in proportion. NaN of none.
pub fn quantile(numbers: &[f64], part: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = part.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}
