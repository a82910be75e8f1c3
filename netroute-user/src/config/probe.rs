//! A probe as it is written in the agent's configuration and in `NetRoute` objects.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::desired::route::{Probe, ProbeKind};

const DEFAULT_INTERVAL: &str = "1s";
const DEFAULT_THRESHOLD: u8 = 3;

/// An active liveness check of a next hop, beside carrier and neighbour state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbeSpec {
    /// `none`, `neighbour` (ARP request, neighbour solicitation) or `echo` (ICMP echo request).
    pub kind: ProbeKindWord,
    /// Time between two requests: `500ms`, `1s`, `1m`. Default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Lost answers in a row that make the next hop dead, and answers in a row that revive it.
    /// Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 255))]
    pub threshold: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKindWord {
    None,
    Neighbour,
    Echo,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    #[error("probe.interval: {0}")]
    Interval(#[from] DurationError),
    #[error("probe.interval: {0} is outside 100ms to 1h")]
    IntervalRange(String),
    #[error("probe.threshold: must be at least 1")]
    Threshold,
}

impl ProbeSpec {
    /// `None` for kind `none`.
    ///
    /// # Errors
    /// When interval or threshold make no sense.
    pub fn probe(&self) -> Result<Option<Probe>, ProbeError> {
        let Self { kind, interval, threshold } = self;
        let text = interval.as_deref().unwrap_or(DEFAULT_INTERVAL);
        let interval = parse_duration(text)?;
        if !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&interval) {
            return Err(ProbeError::IntervalRange(text.to_owned()));
        }
        let threshold = threshold.unwrap_or(DEFAULT_THRESHOLD);
        if threshold == 0 {
            return Err(ProbeError::Threshold);
        }
        let kind = match kind {
            ProbeKindWord::None => return Ok(None),
            ProbeKindWord::Neighbour => ProbeKind::Neighbour,
            ProbeKindWord::Echo => ProbeKind::Echo,
        };
        Ok(Some(Probe { kind, interval, threshold }))
    }
}

impl From<Option<Probe>> for ProbeSpec {
    fn from(probe: Option<Probe>) -> Self {
        let Some(Probe { kind, interval, threshold }) = probe else {
            return Self { kind: ProbeKindWord::None, interval: None, threshold: None };
        };
        let kind = match kind {
            ProbeKind::Neighbour => ProbeKindWord::Neighbour,
            ProbeKind::Echo => ProbeKindWord::Echo,
        };
        Self { kind, interval: Some(format!("{}ms", interval.as_millis())), threshold: Some(threshold) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a duration; write a whole number and a unit: 500ms, 3s, 1m")]
pub struct DurationError(String);

/// A whole number and `ms`, `s`, `m` or `h`.
///
/// # Errors
/// When `text` is anything else.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let bad = || DurationError(text.to_owned());
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let number: u64 = text[..digits].parse().map_err(|_| bad())?;
    let millis = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(bad)
}
