//! What goes over the socket, both ways. The words are those of the configuration, the maps and
//! the metrics.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use super::egress_types::{EgressCondition, EgressState, EgressView};
pub use super::explain_types::ExplainView;
pub use super::service_types::{
    EndpointView, FlowState, FlowTableView, FlowView, FlowsView, FlushView, FrontEndView, ServiceView,
};
pub use crate::compile::status::State;
pub use crate::input::problem::Problem;

/// One route of a list: a custom one, or with `--all` any of the compiled table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    pub destination: IpNet,
    /// `None`: delivered on the interface itself (connected, local).
    pub next_hop: Option<IpAddr>,
    /// The operator's name: alias, or device name.
    pub interface: String,
    pub metric: u32,
    pub weight: u8,
    pub state: State,
    /// One line; empty when there is nothing to say.
    pub reason: String,
    /// `cli`, `manifest FILE (NAME)`, `kernel`.
    pub origin: String,
    /// Of the whole prefix, in every route of it.
    pub packets: u64,
    pub bytes: u64,
}

/// A route to be added: the key and all its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteEntry {
    /// Prefix without host bits, or one address.
    pub destination: String,
    pub next_hop: String,
    pub interface: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u8>,
    /// Accept an interface that has only dynamic addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportView {
    /// Keys that were not there before.
    pub added: u32,
    /// Keys whose values changed.
    pub changed: u32,
    pub unchanged: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NextHopView {
    /// Index into `NEXTHOPS`.
    pub id: u32,
    pub interface: String,
    /// `None`: not a neighbour (a fixed entry, a pod).
    pub address: Option<IpAddr>,
    /// Metrics of the routes that use it, ascending.
    pub metrics: Vec<u32>,
    /// How many routes use it.
    pub routes: u32,
    /// The kernel's word: `reachable`, `stale`, `failed`, `none`, …
    pub neighbour: String,
    pub mac: Option<String>,
    pub alive: bool,
    /// Why it is not alive; empty otherwise.
    pub reason: String,
    pub packets: u64,
    pub bytes: u64,
}

/// What happens to packets to an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteGetView {
    pub address: IpAddr,
    /// `None`: no route matches.
    pub prefix: Option<IpNet>,
    pub next_hop: Option<IpAddr>,
    pub interface: Option<String>,
    pub mac: Option<String>,
    pub origin: String,
    pub path: Path,
    /// A reason's name, as in `drops`.
    pub reason: String,
    pub explanation: String,
}

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// The BPF programs.
    Fast,
    /// The kernel.
    Kernel,
}

/// One counter of `VERDICTS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropsView {
    /// `xdp-nic`, `tc-nic`, `tc-pod`.
    pub hook: String,
    pub reason: String,
    /// `forward`, `pass`, `answer` or `drop`.
    pub verdict: String,
    pub packets: u64,
    pub bytes: u64,
    pub explanation: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    pub health: Health,
    pub node_name: String,
    pub version: String,
    pub abi: u32,
    pub uptime_seconds: u64,
    pub interfaces: Vec<InterfaceView>,
    pub programs: Vec<ProgramView>,
    pub maps: Vec<MapView>,
    pub flows: Vec<FlowTableView>,
    /// Memory of all maps, bytes.
    pub map_bytes: u64,
    pub counts: CountsView,
    pub last_apply: Option<ApplyView>,
    pub problems: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Ok,
    /// Forwarding, with a problem that someone should look at.
    Degraded,
    /// Not forwarding in the fast path.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceView {
    pub alias: String,
    /// `None` while the device is absent.
    pub device: Option<String>,
    pub ifindex: Option<u32>,
    pub role: String,
    pub carrier: bool,
    pub xdp: AttachMode,
    pub tc: bool,
    /// Why it is not attached or not natively; empty otherwise.
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    Native,
    Generic,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramView {
    pub name: String,
    pub id: u32,
    pub tag: String,
    pub interface: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapView {
    pub name: String,
    pub used: u32,
    pub max: u32,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CountsView {
    /// Custom routes, and by state.
    pub routes: u32,
    pub active: u32,
    pub standby: u32,
    pub pending: u32,
    pub down: u32,
    pub invalid: u32,
    pub next_hops: u32,
    pub failovers: u64,
    /// Ports of Services that are served, and those there is no room for.
    pub service_ports: u32,
    pub refused_service_ports: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyView {
    pub duration_micros: u64,
    pub steps: u32,
    pub seconds_ago: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DoctorView {
    pub checks: Vec<CheckView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckView {
    pub name: String,
    pub result: CheckResult,
    pub finding: String,
    /// What to do; empty when `result` is `ok`.
    pub fix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckResult {
    Ok,
    Warn,
    Fail,
}

/// Image against kernel: one line per difference, empty when they agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiffView {
    pub lines: Vec<String>,
}

/// Body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorView {
    /// One line: what, where, what to do.
    pub message: String,
}
