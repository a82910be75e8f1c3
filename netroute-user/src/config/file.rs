//! `agent.yaml` as it is written. Every key is documented here and shown in `examples/agent.yaml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::interfaces::{InterfaceEntry, interfaces};
use super::limits::LimitsEntry;
use super::nat::NatEntry;
use super::probe::{ProbeSpec, parse_duration};
use super::{
    AgentConfig, ClusterCidrs, DEFAULT_BPFFS, DEFAULT_MANIFESTS, DEFAULT_METRICS, DEFAULT_SOCKET,
    DEFAULT_STATE_DIR, NodePorts, SocketGroup,
};
use crate::desired::egress::DefaultEgress;
use crate::desired::service::NODE_PORT_RANGE;
use crate::input::address::{LeadingZeros, parse_prefix};
use crate::input::problem::Problem;
use crate::input::yaml::{Document, Step, documents, written};

/// Far beyond it, the time at which a hold ends could not be told.
const LONGEST_HOLD: Duration = Duration::from_secs(24 * 3600);

/// The whole file. Unknown keys are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfigFile {
    /// This node's name in the cluster. Default: the host name.
    node_name: Option<String>,
    /// Labels that `nodeSelector` of objects is matched with; `kubernetes.io/hostname` is implied.
    #[serde(default)]
    node_labels: BTreeMap<String, String>,
    /// The NICs the agent works on. Required, at least one.
    interfaces: Vec<InterfaceEntry>,
    /// Where desired state comes from. Default: manifests in `/etc/netroute/manifests`.
    #[serde(default)]
    source: Source,
    /// Where routes of the command line are kept. Default `/var/lib/netroute`.
    state_dir: Option<PathBuf>,
    /// Folder for pinned maps and links, on a BPF file system. Default `/sys/fs/bpf/netroute`.
    bpffs: Option<PathBuf>,
    /// Unix socket of the agent's API. Default `/run/netroute/netroute.sock`.
    socket: Option<PathBuf>,
    /// Globs over device names of the host ends of pod veths. Default `["cali*", "veth*"]`.
    pod_interfaces: Option<Vec<String>>,
    /// Address ranges of the cluster. Default: none.
    #[serde(default)]
    cluster_cidrs: ClusterCidrsEntry,
    #[serde(default)]
    node_ports: NodePortsEntry,
    #[serde(default, rename = "externalIPs")]
    external_ips: ExternalIpsEntry,
    /// What becomes of what pods send out of the cluster where no EgressPolicy says: `Allow` (default),
    /// `Masquerade` or `Deny`. The node's own traffic is judged by policies that name it, and not by this.
    #[serde(default)]
    default_egress: DefaultEgressWord,
    /// Drops what a pod sends from another address than its own. Default true.
    anti_spoofing: Option<bool>,
    /// Translation to Services at the sockets of processes; `null` switches it off.
    #[serde(default = "SocketsEntry::on")]
    sockets: Option<SocketsEntry>,
    /// Ports and timeouts of flows.
    #[serde(default)]
    nat: NatEntry,
    /// Capacities of the maps.
    #[serde(default)]
    limits: LimitsEntry,
    /// Prometheus metrics; `null` switches them off.
    #[serde(default = "MetricsEntry::on")]
    metrics: Option<MetricsEntry>,
    #[serde(default)]
    failover: FailoverEntry,
    /// For next hops of routes that name no probe. Default: kind `none`.
    probe: Option<ProbeSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Source {
    /// Directory with YAML or JSON manifests; watched.
    manifests: Option<PathBuf>,
    /// Kubernetes API; not in this version.
    kubernetes: Option<serde_norway::Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClusterCidrsEntry {
    /// Pod addresses of the whole cluster.
    #[serde(default)]
    pods: Vec<String>,
    /// Service addresses (ClusterIPs).
    #[serde(default)]
    services: Vec<String>,
    /// Node addresses.
    #[serde(default)]
    nodes: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NodePortsEntry {
    /// Which of the node's own addresses answer node ports. Default: all. Never those of
    /// loopback, link-local ones, and those of pods' interfaces.
    #[serde(default)]
    addresses: Vec<String>,
    /// First and last port that Services may have as node port. Default `30000-32767`.
    range: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExternalIpsEntry {
    /// Ranges that Services may take `externalIPs` from. Default: none, since whoever may write a
    /// Service could take traffic to any address otherwise (CVE-2020-8554).
    #[serde(default)]
    allow: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum DefaultEgressWord {
    #[default]
    Allow,
    Masquerade,
    Deny,
}

impl From<DefaultEgressWord> for DefaultEgress {
    fn from(word: DefaultEgressWord) -> Self {
        match word {
            DefaultEgressWord::Allow => Self::Allow,
            DefaultEgressWord::Masquerade => Self::Masquerade,
            DefaultEgressWord::Deny => Self::Deny,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MetricsEntry {
    /// Address and port. Default `127.0.0.1:9464`.
    address: Option<String>,
}

impl MetricsEntry {
    #[expect(clippy::unnecessary_wraps, reason = "the default of an optional key: `null` means off")]
    fn on() -> Option<Self> {
        Some(Self { address: None })
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SocketsEntry {
    /// Control group (version 2) of the processes. Default: the root of those that are mounted.
    cgroup: Option<PathBuf>,
}

impl SocketsEntry {
    #[expect(clippy::unnecessary_wraps, reason = "the key's type, whose absence means on")]
    fn on() -> Option<Self> {
        Some(Self::default())
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FailoverEntry {
    /// How long a recovered next hop must stay healthy before it is used again, at most `24h`. Default `3s`.
    hold_time: Option<String>,
}

/// Something wrong with the value at a path.
pub(super) struct Wrong<'a> {
    path: Vec<Step<'a>>,
    message: String,
}

impl<'a> Wrong<'a> {
    pub(super) fn at<const N: usize>(path: [&'a str; N], message: impl ToString) -> Self {
        Self { path: path.into_iter().map(Step::Key).collect(), message: message.to_string() }
    }
}

pub fn parse(text: &str, file: &Path) -> Result<AgentConfig, Problem> {
    let found = documents(text);
    let document = match found.as_slice() {
        [one] => one,
        [] => return Err(Problem::new(file, None, "the file is empty; see examples/agent.yaml")),
        [_, second, ..] => {
            let line = Some(second.lines_before + 1);
            return Err(Problem::new(file, line, "a second YAML document; the configuration is one"));
        }
    };
    let parsed = document.parse().map_err(|error| Problem::new(file, error.line, error.message))?;
    validate(parsed).map_err(|wrong| problem(file, document, wrong))
}

fn problem(file: &Path, document: &Document<'_>, Wrong { path, message }: Wrong<'_>) -> Problem {
    Problem::new(file, document.locate(&path), format!("{}: {message}", written(&path)))
}

fn validate(parsed: ConfigFile) -> Result<AgentConfig, Wrong<'static>> {
    let ConfigFile {
        node_name,
        mut node_labels,
        interfaces: entries,
        source,
        state_dir,
        bpffs,
        socket,
        pod_interfaces,
        cluster_cidrs,
        node_ports,
        external_ips,
        default_egress,
        anti_spoofing,
        sockets,
        nat,
        limits,
        metrics,
        failover,
        probe,
    } = parsed;
    let node_name = node_name_or_host(node_name)?;
    node_labels.insert("kubernetes.io/hostname".to_owned(), node_name.clone());
    if entries.is_empty() {
        return Err(Wrong::at(["interfaces"], "is empty; list at least one NIC with alias, device and role"));
    }
    let interfaces = interfaces(&entries)
        .map_err(|error| Wrong { path: error.path().to_vec(), message: error.message })?;
    let node_port_range = port_range(["nodePorts", "range"], node_ports.range, NODE_PORT_RANGE)?;
    let nat = nat.checked(&node_port_range)?;
    let path = |key, given: Option<PathBuf>, default| absolute([key], given, default);
    Ok(AgentConfig {
        node_name,
        node_labels,
        interfaces,
        manifests: manifests(source)?,
        state_dir: path("stateDir", state_dir, DEFAULT_STATE_DIR)?,
        bpffs: path("bpffs", bpffs, DEFAULT_BPFFS)?,
        socket: path("socket", socket, DEFAULT_SOCKET)?,
        pod_interfaces: globs(pod_interfaces)?,
        cluster_cidrs: cidrs(&cluster_cidrs)?,
        node_ports: NodePorts {
            addresses: prefixes(["nodePorts", "addresses"], &node_ports.addresses)?,
            range: node_port_range,
        },
        external_ips: prefixes(["externalIPs", "allow"], &external_ips.allow)?,
        default_egress: default_egress.into(),
        anti_spoofing: anti_spoofing.unwrap_or(true),
        sockets: sockets.map(socket_group).transpose()?,
        nat,
        limits: limits.checked().map_err(|error| Wrong::at(["limits", error.key], error))?,
        metrics: metrics.map(address).transpose()?,
        hold_time: hold_time(&failover)?,
        probe: match probe {
            Some(spec) => spec.probe().map_err(|error| Wrong::at(["probe"], error))?,
            None => None,
        },
    })
}

fn node_name_or_host(given: Option<String>) -> Result<String, Wrong<'static>> {
    let name = match given {
        Some(name) => name,
        None => nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default(),
    };
    if name.trim().is_empty() {
        return Err(Wrong::at(["nodeName"], "is empty; give this node's name in the cluster"));
    }
    Ok(name)
}

fn manifests(source: Source) -> Result<PathBuf, Wrong<'static>> {
    let Source { manifests, kubernetes } = source;
    if kubernetes.is_some() {
        let message = "not in this version; use source: {manifests: DIRECTORY}";
        return Err(Wrong::at(["source", "kubernetes"], message));
    }
    absolute(["source", "manifests"], manifests, DEFAULT_MANIFESTS)
}

fn absolute<const N: usize>(
    key: [&'static str; N],
    given: Option<PathBuf>,
    default: &str,
) -> Result<PathBuf, Wrong<'static>> {
    let path = given.unwrap_or_else(|| PathBuf::from(default));
    if !path.is_absolute() {
        return Err(Wrong::at(key, format!("\"{}\" must be an absolute path", path.display())));
    }
    Ok(path)
}

fn globs(given: Option<Vec<String>>) -> Result<Vec<String>, Wrong<'static>> {
    let globs = given.unwrap_or_else(|| vec!["cali*".to_owned(), "veth*".to_owned()]);
    for (index, glob) in globs.iter().enumerate() {
        let wrong = |message| Wrong { path: vec![Step::Key("podInterfaces"), Step::Index(index)], message };
        if glob.chars().all(|c| c == '*') {
            return Err(wrong(format!("\"{glob}\" would match every device; write a prefix, like cali*")));
        }
        if glob.contains(|c: char| c.is_whitespace() || "/?[]{}".contains(c)) {
            return Err(wrong(format!("\"{glob}\" is no device name; only * stands for other characters")));
        }
    }
    Ok(globs)
}

fn cidrs(entry: &ClusterCidrsEntry) -> Result<ClusterCidrs, Wrong<'static>> {
    let ClusterCidrsEntry { pods, services, nodes } = entry;
    let list = |key, texts| prefixes(["clusterCidrs", key], texts);
    Ok(ClusterCidrs {
        pods: list("pods", pods)?,
        services: list("services", services)?,
        nodes: list("nodes", nodes)?,
    })
}

fn prefixes(key: [&'static str; 2], texts: &[String]) -> Result<Vec<IpNet>, Wrong<'static>> {
    let [outer, inner] = key;
    let parse = |(index, text): (usize, &String)| {
        parse_prefix(text, LeadingZeros::Decimal).map_err(|error| Wrong {
            path: vec![Step::Key(outer), Step::Key(inner), Step::Index(index)],
            message: error.to_string(),
        })
    };
    texts.iter().enumerate().map(parse).collect()
}

pub(super) fn port_range(
    key: [&'static str; 2],
    given: Option<String>,
    default: RangeInclusive<u16>,
) -> Result<RangeInclusive<u16>, Wrong<'static>> {
    let Some(text) = given else { return Ok(default) };
    let ports = text.split_once('-').and_then(|(first, last)| {
        Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?))
    });
    match ports {
        Some((first, last)) if 0 < first && first <= last => Ok(first..=last),
        _ => {
            let (first, last) = default.into_inner();
            Err(Wrong::at(key, format!("\"{text}\" is not FIRST-LAST, two ports like {first}-{last}")))
        }
    }
}

fn socket_group(entry: SocketsEntry) -> Result<SocketGroup, Wrong<'static>> {
    let Some(path) = entry.cgroup else { return Ok(SocketGroup::Root) };
    absolute(["sockets", "cgroup"], Some(path), "").map(SocketGroup::At)
}

fn address(entry: MetricsEntry) -> Result<SocketAddr, Wrong<'static>> {
    let text = entry.address.unwrap_or_else(|| DEFAULT_METRICS.to_owned());
    text.parse().map_err(|_| {
        let message =
            format!("\"{text}\" is not ADDRESS:PORT, like {DEFAULT_METRICS}; null switches metrics off");
        Wrong::at(["metrics", "address"], message)
    })
}

fn hold_time(entry: &FailoverEntry) -> Result<Duration, Wrong<'static>> {
    let text = entry.hold_time.as_deref().unwrap_or("3s");
    let wrong = |message: String| Wrong::at(["failover", "holdTime"], message);
    let hold_time = parse_duration(text).map_err(|error| wrong(error.to_string()))?;
    if hold_time > LONGEST_HOLD {
        return Err(wrong(format!("{text} is longer than 24h")));
    }
    Ok(hold_time)
}
