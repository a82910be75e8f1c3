//! The operator's names for NICs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One entry of `interfaces` in the agent's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name used in routes, policies and cmdlets; compared without regard to case.
    pub alias: String,
    pub device: DeviceRef,
    pub role: Role,
}

/// How the configuration points at a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceRef {
    /// Device name or altname.
    Name(String),
    Mac([u8; 6]),
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Internal,
    External,
}
