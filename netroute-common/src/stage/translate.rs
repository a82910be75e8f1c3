//! Writes one tuple over another: addresses, ports and every checksum over them.

use super::family::Family;
use super::tuple::Tuple;
use crate::checksum::Delta;
use crate::packet::{Packet, TransportChange};
use crate::wire::be::Be16;
use crate::wire::eth::ETH_LEN;
use crate::wire::l4::{PROTOCOL_UDP, Ports, checksum_at};

/// Rewrites a packet whose tuple is `from`. `None` if it ends too early; then it is unchanged.
#[inline(always)]
pub fn translate<F: Family, P: Packet>(packet: &mut P, from: &F::Tuple, to: &F::Tuple) -> Option<()> {
    let addresses = from.addresses_changed(to);
    let (old, new, protocol) = (from.ports(), to.ports(), from.protocol());
    let ports = Delta::default().replace(old.0, new.0).replace(old.1, new.1);
    if let Some(at) = checksum_at(protocol) {
        let udp = protocol == PROTOCOL_UDP;
        let change = TransportChange { addresses, ports, udp, in_header: F::HAS_HEADER_CHECKSUM };
        packet.transport_changed(F::TRANSPORT_AT.wrapping_add(at), change)?;
    }
    let written: &mut Ports = packet.get_mut(F::TRANSPORT_AT)?;
    written.source = Be16::new(new.0);
    written.destination = Be16::new(new.1);
    let ip: &mut F = packet.get_mut(ETH_LEN)?;
    ip.set_addresses(to, addresses);
    Some(())
}
