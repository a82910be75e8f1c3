//! Letting go of pinned links, and knowing when the kernel has let go too.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::loaded_links;

/// How long the kernel may take: a work queue run and an RCU grace period, usually a few
/// milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Removes a pin. Returns the id of the link if it was one (a pinned program has none).
pub(super) fn unpin(path: &Path) -> io::Result<Option<u32>> {
    let id = PinnedLink::from_pin(path).and_then(|link| FdLink::from(link).info()).map(|info| info.id()).ok();
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(id),
    }
}

/// Waits until none of the links exists. The last reference is dropped from a work queue
/// (`bpf_link_put`), for which there is no event; until then the program still runs and a new
/// attachment would be refused as busy. False if the kernel took too long.
pub(super) fn wait_gone(links: &[u32]) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let exists = || loaded_links().flatten().any(|info| links.contains(&info.id()));
    while !links.is_empty() && exists() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}
