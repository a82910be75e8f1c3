//! What this program is.

use netroute_common::abi::ABI_VERSION;
use serde::Serialize;

/// The version of the package.
pub const LINE: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
pub struct Version {
    pub version: &'static str,
    pub abi: u32,
}

pub const VERSION: Version = Version { version: LINE, abi: ABI_VERSION };

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, abi } = self;
        write!(f, "netroute {version} (map layouts {abi})")
    }
}
