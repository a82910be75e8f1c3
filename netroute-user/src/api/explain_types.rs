//! One packet's way, stage by stage, as it goes over the socket. Names are fixed: scripts rely on them.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::types::FlowState;

/// What would become of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainView {
    /// `shop/web` where a pod or a Service was named.
    pub from: String,
    pub to: String,
    /// `TCP`, `UDP`, `SCTP`, `ICMP`.
    pub protocol: String,
    /// Of an echo the source port is its identifier, and the destination's is 0.
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// In the order in which the packet meets them.
    pub steps: Vec<StepView>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "lowercase")]
pub enum StepView {
    /// A process's call is translated before there is a packet.
    Socket(SocketStepView),
    /// The kernel chooses the way.
    Kernel(KernelStepView),
    /// A program judges the packet.
    Hook(Box<HookStepView>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SocketStepView {
    pub service: String,
    pub endpoints: u32,
    /// One of them: each call chooses anew. `None` if the call fails.
    pub endpoint: Option<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelStepView {
    /// `None`: it has no way, for this reason.
    pub interface: Option<String>,
    pub next_hop: Option<IpAddr>,
    /// Of the next hop, or of the destination where that is on the interface's own network.
    pub neighbour: Option<NeighbourView>,
    /// It is for a process of this node.
    pub local: bool,
    /// Why there is no way; empty otherwise.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NeighbourView {
    /// The kernel's word: `reachable`, `stale`, `failed`, `none`, …
    pub state: String,
    pub mac: Option<String>,
}

/// One hook. A stage that was not asked, or has nothing to say, is `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookStepView {
    /// `xdp-nic`, `tc-nic`, `tc-pod`, `tc-out`.
    pub hook: String,
    pub interface: String,
    pub source_check: Option<SourceCheckView>,
    pub service: Option<ServiceStageView>,
    pub flow: Option<FlowStageView>,
    pub policy: Option<PolicyStageView>,
    pub snat: Option<SnatStageView>,
    pub route: Option<RouteStageView>,
    pub next_hop: Option<NextHopStageView>,
    pub frame: Option<FrameView>,
    /// `forward`, `pass`, `answer` or `drop`.
    pub verdict: String,
    /// As in `drops`.
    pub reason: String,
    pub explanation: String,
}

/// Whether a pod sends from its own address (E6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceCheckView {
    pub passed: bool,
    /// Whose address it is: the interface of the pod that has it.
    pub owner: Option<String>,
    /// `false`: policies do not ask for it on this node.
    pub in_force: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStageView {
    /// `NAMESPACE/NAME`.
    pub service: String,
    pub front_end: SocketAddr,
    pub endpoints: u32,
    /// The one that the packet gets.
    pub endpoint: Option<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowStageView {
    pub kind: FlowKind,
    /// Of a known flow.
    pub state: Option<FlowState>,
    /// The packet is an answer.
    pub reply: bool,
    /// What its packets become.
    pub source: Option<SocketAddr>,
    pub destination: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowKind {
    /// It belongs to one.
    Known,
    /// It opens one.
    New,
    /// It needs none.
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStageView {
    /// The one that decides; `None` if none was asked, and `reason` says why.
    pub policy: Option<String>,
    pub priority: Option<u32>,
    /// `Allow`, `Deny`, `Masquerade`, `Snat`.
    pub action: String,
    /// Others that apply to the packet and come later, in the order in which they would be asked.
    pub shadows: Vec<String>,
    /// What there is to say of it, as in `egress show`.
    pub conditions: Vec<String>,
    pub reason: String,
}

/// Whose address the packet leaves with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnatStageView {
    pub address: IpAddr,
    /// The one that the packet gets; `None` if none is free.
    pub port: Option<u16>,
    /// Those to choose from; `None` of a flow that has its port already.
    pub first_port: Option<u16>,
    pub last_port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStageView {
    /// Where to, after all translation.
    pub destination: IpAddr,
    /// `None`: no route; or not the route decides.
    pub prefix: Option<IpNet>,
    /// `cli`, `manifest FILE (NAME)`, `kernel`, …; or what decides in the route's place.
    pub origin: String,
    /// Of the next hop that is taken, where it has one.
    pub metric: Option<u32>,
    /// Why this next hop, in one line.
    pub why: String,
    /// All next hops, the preferred ones first.
    pub next_hops: Vec<MemberView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    pub address: Option<IpAddr>,
    pub interface: String,
    pub metric: Option<u32>,
    /// 0 is the best metric.
    pub tier: u8,
    pub weight: u8,
    pub alive: bool,
    pub chosen: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NextHopStageView {
    pub address: Option<IpAddr>,
    pub interface: String,
    pub alive: bool,
    /// Why it is not; empty otherwise.
    pub reason: String,
    pub neighbour: NeighbourView,
}

/// The packet as it leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrameView {
    /// Where it leaves: a NIC, or the host end of a pod's veth.
    pub interface: String,
    pub source_mac: String,
    pub destination_mac: String,
    pub source: SocketAddr,
    pub destination: SocketAddr,
}
