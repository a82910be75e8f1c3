//! Removing everything of ours from the kernel, without an agent.

use std::path::Path;

use netroute_common::verdict::Hook;

use super::error::LoadError;
use super::lock::Lock;
use super::pins::{Hold, Pins};
use super::{filter, preflight, release, sockets};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detached {
    /// Hook and interface index of each program that ran.
    pub programs: Vec<(Hook, u32)>,
    /// Programs of sockets.
    pub sockets: usize,
}

/// Takes off all programs and removes all maps below `bpffs`. Fine if there is nothing.
///
/// # Errors
/// [`LoadError::AgentRunning`] if an agent holds the folder: it would only attach again.
pub fn detach(bpffs: &Path) -> Result<Detached, LoadError> {
    if !bpffs.exists() {
        return Ok(Detached::default());
    }
    preflight::check(bpffs)?;
    let _lock = Lock::acquire(bpffs).map_err(|error| match error {
        LoadError::InUse { path } => LoadError::AgentRunning { path },
        other => other,
    })?;
    let pins = Pins::new(bpffs);
    let mut detached = Detached::default();
    let mut links = Vec::new();
    for pin in pins.attachments()? {
        let failed = |source| LoadError::Folder { operation: "remove", path: pin.path.clone(), source };
        if pin.hold == Hold::Filter {
            filter::detach(pin.ifindex, pin.hook).map_err(failed)?;
        }
        links.extend(release::unpin(&pin.path, pin.hook, pin.ifindex).map_err(failed)?);
        detached.programs.push((pin.hook, pin.ifindex));
    }
    detached.sockets = sockets::detach(&pins).map_err(|error| LoadError::Sockets(Box::new(error)))?;
    pins.remove_all()?;
    release::wait_gone(&links);
    Ok(detached)
}
