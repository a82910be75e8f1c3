//! Services and their flows, as they go over the socket.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

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
