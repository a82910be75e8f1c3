//! Services and their flows, as they go over the socket.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use crate::apply::flows::FlowState;

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    pub namespace: String,
    pub name: String,
    /// `ClusterIP`, `NodePort`, `LoadBalancer`.
    #[serde(rename = "type")]
    pub kind: String,
    pub port: u16,
    /// Empty if it has none.
    pub port_name: String,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    pub front_ends: Vec<FrontEndView>,
    pub endpoints: Vec<EndpointView>,
    /// Both directions.
    pub packets: u64,
    pub bytes: u64,
    pub new_flows: u64,
    /// Packets that met no usable endpoint.
    pub no_endpoint: u64,
    /// What is wrong with the Service, one line each; the same for all of its ports.
    pub conditions: Vec<String>,
    /// Why the port is not served.
    pub refused: Option<String>,
}

/// One address at which clients reach a Service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontEndView {
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalIP`.
    pub kind: String,
    pub address: SocketAddr,
    /// Traffic policy: `Cluster`, `Local`.
    pub policy: String,
    /// How many endpoints clients outside of the cluster can get there.
    pub endpoints: u32,
    /// What they meet if that is none: `reject`, `drop`.
    pub without_endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    pub address: SocketAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// A pod of this node.
    pub local: bool,
    /// By one front end at least.
    pub used: bool,
}

/// One flow, as the client began it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowView {
    /// `TCP`, `UDP`, …; a number for others.
    pub protocol: String,
    /// Ports are identifiers for ICMP echo.
    pub client: SocketAddr,
    pub front_end: SocketAddr,
    pub endpoint: SocketAddr,
    /// What the endpoint sees as its client, if that is not the client.
    pub masquerade: Option<SocketAddr>,
    /// Empty if it is to no Service, or to one that is not there any more.
    pub service: String,
    /// The egress policy that let it out; empty for what does not leave the cluster.
    pub policy: String,
    pub state: FlowState,
    /// From the client.
    pub packets: u64,
    pub bytes: u64,
    pub reply_packets: u64,
    pub reply_bytes: u64,
    /// Since the last packet, either way.
    pub idle_seconds: u64,
}

/// Flows, up to the limit that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowsView {
    pub flows: Vec<FlowView>,
    /// How many there are, those beyond the limit included.
    pub total: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlushView {
    /// Flows.
    pub removed: u64,
}

/// One flow table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowTableView {
    /// `OPENING4`, `FLOWS6`, …
    pub map: String,
    /// `IPv4`, `IPv6`.
    pub family: String,
    /// Entries, two for each flow, when they were last counted.
    pub states: BTreeMap<FlowState, u32>,
    /// Flows by the address of this node that their packets leave with.
    pub translated: BTreeMap<IpAddr, u32>,
    pub capacity: u32,
}

impl FlowTableView {
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.states.values().sum()
    }
}
