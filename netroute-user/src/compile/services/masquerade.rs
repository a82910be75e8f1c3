//! The entries of `MASQUERADE`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netroute_common::abi::MAX_MASQUERADE;
use netroute_common::layout::flow::Masquerade;
use netroute_common::layout::service::Address;

use super::image::mapped;
use crate::compile::Inputs;
use crate::compile::interfaces::Interfaces;

/// One for each NIC with an address, and one for the node: that of the last compilation as long as the NIC has it, since flows
/// go on under it, else the lowest.
pub(super) fn masquerade(inputs: &Inputs<'_>, interfaces: &Interfaces) -> BTreeMap<u32, Masquerade> {
    let entries = interfaces.nics().filter_map(|ifindex| {
        let installed = inputs.installed.services.masquerade.get(&ifindex).copied().unwrap_or_default();
        let entry = Masquerade {
            address4: own(inputs, ifindex, v4, installed.address4).unwrap_or_default(),
            address6: own(inputs, ifindex, v6, installed.address6).unwrap_or_default(),
            first_port: inputs.nat.first_port,
            ports: inputs.nat.ports,
        };
        let empty = entry.address4 == [0; 4] && entry.address6 == Address::default();
        (!empty).then_some((ifindex, entry))
    });
    let mut all: BTreeMap<u32, Masquerade> = entries.take(MAX_MASQUERADE as usize - 1).collect();
    if let Some(any) = of_the_node(inputs, &all) {
        all.insert(NODE, any);
    }
    all
}

/// Stands for the node, whatever the interface: for pods that are their own endpoint.
const NODE: u32 = 0;

fn of_the_node(inputs: &Inputs<'_>, all: &BTreeMap<u32, Masquerade>) -> Option<Masquerade> {
    let installed = inputs.installed.services.masquerade.get(&NODE).copied().unwrap_or_default();
    let kept = |same: fn(&Masquerade, &Masquerade) -> bool, filled: fn(&Masquerade) -> bool| {
        let held = all.values().find(|entry| filled(entry) && same(entry, &installed));
        held.or_else(|| all.values().find(|entry| filled(entry)))
    };
    let four = kept(|a, b| a.address4 == b.address4, |entry| entry.address4 != [0; 4]);
    let six = kept(|a, b| a.address6 == b.address6, |entry| entry.address6 != Address::default());
    let any = all.values().next()?;
    Some(Masquerade {
        address4: four.map(|entry| entry.address4).unwrap_or_default(),
        address6: six.map(|entry| entry.address6).unwrap_or_default(),
        ..*any
    })
}

fn own<A: PartialEq>(
    inputs: &Inputs<'_>,
    ifindex: u32,
    family: fn(IpAddr) -> Option<A>,
    installed: A,
) -> Option<A> {
    let of_nic = inputs.kernel.addresses.iter().filter(|held| held.ifindex == ifindex && held.usable);
    let addresses = of_nic.map(|held| held.address.addr());
    let own = addresses.filter(|address| !inputs.selection.addresses.contains_key(address));
    let mut own = own.filter_map(family);
    let first = own.next()?;
    if first == installed || own.any(|address| address == installed) { Some(installed) } else { Some(first) }
}

fn v4(address: IpAddr) -> Option<[u8; 4]> {
    match address {
        IpAddr::V4(address) if !address.is_link_local() => Some(address.octets()),
        _ => None,
    }
}

fn v6(address: IpAddr) -> Option<Address> {
    match address {
        IpAddr::V6(own) if !own.is_unicast_link_local() => Some(mapped(address)),
        _ => None,
    }
}
