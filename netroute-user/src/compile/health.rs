//! Whether a next hop can be used now, from the kernel's state alone.

use std::net::IpAddr;

use super::Gateway;
use crate::kernel::{KernelState, Link, NeighbourKey, NeighbourState};

/// The kernel's view of one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Usable; frames go to this MAC.
    Alive { mac: [u8; 6] },
    /// Nothing wrong, but its MAC is not known yet.
    Resolving,
    /// Came back after a failure; usable when its hold time is over.
    Held { mac: Option<[u8; 6]> },
    /// Not usable, and why.
    Down(String),
}

/// Judges the next hop `gateway` on `link`.
#[must_use]
pub fn judge(kernel: &KernelState, link: &Link, address: IpAddr) -> Health {
    if link.up && link.carrier && !has_address(kernel, link.index, address) {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        return Health::Down(format!("{} has no {family} address", link.name));
    }
    judge_pod(kernel, link, address)
}

/// Judges a pod behind `link`, the host end of its veth. Network plugins give that end no address:
/// the node answers for the pod's gateway by proxy ARP and asks with an address of another link.
#[must_use]
pub fn judge_pod(kernel: &KernelState, link: &Link, address: IpAddr) -> Health {
    if !link.up {
        return Health::Down(format!("{} is administratively down", link.name));
    }
    if !link.carrier {
        return Health::Down(format!("{} has no carrier", link.name));
    }
    let key = NeighbourKey { ifindex: link.index, address };
    match kernel.neighbours.get(&key) {
        Some(neighbour) if neighbour.state == NeighbourState::Failed => {
            Health::Down(format!("neighbour {address} on {} does not answer", link.name))
        }
        Some(neighbour) => neighbour.mac.map_or(Health::Resolving, |mac| Health::Alive { mac }),
        None => Health::Resolving,
    }
}

/// Whether the kernel sees the next hop as dead; what starts a hold time.
#[must_use]
pub fn is_down(kernel: &KernelState, gateway: Gateway) -> bool {
    let Gateway { ifindex, address } = gateway;
    let link = kernel.links.get(&ifindex);
    link.is_none_or(|link| matches!(judge(kernel, link, address), Health::Down(_)))
}

/// Without an address of the family the node can neither resolve nor source anything there.
fn has_address(kernel: &KernelState, ifindex: u32, family_of: IpAddr) -> bool {
    kernel.addresses.iter().any(|address| {
        address.ifindex == ifindex
            && address.usable
            && address.address.addr().is_ipv4() == family_of.is_ipv4()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Neighbour;

    #[test]
    fn only_a_pod_needs_no_address_on_its_link() {
        let mac = [2, 0, 0, 0, 0, 1];
        let link = Link { mac: Some([0xee; 6]), kind: Some("veth".to_owned()), ..Link::named(5, "vethpod1") };
        let address = IpAddr::from([10, 244, 1, 10]);
        let mut kernel = KernelState::default();
        let neighbour = Neighbour { mac: Some(mac), state: NeighbourState::Reachable };
        kernel.neighbours.insert(NeighbourKey { ifindex: 5, address }, neighbour);
        assert_eq!(judge_pod(&kernel, &link, address), Health::Alive { mac });
        let refused = Health::Down("vethpod1 has no IPv4 address".to_owned());
        assert_eq!(judge(&kernel, &link, address), refused);
    }
}
