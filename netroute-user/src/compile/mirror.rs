//! The custom routes as the kernel's FIB should hold them (protocol `RTPROT_NETROUTE`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// One FIB entry of the main table: a prefix at a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FibKey {
    pub destination: IpNet,
    pub metric: u32,
}

/// One next hop of it; always installed on-link (`RTNH_F_ONLINK`), since a next hop may lie
/// inside its own destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FibNextHop {
    pub ifindex: u32,
    pub gateway: IpAddr,
    pub weight: u8,
}

/// All routes the agent wants in the kernel; next hops sorted, never empty.
pub type Fib = BTreeMap<FibKey, Vec<FibNextHop>>;

/// The table of these next hops.
pub(super) fn collect(mut next_hops: Vec<(FibKey, FibNextHop)>) -> Fib {
    next_hops.sort();
    let of_one = next_hops.chunk_by(|(one, _), (other, _)| one == other);
    let entries = of_one.filter_map(|same| {
        let (key, _) = same.first()?;
        Some((*key, same.iter().map(|(_, next_hop)| *next_hop).collect()))
    });
    entries.collect()
}
