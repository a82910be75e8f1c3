//! What a section gives to the report.

use std::path::Path;

use anyhow::Result;

/// A part of the benchmark. `run` gets the path of the benchmark's own BPF object.
#[derive(Clone, Copy)]
pub struct Section {
    pub name: &'static str,
    pub run: fn(&Path) -> Result<Vec<Row>>,
}

/// One thing that was measured, or could not be.
#[derive(Clone, Debug)]
pub struct Row {
    /// Stable key, dotted: `xdp.route4.10`. The table of targets refers to it.
    pub id: String,
    /// For people.
    pub title: String,
    pub unit: Unit,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    NanosecondsPerPacket,
    Milliseconds,
    Bytes,
    Count,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    /// One number per round. Rows whose rounds were interleaved have the same length, and their
    /// n-th numbers were taken one right after the other.
    Measured(Vec<f64>),
    /// Why there is no number.
    NotMeasured(String),
}

impl Row {
    pub fn not_measured(id: &str, title: &str, error: &anyhow::Error) -> Self {
        let outcome = Outcome::NotMeasured(format!("{error:#}"));
        Self { id: id.into(), title: title.into(), unit: Unit::NanosecondsPerPacket, outcome }
    }
}

/// The middle of the numbers; of an even count the mean of both. NaN of none.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (Some(high), 0) => f64::midpoint(sorted[middle - 1], *high),
        (Some(middle), _) => *middle,
        (None, _) => f64::NAN,
    }
}
