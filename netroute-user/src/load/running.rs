//! Which programs run now, by the kernel's account.

use std::collections::BTreeMap;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{ProgramInfo, loaded_programs};

use super::attachments::{Attached, Attachments};
use super::pins::{Hold, Pin};

/// One running program as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub attached: Attached,
    /// The kernel's id of the program; `None` where its pin is gone.
    pub id: Option<u32>,
    /// Hash over its instructions: the same for the same build.
    pub tag: Option<u64>,
}

impl Attachments {
    /// Every program that this agent attached or adopted.
    pub fn programs(&self) -> Vec<Running> {
        let tags: BTreeMap<u32, u64> =
            loaded_programs().filter_map(Result::ok).map(|program| (program.id(), program.tag())).collect();
        let ids = self.program_ids();
        let running = |attached: &Attached| {
            let id = ids.get(&(attached.ifindex, attached.hook)).copied();
            Running { attached: attached.clone(), id, tag: id.and_then(|id| tags.get(&id).copied()) }
        };
        self.list().map(running).collect()
    }
}

/// The program behind a pin: of a link, or beside a filter.
pub(super) fn program_of(pin: &Pin) -> Option<u32> {
    match pin.hold {
        Hold::Link => {
            let link = FdLink::from(PinnedLink::from_pin(&pin.path).ok()?);
            Some(link.info().ok()?.program_id())
        }
        Hold::Filter => Some(ProgramInfo::from_pin(&pin.path).ok()?.id()),
    }
}
