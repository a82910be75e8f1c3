//! The agent's configuration file, validated. Knows nothing of the kernel: whether a device exists
//! is found out while running.

mod file;
mod interfaces;
mod limits;
mod nat;
mod probe;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::compile::image::Limits;
use crate::compile::services::nat::Nat;
use crate::desired::egress::DefaultEgress;
use crate::desired::interface::Interface;
use crate::desired::route::Probe;
use crate::input::problem::Problem;
pub use probe::{ProbeKindWord, ProbeSpec};

pub const DEFAULT_PATH: &str = "/etc/netroute/agent.yaml";
pub const DEFAULT_MANIFESTS: &str = "/etc/netroute/manifests";
pub const DEFAULT_SOCKET: &str = "/run/netroute/netroute.sock";
pub const DEFAULT_STATE_DIR: &str = "/var/lib/netroute";
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/netroute";
pub const DEFAULT_METRICS: &str = "127.0.0.1:9464";

/// Everything the agent is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    pub node_name: String,
    /// What `nodeSelector` of objects is matched with; always has `kubernetes.io/hostname`.
    pub node_labels: BTreeMap<String, String>,
    pub interfaces: Vec<Interface>,
    /// Directory of manifests.
    pub manifests: PathBuf,
    pub state_dir: PathBuf,
    /// Folder below a BPF file system; maps and links are pinned in a folder of the ABI version in it.
    pub bpffs: PathBuf,
    pub socket: PathBuf,
    /// Globs (`*`) over device names of the host ends of pod veths.
    pub pod_interfaces: Vec<String>,
    pub cluster_cidrs: ClusterCidrs,
    pub node_ports: NodePorts,
    /// Where Services may take `externalIPs` from; empty = nowhere.
    pub external_ips: Vec<IpNet>,
    /// What becomes of what leaves the cluster where no policy says.
    pub default_egress: DefaultEgress,
    /// Whether what a pod sends from another address than its own is dropped.
    pub anti_spoofing: bool,
    /// Source ports of masqueraded flows, and how long flows are kept.
    pub nat: Nat,
    pub limits: Limits,
    /// Whose sockets are translated to Services; `None` = nobody's.
    pub sockets: Option<SocketGroup>,
    /// Where Prometheus metrics are served; `None` = off.
    pub metrics: Option<SocketAddr>,
    /// How long a recovered next hop must stay healthy before it is used again.
    pub hold_time: Duration,
    /// For next hops of routes that name no probe.
    pub probe: Option<Probe>,
}

/// A control group of version 2: the processes in it and below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketGroup {
    /// All of the machine, wherever the groups are mounted.
    Root,
    At(PathBuf),
}

/// Address ranges of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterCidrs {
    pub pods: Vec<IpNet>,
    pub services: Vec<IpNet>,
    pub nodes: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePorts {
    /// Which of the node's own addresses answer; empty = all that may (S13).
    pub addresses: Vec<IpNet>,
    pub range: RangeInclusive<u16>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot be read: {source}; name the agent's configuration with --config", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Invalid(Problem),
}

impl AgentConfig {
    /// # Errors
    /// When the file cannot be read or says something wrong; the error names file and line.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path).map_err(ConfigError::Invalid)
    }

    /// `file` only appears in the problem.
    ///
    /// # Errors
    /// The first problem found.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Problem> {
        file::parse(text, file)
    }
}

#[cfg(test)]
mod tests;
