//! `RTM_NEWADDR`, `RTM_DELADDR`.

use ipnet::IpNet;
use netlink_packet_core::{parse_ip, parse_u32};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressFlags, AddressHeader};

use super::attributes;
use crate::kernel::Address;

const HEADER_BYTES: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

#[must_use]
pub fn address(payload: &[u8]) -> Option<Address> {
    let header = AddressHeader::parse(payload).ok()?;
    if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let mut flags = AddressFlags::from_bits_retain(u32::from(header.flags.bits()));
    let (mut local, mut address) = (None, None);
    for attribute in attributes(payload, HEADER_BYTES) {
        let value = attribute.value();
        match attribute.kind() {
            IFA_LOCAL => local = parse_ip(value).ok(),
            IFA_ADDRESS => address = parse_ip(value).ok(),
            IFA_FLAGS => flags = AddressFlags::from_bits_retain(parse_u32(value).unwrap_or(flags.bits())),
            _ => {}
        }
    }
    // On a link with a peer IFA_ADDRESS is the peer's and IFA_LOCAL our own.
    let own = local.or(address)?;
    let tentative = flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
    Some(Address {
        ifindex: header.index,
        address: IpNet::new(own, header.prefix_len).ok()?,
        permanent: flags.contains(AddressFlags::Permanent),
        usable: !tentative && !flags.contains(AddressFlags::Dadfailed),
    })
}
