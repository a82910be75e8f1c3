//! What became of a packet, in terms that the host and the kernel share.

use std::collections::BTreeMap;
use std::fmt::Write;

use netroute_common::host::Counted;
use netroute_common::layout::egress::EgressCounter;
use netroute_common::layout::service::ServiceCounter;
use netroute_common::verdict::{Exit, Hook, Verdict};

use super::hexadecimal;

/// What the hook is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `XDP_PASS`, `TC_ACT_UNSPEC`.
    Pass,
    /// `XDP_DROP`, `TC_ACT_SHOT`.
    Drop,
    /// `XDP_TX`.
    Reflect,
    /// `XDP_REDIRECT`, `TC_ACT_REDIRECT`.
    Redirect,
    /// Anything else, by its number: nothing that a program may return.
    Wrong(u32),
}

impl Action {
    pub fn of(verdict: Verdict, hook: Hook) -> Self {
        match verdict {
            Verdict::Pass(_) => Self::Pass,
            Verdict::Drop(_) => Self::Drop,
            // At TC an answer is redirected to the interface that it came from.
            Verdict::Answer(_) if hook != Hook::XdpNic => Self::Redirect,
            Verdict::Answer(_) | Verdict::Forward(Exit::SameNic) => Self::Reflect,
            Verdict::Forward(Exit::Onward) => Self::Pass,
            Verdict::Forward(Exit::Port(_) | Exit::Interface(_) | Exit::Pod(_)) => Self::Redirect,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub action: Action,
    pub frame: Vec<u8>,
    /// What this packet added to the counters of its hook.
    pub counted: Counted,
    /// The same, in `SERVICE_STATS`; without zeroes.
    pub services: BTreeMap<u32, ServiceCounter>,
    /// The same, in `EGRESS_STATS`; of the time of the last packet, whether one was noted.
    pub egress: BTreeMap<u32, EgressCounter>,
    /// Where exactly it leaves; the kernel does not tell.
    pub exit: Option<Exit>,
}

impl Outcome {
    /// What differs between what was expected and what came, one line each; empty if nothing does.
    pub fn differences(&self, came: &Self) -> Vec<String> {
        let Self { action, frame, counted, services, egress, exit } = self;
        let mut lines = Vec::new();
        if *action != came.action {
            lines.push(format!("action: expected {action:?}, came {:?}", came.action));
        }
        if *counted != came.counted {
            lines.push(format!("counters: expected {counted:?}, came {:?}", came.counted));
        }
        if *services != came.services {
            lines.push(format!("Services: expected {services:?}, came {:?}", came.services));
        }
        if *egress != came.egress {
            lines.push(format!("policies: expected {egress:?}, came {:?}", came.egress));
        }
        if let (Some(expected), Some(came)) = (exit, came.exit)
            && *expected != came
        {
            lines.push(format!("exit: expected {expected:?}, came {came:?}"));
        }
        lines.extend(frame_difference(frame, &came.frame));
        lines
    }
}

/// How many bytes of a frame a report shows.
const SHOWN: usize = 96;

fn frame_difference(expected: &[u8], came: &[u8]) -> Option<String> {
    if expected == came {
        return None;
    }
    let mut text = format!("frame: expected {} bytes, came {}", expected.len(), came.len());
    let pairs = expected.iter().zip(came).enumerate();
    for (at, (expected, came)) in pairs.filter(|(_, (expected, came))| expected != came).take(16) {
        let _ = write!(text, "; byte {at}: expected {expected:02x}, came {came:02x}");
    }
    for (label, bytes) in [("expected", expected), ("came    ", came)] {
        let _ = write!(text, "\n  {label} {}", hexadecimal::write(&bytes[..bytes.len().min(SHOWN)]));
    }
    Some(text)
}
