//! What became of the next hops that policies name.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::Condition;
use crate::desired::service::Family;

/// Of one policy that names any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::compile) struct Ways {
    /// By IP version.
    pub(in crate::compile) of: [Way; 2],
    /// Where its traffic can leave.
    pub(in crate::compile) interfaces: BTreeSet<(Family, u32)>,
    pub(in crate::compile) conditions: Vec<Condition>,
}

/// Which way the traffic of one IP version goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::compile) enum Way {
    /// Index into `GROUPS`.
    Group(u32),
    /// No next hop is of that IP version.
    NotGiven,
    /// None of them can be used.
    Unusable,
}

/// By the policy's name; those without next hops are left out.
pub(in crate::compile) type AllWays = BTreeMap<String, Ways>;
