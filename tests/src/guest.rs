//! What a test machine and the one who starts it agree on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The [`Plan`] as JSON, in the machine.
pub const PLAN: &str = "/etc/netroute-guest.json";
/// The second serial line.
pub const REPORT: &str = "/dev/ttyS1";
/// Port of QEMU's `isa-debug-exit`.
pub const EXIT_PORT: u16 = 0xf4;
/// Written to the port when every suite has been run, whatever came of it.
pub const END_COMPLETE: u8 = 1;
/// Written when the machine could not do its work.
pub const END_BROKEN: u8 = 2;

/// What a machine does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Files, each after those that it needs.
    pub modules: Vec<PathBuf>,
    pub suites: Vec<Suite>,
}

/// One run of a test binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suite {
    /// One word.
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub folder: PathBuf,
    pub environment: BTreeMap<String, String>,
    /// After these it is killed.
    pub seconds: u64,
}
