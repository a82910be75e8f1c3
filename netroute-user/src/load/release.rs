//! Letting go of pinned links, and knowing when the kernel has let go too.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use aya::programs::SchedClassifier;
use aya::programs::links::{FdLink, PinnedLink};
use netroute_common::verdict::Hook;

use super::tc::direction;
use super::xdp_state;

/// How long the kernel may take: a work queue run and an RCU grace period, usually a few
/// milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// A program whose link is on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    hook: Hook,
    ifindex: u32,
    program: u32,
}

/// Removes the pin of what runs at this hook. `None` if it is no link (a pinned program runs
/// nothing by itself).
pub(super) fn unpin(path: &Path, hook: Hook, ifindex: u32) -> io::Result<Option<Leaving>> {
    let info = PinnedLink::from_pin(path).and_then(|link| FdLink::from(link).info());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(info.ok().map(|info| Leaving { hook, ifindex, program: info.program_id() })),
    }
}

/// Waits until none of the programs runs any more. The last reference to a link is dropped from
/// a work queue (`bpf_link_put`), and a link's id is gone before its program is off the device:
/// there is no event to wait for. Until then a new attachment would be refused as busy.
pub(super) fn wait_gone(leaving: &[Leaving]) {
    let deadline = Instant::now() + PATIENCE;
    while leaving.iter().any(Leaving::still_runs) {
        if Instant::now() > deadline {
            tracing::warn!(?leaving, "the kernel takes its time to release unpinned links");
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Leaving {
    /// False also where nobody can tell: a device that is gone, or no right to look.
    fn still_runs(&self) -> bool {
        let Self { hook, ifindex, program } = *self;
        match hook {
            Hook::XdpNic => {
                xdp_state::of(ifindex).is_ok_and(|now| now.is_some_and(|xdp| xdp.program == program))
            }
            Hook::TcNic | Hook::TcPod | Hook::TcOut => {
                let name =
                    nix::net::if_::if_indextoname(ifindex).ok().and_then(|name| name.into_string().ok());
                name.and_then(|name| SchedClassifier::query_tcx(&name, direction(hook)).ok())
                    .is_some_and(|(_, programs)| programs.iter().any(|info| info.id() == program))
            }
        }
    }
}
