//! What became of each policy, and why.

use std::net::IpAddr;

use crate::desired::egress::Via;
use crate::desired::service::Family;

/// Without conditions there is nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyStatus {
    pub conditions: Vec<Condition>,
    /// Its slots of `EGRESS_STATS`.
    pub stats: Vec<u32>,
    /// Pods of this node that it selects.
    pub pods: usize,
}

impl PolicyStatus {
    #[must_use]
    pub fn state(&self) -> State {
        let any = |of: fn(&Condition) -> bool| self.conditions.iter().any(of);
        if any(|condition| condition.denies() || matches!(condition, Condition::Down(_))) {
            State::Degraded
        } else if any(|condition| matches!(condition, Condition::ShadowedBy(_))) {
            State::ShadowedBy
        } else {
            State::Ready
        }
    }
}

/// The `state` of a policy in JSON and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum State {
    Ready,
    /// Some of its traffic, or all, is denied for now.
    Degraded,
    /// All that it could apply to is another one's.
    ShadowedBy,
}

impl State {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Degraded => "Degraded",
            Self::ShadowedBy => "ShadowedBy",
        }
    }
}

/// One line each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Condition {
    #[error("{0}; its traffic is denied")]
    Invalid(String),
    #[error("via {via}: {reason}")]
    Via { via: Via, reason: String },
    #[error("no next hop of via can be used for {0}; such traffic is denied")]
    NoNextHop(Family),
    #[error(
        "via has no {0} next hop: such traffic is denied; add one, or give destinations of the other IP version"
    )]
    NoVia(Family),
    #[error("{0} does not answer, and no other next hop of via does: such traffic goes nowhere")]
    Down(Via),
    #[error("the address {0} is on no interface of this node that the traffic can leave by")]
    SnatElsewhere(IpAddr),
    #[error("snat has no {0} address that can be used: such traffic is denied")]
    NoSnat(Family),
    #[error("no address of snat is on {interface}: {family} traffic that would leave there is denied")]
    SnatNotOn { interface: String, family: Family },
    #[error(
        "there is no room for another policy: its traffic is denied; raise limits.egressPolicies (now {limit})"
    )]
    PoliciesFull { limit: u32 },
    #[error("there is no room for its addresses: its traffic is denied; raise limits.snat (now {limit})")]
    SnatFull { limit: u32 },
    #[error(
        "there is no room for the destinations of pods that it selects: all that these send out of the cluster is denied; raise limits.egress (now {limit})"
    )]
    EgressFull { limit: u32 },
    #[error(
        "there is no room for the rules of pods that it selects: all that these send out of the cluster is denied; raise limits.egressRules (now {limit})"
    )]
    RulesFull { limit: u32 },
    #[error(
        "too many policies and ports apply to the same destination: from the {limit}th rule on, traffic is denied"
    )]
    TooManyRules { limit: u16 },
    #[error("everything that it applies to is decided by {0}, which comes first")]
    ShadowedBy(String),
    #[error("its destinations belong to the cluster, whose own traffic is not judged")]
    ClusterInternal,
    #[error("it selects nothing on this node")]
    SelectsNothing,
}

impl Condition {
    /// One word, as conditions of Kubernetes objects have.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "Invalid",
            Self::Via { .. } => "NextHopUnusable",
            Self::NoNextHop(_) => "NoNextHop",
            Self::NoVia(_) => "NoNextHopOfFamily",
            Self::Down(_) => "NextHopDown",
            Self::SnatElsewhere(_) => "SnatAddressElsewhere",
            Self::NoSnat(_) => "NoSnatAddress",
            Self::SnatNotOn { .. } => "NoSnatAddressOnInterface",
            Self::PoliciesFull { .. } => "PoliciesFull",
            Self::SnatFull { .. } => "SnatFull",
            Self::EgressFull { .. } => "EgressFull",
            Self::RulesFull { .. } => "RulesFull",
            Self::TooManyRules { .. } => "TooManyRules",
            Self::ShadowedBy(_) => "ShadowedBy",
            Self::ClusterInternal => "ClusterInternal",
            Self::SelectsNothing => "SelectsNothing",
        }
    }

    /// Whether traffic is denied for it.
    #[must_use]
    pub const fn denies(&self) -> bool {
        match self {
            Self::Via { .. }
            | Self::Down(_)
            | Self::SnatElsewhere(_)
            | Self::ShadowedBy(_)
            | Self::ClusterInternal
            | Self::SelectsNothing => false,
            Self::Invalid(_)
            | Self::NoNextHop(_)
            | Self::NoVia(_)
            | Self::NoSnat(_)
            | Self::SnatNotOn { .. }
            | Self::PoliciesFull { .. }
            | Self::SnatFull { .. }
            | Self::EgressFull { .. }
            | Self::RulesFull { .. }
            | Self::TooManyRules { .. } => true,
        }
    }
}
