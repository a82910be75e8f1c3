//! Per prefix, what custom routes and the kernel's own routes say about it.

use std::collections::BTreeMap;

use ipnet::IpNet;
use netroute_common::layout::route::{KIND_KERNEL, KIND_SERVICE};

use super::services::selection::Selection;
use super::special;
use crate::desired::route::CustomRoute;
use crate::kernel::{KernelRoute, KernelRouteKind, KernelState, Link};

/// One prefix with all that competes for it.
#[derive(Clone, Debug, Default)]
pub struct Entry<'a> {
    /// Custom routes whose interface exists, with its link, in the order of their keys.
    pub custom: Vec<(&'a CustomRoute, &'a Link)>,
    /// The kernel's best route of that prefix: lowest metric, local table first.
    pub kernel: Option<&'a KernelRoute>,
    /// Of addresses of Services: the kind of the fixed answer.
    pub service: Option<u8>,
}

impl Entry<'_> {
    /// Whether it has its place in the route table before any custom route.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.kernel.is_some() || self.service.is_some()
    }
}

pub type Table<'a> = BTreeMap<IpNet, Entry<'a>>;

/// `RT_TABLE_LOCAL`, which the kernel asks before `RT_TABLE_MAIN`.
const TABLE_LOCAL: u32 = 255;

/// Collects the kernel's routes.
#[must_use]
pub fn from_kernel(kernel: &KernelState) -> Table<'_> {
    let mut table = Table::new();
    for route in kernel.routes.iter().filter(|route| !special::contains(&route.destination)) {
        let best = &mut table.entry(route.destination).or_default().kernel;
        if best.is_none_or(|best| rank(route) < rank(best)) {
            *best = Some(route);
        }
    }
    table
}

/// Marks the prefixes that are Services'. Those of another proxy's are the kernel's.
pub fn mark_services(table: &mut Table<'_>, selection: &Selection) {
    let of = |kind| move |prefix: IpNet| (prefix.trunc(), kind);
    let cidrs = selection.cidrs.iter().copied().map(of(KIND_SERVICE));
    let foreign = selection.foreign.iter().copied().map(IpNet::from).map(of(KIND_KERNEL));
    let hosts = selection.addresses.keys().copied().map(IpNet::from).map(of(KIND_SERVICE));
    let all = cidrs.chain(foreign).chain(hosts);
    for (prefix, kind) in all.filter(|(prefix, _)| !special::contains(prefix)) {
        table.entry(prefix).or_default().service = Some(kind);
    }
}

fn rank(route: &KernelRoute) -> (bool, u32) {
    (route.table != TABLE_LOCAL, route.metric)
}

/// Whether the route is a connected prefix on `ifindex`: unicast, one next hop, no gateway.
#[must_use]
pub fn connected_to(route: &KernelRoute, ifindex: u32) -> bool {
    route.kind == KernelRouteKind::Unicast
        && matches!(route.next_hops.as_slice(), [only] if only.gateway.is_none() && only.ifindex == ifindex)
}

/// The entry with the longest prefix that holds the whole of `host` (a /32 or /128), without
/// `host` itself.
#[must_use]
pub fn covering<'t, 'a>(table: &'t Table<'a>, host: IpNet) -> Option<&'t Entry<'a>> {
    let mut prefix = host;
    while let Some(shorter) = prefix.supernet() {
        if let Some(entry) = table.get(&shorter) {
            return Some(entry);
        }
        prefix = shorter;
    }
    None
}
