//! Members as the map entry that holds them.

use netroute_common::layout::route::{Group, MAX_MEMBERS, Member};

/// At most [`MAX_MEMBERS`] members, in their order.
pub(super) fn group_of(members: &[Member]) -> Group {
    let mut group = Group { len: members.len() as u32, members: [Member::default(); MAX_MEMBERS] };
    group.members[..members.len()].copy_from_slice(members);
    group
}
