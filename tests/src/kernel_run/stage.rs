//! The interfaces of the cast as veths, in a network namespace without a name.

use std::fmt::Write;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};

use crate::netns::ip_batch;
use crate::vectors::Interface;

/// Lives as long as a thread or an open file is in it.
pub struct Stage;

impl Stage {
    /// Moves the calling thread into a new namespace that holds the interfaces.
    pub fn build() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
        let mut script = String::new();
        for pair in Interface::ALL.chunks(2) {
            let [left, right] = pair else { continue };
            let (a, b) = (veth(left), veth(right));
            writeln!(script, "link add {a} type veth peer {b}")?;
        }
        ip_batch(&script)?;
        Ok(Self)
    }
}

fn veth(interface: &Interface) -> String {
    let Interface { name, index, mac, port: _ } = interface;
    let mac: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("name {name} index {index} address {}", mac.join(":"))
}
