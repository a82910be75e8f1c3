//! Packet vectors: small stories in TOML about what happens to a packet, run over the packet logic
//! on the host and over the BPF programs in the kernel.
//!
//! A vector says what must happen by the facts in its `covers`. It must not know how the logic
//! decides: expected bytes are made here from the input and the expectation alone.

mod answer;
mod cast;
mod check;
mod ecmp;
mod egress;
mod expect;
mod hexadecimal;
mod host;
mod icmp;
mod list;
mod outcome;
mod packet;
mod rewrite;
mod sender;
mod services;
mod story;
mod tables;
mod transport;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use netroute_common::verdict::Hook;
use serde::{Deserialize, Serialize};

pub use answer::AnswerText;
pub use cast::{Interface, NIC, NIC_MAC};
pub use check::{Input, Judge, Ran, run_cases};
pub use ecmp::{Ecmp, EcmpStep, run_ecmp};
pub use egress::{EgressChange, EgressSet, EgressText, PolicyText, RuleText, SnatText};
pub use expect::{ActionText, ExitText, Expect};
pub use hexadecimal::write as to_hexadecimal;
pub use host::{Host, counted_egress, counted_services, judge as judge_on_host};
pub use icmp::{MessageText, quoted};
pub use outcome::{Action, Outcome};
pub use packet::{FragmentText, OverrideText, PacketText};
pub use rewrite::{Side, sides};
pub use services::{BackendText, FrontEndText, MasqueradeText, ServiceSet, ServicesText};
pub use story::{Step, Story};
pub use tables::{Bounds, GroupText, MemberText, NextHopText, RouteText, TableSet, TablesText, kind_name};

/// One file below `tests/vectors`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Vector {
    pub name: String,
    /// Facts that the vector holds the logic to (`R10`, `N11`, ...).
    pub covers: Vec<String>,
    #[serde(default = "HookText::all")]
    pub hooks: Vec<HookText>,
    #[serde(default)]
    pub tables: TablesText,
    #[serde(default, rename = "case", skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<Case>,
    #[serde(default, rename = "story", skip_serializing_if = "Vec::is_empty")]
    pub stories: Vec<Story>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecmp: Option<Ecmp>,
}

/// One packet and what becomes of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Case {
    pub name: String,
    /// Instead of the vector's hooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Vec<HookText>>,
    pub packet: PacketText,
    /// Runs the case once for each length from the first to the last, the frame cut to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cuts: Option<[usize; 2]>,
    pub expect: Expect,
    /// Why the kernel cannot be asked; the case runs on the host alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_only: Option<String>,
}

/// A hook as vectors name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookText {
    XdpNic,
    TcNic,
    TcPod,
    TcOut,
}

impl HookText {
    fn all() -> Vec<Self> {
        vec![Self::XdpNic, Self::TcNic, Self::TcPod]
    }

    pub fn hook(self) -> Hook {
        match self {
            Self::XdpNic => Hook::XdpNic,
            Self::TcNic => Hook::TcNic,
            Self::TcPod => Hook::TcPod,
            Self::TcOut => Hook::TcOut,
        }
    }

    pub fn of(hook: Hook) -> Self {
        match hook {
            Hook::XdpNic => Self::XdpNic,
            Hook::TcNic => Self::TcNic,
            Hook::TcPod => Self::TcPod,
            Hook::TcOut => Self::TcOut,
        }
    }
}

/// The folder that holds the vectors.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

impl Vector {
    /// Reads a file, named relative to [`folder`].
    pub fn read(file: &str) -> Result<Self> {
        let text =
            std::fs::read_to_string(folder().join(file)).with_context(|| format!("cannot read {file}"))?;
        let vector: Self = toml::from_str(&text).with_context(|| format!("in {file}"))?;
        ensure!(!vector.covers.is_empty(), "{file}: `covers` is empty");
        let empty = vector.ecmp.is_none() && vector.cases.is_empty() && vector.stories.is_empty();
        ensure!(!empty, "{file} has neither cases, stories nor ecmp");
        Ok(vector)
    }
}

/// All vector files, relative to [`folder`], in order.
pub fn files() -> Result<Vec<String>> {
    let mut files = Vec::new();
    for area in std::fs::read_dir(folder())? {
        let area = area?.path();
        for entry in std::fs::read_dir(&area)? {
            let path = entry?.path();
            let relative = path.strip_prefix(folder())?;
            files.push(relative.to_string_lossy().into_owned());
        }
    }
    files.sort();
    Ok(files)
}
