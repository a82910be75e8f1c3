//! Egress policies, as they go over the socket.

use serde::{Deserialize, Serialize};

pub use crate::compile::egress::condition::State as EgressState;

/// One policy on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressView {
    pub name: String,
    /// Lower wins.
    pub priority: u32,
    /// `Allow`, `Deny`, `Masquerade`, `Snat`; empty if what is written is none of these.
    pub action: String,
    pub state: EgressState,
    /// What there is to say of it.
    pub conditions: Vec<EgressCondition>,
    /// Who sends, one line.
    pub from: String,
    /// Prefixes, and those left out behind a `!`.
    pub to: Vec<String>,
    /// `TCP 554-560`; empty = everything.
    pub ports: Vec<String>,
    pub snat: Vec<String>,
    /// `192.168.20.1 on Port3 metric 100`; empty = the route decides.
    pub via: Vec<String>,
    /// Pods of this node that it selects.
    pub pods: u32,
    /// Both directions, sent on.
    pub packets: u64,
    pub bytes: u64,
    pub new_flows: u64,
    /// Packets.
    pub denied: u64,
    /// Since the last packet, if there was one.
    pub last_hit_seconds: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressCondition {
    /// One word.
    pub reason: String,
    pub message: String,
}
