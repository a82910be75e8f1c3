//! The ways a prefix could go, in their order.

use netroute_common::layout::route::Member;

use super::health::Health;
use crate::desired::route::RouteKey;

/// What kind of route, and its metric.
pub(super) type Rank = (u8, u32);

/// Of kernel routes of the local table.
pub(super) const LOCAL: Rank = (0, 0);
/// Of addresses of Services.
pub(super) const SERVICE: Rank = (1, 0);

/// Of all other routes.
pub(super) const fn by_metric(metric: u32) -> Rank {
    (2, metric)
}

/// One way a prefix could go.
pub(super) struct Candidate<'a> {
    /// Order among the candidates: [`LOCAL`], [`SERVICE`], then by metric.
    pub(super) rank: Rank,
    pub(super) next_hop: u32,
    pub(super) weight: u8,
    /// `None` for what always has an answer: the fixed kinds.
    pub(super) health: Option<Health>,
    pub(super) custom: Option<&'a RouteKey>,
}

pub(super) fn standby_reason(used: &Candidate<'_>) -> String {
    let (_, metric) = used.rank;
    match (used.custom, used.rank) {
        (Some(_), _) => format!("metric {metric} is in use"),
        (None, LOCAL) => "the destination is an address of this node".to_owned(),
        (None, SERVICE) => "the destination is an address of Services".to_owned(),
        (None, _) => format!("the kernel's own route of metric {metric} is in use"),
    }
}

/// Members in candidate order; each new rank is a new tier.
pub(super) fn members(candidates: &[Candidate<'_>]) -> Vec<Member> {
    let mut tier = 0;
    let mut last = None;
    let mut members = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        if last.is_some_and(|last| last != candidate.rank) {
            tier += 1;
        }
        last = Some(candidate.rank);
        let Candidate { next_hop, weight, .. } = *candidate;
        members.push(Member { next_hop, tier, weight, inverse: Member::inverse_of(weight) });
    }
    members
}
