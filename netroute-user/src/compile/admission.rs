//! Which interfaces may carry custom routes.

use std::net::IpAddr;

use thiserror::Error;

use crate::kernel::{KernelState, Link};

/// Why an interface is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdmissionError {
    #[error(
        "{interface} is a port of {master}: routes over bond, team and bridge ports are not possible; use {master}, or another NIC with its own metric for redundancy"
    )]
    Enslaved { interface: String, master: String },
    #[error(
        "{interface} has only dynamic addresses ({addresses}): give it a static address, or force the route"
    )]
    DynamicAddress { interface: String, addresses: String },
}

/// Whether `link` may carry a route over `next_hop`.
///
/// # Errors
/// The interface is enslaved, or its addresses of that family are all dynamic and the route is
/// not forced. An interface without any address is admitted: it may get one.
pub fn admit(
    link: &Link,
    kernel: &KernelState,
    forced: bool,
    next_hop: IpAddr,
) -> Result<(), AdmissionError> {
    if let Some(master) = link.master {
        let name = kernel
            .links
            .get(&master)
            .map_or_else(|| format!("interface {master}"), |master| master.name.clone());
        return Err(AdmissionError::Enslaved { interface: link.name.clone(), master: name });
    }
    if forced {
        return Ok(());
    }
    let mut dynamic = Vec::new();
    for address in kernel.addresses.iter().filter(|address| address.ifindex == link.index) {
        let addr = address.address.addr();
        // Every IPv6 interface has a permanent link-local address, which says nothing.
        let link_local = matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
        if addr.is_ipv4() != next_hop.is_ipv4() || link_local {
            continue;
        }
        if address.permanent {
            return Ok(());
        }
        dynamic.push(address.address.to_string());
    }
    if dynamic.is_empty() {
        return Ok(());
    }
    Err(AdmissionError::DynamicAddress { interface: link.name.clone(), addresses: dynamic.join(", ") })
}
