//! Which interfaces may carry custom routes (R4, R5). Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::{Address, Link};

/// Why an interface may not carry custom routes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    #[error(
        "interface {interface} is a port of {master}: routes go on {master}, or on interfaces of their own \
         with a metric each"
    )]
    Enslaved { interface: String, master: String },
    #[error(
        "interface {interface} has only dynamic addresses ({address}): give it a static one, \
         or use --force"
    )]
    DynamicOnly { interface: String, address: ipnet::IpNet },
}

/// Whether custom routes may use the interface. One without any address may: the route waits
/// for it. `forced` overrides dynamic addressing, not enslavement.
pub fn admission(
    link: &Link,
    links: &BTreeMap<u32, Link>,
    addresses: &BTreeSet<Address>,
    forced: bool,
) -> Result<(), AdmissionError> {
    if let Some(master) = link.master.filter(|master| !is_vrf(links.get(master))) {
        let name =
            links.get(&master).map_or_else(|| format!("interface {master}"), |master| master.name.clone());
        return Err(AdmissionError::Enslaved { interface: link.name.clone(), master: name });
    }
    match dynamic_only(link.index, addresses) {
        Some(address) if !forced => {
            Err(AdmissionError::DynamicOnly { interface: link.name.clone(), address: address.address })
        }
        _ => Ok(()),
    }
}

/// One of the interface's addresses, if all that count are dynamic. Link-local addresses, which
/// every interface makes itself, say nothing about how it is configured.
#[must_use]
pub fn dynamic_only(ifindex: u32, addresses: &BTreeSet<Address>) -> Option<&Address> {
    let mut own = addresses.iter().filter(|held| held.ifindex == ifindex && !is_link_local(held)).peekable();
    let first = own.peek().copied()?;
    own.all(|held| !held.permanent).then_some(first)
}

fn is_link_local(address: &Address) -> bool {
    match address.address.addr() {
        std::net::IpAddr::V4(address) => address.is_link_local(),
        std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// A VRF is a master too, but its ports keep their own addresses and carry traffic themselves.
fn is_vrf(master: Option<&Link>) -> bool {
    master.is_some_and(|master| master.kind.as_deref() == Some("vrf"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, master: Option<u32>) -> Link {
        Link { master, ..Link::named(index, name) }
    }

    fn address(ifindex: u32, text: &str, permanent: bool) -> Address {
        Address { ifindex, address: text.parse().expect("address"), permanent, usable: true }
    }

    fn judge(addresses: &[Address], forced: bool) -> Result<(), AdmissionError> {
        admission(&link(2, "eth1", None), &BTreeMap::new(), &addresses.iter().cloned().collect(), forced)
    }

    #[test]
    fn r4_only_dynamic_addresses_are_refused_unless_forced() {
        let leased = [address(2, "10.0.0.5/24", false), address(2, "fe80::1/64", true)];
        let refused = judge(&leased, false).expect_err("dynamic only");
        assert_eq!(
            refused.to_string(),
            "interface eth1 has only dynamic addresses (10.0.0.5/24): give it a static one, or use --force"
        );
        assert_eq!(judge(&leased, true), Ok(()));
    }

    #[test]
    fn r4_one_static_address_suffices_and_none_waits() {
        let mixed = [address(2, "10.0.0.5/24", false), address(2, "192.168.20.2/24", true)];
        assert_eq!(judge(&mixed, false), Ok(()));
        assert_eq!(judge(&[], false), Ok(()));
        assert_eq!(judge(&[address(3, "10.0.0.5/24", false)], false), Ok(()));
    }

    #[test]
    fn r5_a_port_is_refused_naming_its_master() {
        let links = BTreeMap::from([(7, link(7, "bond0", None))]);
        for forced in [false, true] {
            let port = link(2, "eth1", Some(7));
            let refused = admission(&port, &links, &BTreeSet::new(), forced).expect_err("a port");
            assert_eq!(
                refused,
                AdmissionError::Enslaved { interface: "eth1".to_owned(), master: "bond0".to_owned() }
            );
        }
    }

    #[test]
    fn r5_a_vrf_member_is_not_a_port() {
        let vrf = Link { kind: Some("vrf".to_owned()), ..link(7, "blue", None) };
        let links = BTreeMap::from([(7, vrf)]);
        assert_eq!(admission(&link(2, "eth1", Some(7)), &links, &BTreeSet::new(), false), Ok(()));
    }
}
