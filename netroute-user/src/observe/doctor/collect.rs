//! Reads the facts: `/proc` and `/sys` of this network namespace, netlink, ethtool.

use std::path::Path;
use std::str::FromStr;

use netlink_packet_core::parse_u32;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::rule::RuleMessage;
use netroute_common::abi::RTPROT_NETROUTE;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::ports::LocalPorts;
use super::{Facts, Nic, Sockets};
use crate::compile::admission::dynamic_only;
use crate::compile::mirror::{Fib, FibKey};
use crate::compile::services::nat::Nat;
use crate::input::netlink::parse::neighbour::neighbour;
use crate::kernel::{KernelState, Link};
use crate::netlink::NetlinkError;
use crate::netlink::genl;
use crate::netlink::request::{Request, Requests};
use crate::netlink::socket::Protocol;
use crate::observe::nic;

const RTM_GETNEIGH: u16 = 30;
const RTM_GETRULE: u16 = 34;
const RULE_HEADER_BYTES: usize = 12;
const FRA_PRIORITY: u16 = 6;
/// Priorities of the rules that every namespace has: local, main, default.
const KERNEL_RULES: [u32; 3] = [0, 32766, 32767];
const TABLE_MAIN: u32 = 254;

/// What the facts are about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub state: &'a KernelState,
    /// Interface indices of the configured interfaces that are present.
    pub interfaces: &'a [u32],
    pub routes: &'a Fib,
    /// Interface indices that the agent serves by TC filters.
    pub filters: &'a [u32],
    pub sockets: &'a Sockets,
    pub nat: Nat,
    /// Folder that maps are pinned in (need not exist yet).
    pub bpffs: &'a Path,
}

/// Reads everything anew; what cannot be read stays `None`.
pub async fn collect(subject: Subject<'_>) -> Result<Facts, NetlinkError> {
    let Subject { state, interfaces, routes, filters, sockets, nat, bpffs } = subject;
    let modes = nic::xdp_modes().await?;
    let mut nics = Vec::new();
    for link in interfaces.iter().filter_map(|index| state.links.get(index)) {
        let mut facts = describe(link, state);
        facts.features = nic::active_features(link.index).await?;
        facts.filter = filters.contains(&link.index);
        facts.xdp = modes.get(&link.index).copied();
        nics.push(facts);
    }
    let on = |path: &str| read::<u8>(path).map(|value| value != 0);
    Ok(Facts {
        kernel: kernel_version(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        bpffs: is_bpffs(bpffs),
        bpffs_path: bpffs.display().to_string(),
        jit: read("/proc/sys/net/core/bpf_jit_enable"),
        forward4: on("/proc/sys/net/ipv4/ip_forward"),
        forward6: on("/proc/sys/net/ipv6/conf/all/forwarding"),
        nat,
        local_ports: LocalPorts::read(),
        rp_filter_all: read("/proc/sys/net/ipv4/conf/all/rp_filter"),
        policy_rules: policy_rules().await?,
        shadowed: shadowed(state, routes),
        managed_neighbours: managed_neighbours().await?,
        sockets: sockets.clone(),
        nics,
    })
}

fn describe(link: &Link, state: &KernelState) -> Nic {
    let master = link.master.and_then(|master| state.links.get(&master));
    Nic {
        name: link.name.clone(),
        mtu: link.mtu,
        kind: link.kind.clone(),
        master: master.map(|master| master.name.clone()),
        dynamic_only: dynamic_only(link.index, &state.addresses).map(|held| held.address.to_string()),
        rp_filter: read(&format!("/proc/sys/net/ipv4/conf/{}/rp_filter", link.name)),
        features: None,
        xdp: None,
        xdp_transmit: link.xdp_transmit,
        filter: false,
    }
}

fn read<T: FromStr>(path: &str) -> Option<T> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn kernel_version() -> Option<(u32, u32)> {
    parse_version(&std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?)
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether the nearest folder that exists lies in a BPF file system.
fn is_bpffs(path: &Path) -> bool {
    let nearest = path.ancestors().find(|folder| folder.exists());
    nearest.and_then(|folder| statfs(folder).ok()).is_some_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

async fn policy_rules() -> Result<Vec<(u32, &'static str)>, NetlinkError> {
    let mut requests = Requests::open(Protocol::Route)?;
    let mut found = Vec::new();
    for (family, name) in [(AddressFamily::Inet, "IPv4"), (AddressFamily::Inet6, "IPv6")] {
        let mut message = RuleMessage::default();
        message.header.family = family;
        let request = Request::new(RTM_GETRULE, 0, &message);
        let dump = requests.dump("policy routing rules", &request, Vec::new, |rules, frame| {
            rules.push(priority(frame.payload));
        });
        match dump.await {
            Ok(rules) => {
                let foreign = rules.into_iter().filter(|priority| !KERNEL_RULES.contains(priority));
                found.extend(foreign.map(|priority| (priority, name)));
            }
            // A kernel without policy routing, or without IPv6.
            Err(NetlinkError::Refused { source, .. })
                if matches!(source.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Whether entries that carry our mark have the flag that was asked for along with it.
async fn managed_neighbours() -> Result<Option<bool>, NetlinkError> {
    let mut requests = Requests::open(Protocol::Route)?;
    let request = Request::new(RTM_GETNEIGH, 0, &NeighbourMessage::default());
    let dump = requests.dump("the neighbours", &request, Vec::new, |managed, frame| {
        let ours = neighbour(frame.payload).filter(|entry| entry.protocol == RTPROT_NETROUTE);
        managed.extend(ours.map(|entry| entry.managed));
    });
    let managed: Vec<bool> = dump.await?;
    Ok((!managed.is_empty()).then(|| managed.contains(&true)))
}

/// The kernel leaves the attribute out for priority 0.
fn priority(payload: &[u8]) -> u32 {
    let mut attributes = genl::attributes(payload.get(RULE_HEADER_BYTES..).unwrap_or_default());
    let found = attributes.find(|attribute| attribute.kind() == FRA_PRIORITY);
    found.and_then(|attribute| parse_u32(attribute.value()).ok()).unwrap_or(0)
}

/// Custom routes that a foreign route of the same prefix wins over, or keeps out (R15).
fn shadowed(state: &KernelState, routes: &Fib) -> Vec<(FibKey, u32)> {
    let wins = |key: &FibKey| {
        let rivals = state.routes.iter().filter(|route| {
            route.table == TABLE_MAIN && route.destination == key.destination && route.metric <= key.metric
        });
        rivals.map(|route| route.metric).min()
    };
    routes.keys().filter_map(|key| Some((*key, wins(key)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_shapes() {
        assert_eq!(parse_version("6.18.0-rc1+\n"), Some((6, 18)));
        assert_eq!(parse_version("5.10.0-28-cloud-amd64"), Some((5, 10)));
        assert_eq!(parse_version("mystery"), None);
    }

    #[test]
    fn an_ordinary_folder_is_no_bpffs() {
        assert!(!is_bpffs(Path::new("/proc/self")));
        assert!(!is_bpffs(Path::new("/nowhere/at/all")));
    }
}
