//! Checks of the kernel and the NICs, each with what was found and what to do. The judgement is
//! pure, over [`Facts`]; `collect` reads them.

mod collect;
mod judge;
pub mod ports;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::ports::LocalPorts;
use super::nic::XdpMode;
use crate::compile::mirror::FibKey;
use crate::compile::services::nat::Nat;

pub use collect::{Subject, collect};
pub use judge::judge;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub level: Level,
    /// One line.
    pub finding: String,
    /// What to do, one line; empty if nothing.
    pub fix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Warn,
    Fail,
}

/// What the checks look at. `None` = could not be read, which is no finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Major and minor version.
    pub kernel: Option<(u32, u32)>,
    /// The kernel describes its types (`/sys/kernel/btf/vmlinux`).
    pub btf: bool,
    /// A BPF file system is mounted where the agent pins its maps.
    pub bpffs: bool,
    /// That folder, for the text.
    pub bpffs_path: String,
    /// `net.core.bpf_jit_enable`; `None` also where the JIT cannot be switched off.
    pub jit: Option<u8>,
    /// `net.ipv4.ip_forward`.
    pub forward4: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`; `None` also without IPv6.
    pub forward6: Option<bool>,
    /// Ports that flows are masqueraded with.
    pub nat: Nat,
    /// Ports of processes.
    pub local_ports: Option<LocalPorts>,
    /// `net.ipv4.conf.all.rp_filter`.
    pub rp_filter_all: Option<u8>,
    /// Policy routing rules beside the kernel's own: priority and family.
    pub policy_rules: Vec<(u32, &'static str)>,
    /// Custom routes for whose prefix the kernel has a foreign route of a better or equal metric,
    /// with that metric.
    pub shadowed: Vec<(FibKey, u32)>,
    /// Neighbours that the agent asked the kernel to keep resolved: whether it does; `None` if there
    /// are none.
    pub managed_neighbours: Option<bool>,
    pub sockets: Sockets,
    pub nics: Vec<Nic>,
}

/// Whether processes reach Services at their sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sockets {
    #[default]
    Served,
    /// By configuration.
    Off,
    Refused {
        reason: String,
        fix: String,
    },
}

/// One of the configured interfaces, present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nic {
    /// Device name.
    pub name: String,
    pub mtu: u32,
    /// Virtual devices have other limits than drivers of hardware.
    pub kind: Option<String>,
    /// Name of the bond, team or bridge it is a port of.
    pub master: Option<String>,
    /// An address of it, if all are dynamic.
    pub dynamic_only: Option<String>,
    /// `net.ipv4.conf.NAME.rp_filter`.
    pub rp_filter: Option<u8>,
    /// Offloads that are on.
    pub features: Option<BTreeSet<String>>,
    pub xdp: Option<XdpMode>,
    pub xdp_transmit: Option<bool>,
    /// Served by a TC filter instead of a TCX link.
    pub filter: bool,
}
