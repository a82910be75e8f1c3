//! Writes one tuple over another: addresses, ports and every checksum over them.

use super::family::Family;
use super::tuple::Tuple;
use crate::checksum::Delta;
use crate::packet::{Packet, TransportChange};
use crate::wire::be::Be16;
use crate::wire::eth::ETH_LEN;
use crate::wire::icmp::{ICMP_CHECKSUM_AT, Icmp};
use crate::wire::l4::{PROTOCOL_UDP, Ports, checksum_at};

/// Rewrites a packet whose tuple is `from` and whose ports are at `at`. `None` if it ends too early; then it
/// is unchanged.
#[inline(always)]
pub fn translate<F: Family, P: Packet>(
    packet: &mut P,
    at: usize,
    from: &F::Tuple,
    to: &F::Tuple,
) -> Option<()> {
    let addresses = from.addresses_changed(to);
    let (old, new, protocol) = (from.ports(), to.ports(), from.protocol());
    let ports = Delta::default().replace(old.0, new.0).replace(old.1, new.1);
    if protocol == F::ICMP {
        translate_echo::<F, P>(packet, at, new, (addresses, ports))?;
        let ip: &mut F = packet.get_mut(ETH_LEN)?;
        ip.set_addresses(to, addresses);
        return Some(());
    }
    if let Some(behind) = checksum_at(protocol) {
        let udp = protocol == PROTOCOL_UDP;
        let change = TransportChange { addresses, ports, udp, in_header: F::HAS_HEADER_CHECKSUM };
        packet.transport_changed(at.wrapping_add(behind), change)?;
    } else if !F::HAS_HEADER_CHECKSUM {
        // SCTP: nothing in the packet makes up for the addresses, and its ports stay.
        packet.words_changed(addresses);
    }
    let written: &mut Ports = packet.get_mut(at)?;
    written.source = Be16::new(new.0);
    written.destination = Be16::new(new.1);
    let ip: &mut F = packet.get_mut(ETH_LEN)?;
    ip.set_addresses(to, addresses);
    Some(())
}

/// Writes the identifier of an echo, and its checksum: over IPv4 that has no pseudo-header, and the header
/// has its own.
#[inline(always)]
fn translate_echo<F: Family, P: Packet>(
    packet: &mut P,
    at: usize,
    new: (u16, u16),
    (addresses, ports): (Delta, Delta),
) -> Option<()> {
    let addresses = if F::HAS_HEADER_CHECKSUM { Delta::default() } else { addresses };
    let change = TransportChange { addresses, ports, udp: false, in_header: F::HAS_HEADER_CHECKSUM };
    packet.transport_changed(at.wrapping_add(ICMP_CHECKSUM_AT), change)?;
    let icmp: &mut Icmp = packet.get_mut(at)?;
    let [identifier, _] = &mut icmp.rest;
    *identifier =
        Be16::new(if icmp.type_code.get() >> 8 == u16::from(F::ECHO_REQUEST) { new.0 } else { new.1 });
    Some(())
}

/// Rewrites the addresses of a packet without ports.
#[inline(always)]
pub fn translate_addresses<F: Family, P: Packet>(packet: &mut P, to: &F::Tuple) -> Option<()> {
    let ip: &mut F = packet.get_mut(ETH_LEN)?;
    let changed = ip.tuple((0, 0), 0).addresses_changed(to);
    ip.set_addresses(to, changed);
    if !F::HAS_HEADER_CHECKSUM {
        packet.words_changed(changed);
    }
    Some(())
}

/// Rewrites an error about a packet that, read backwards, is of the flow's entry under `key`, which becomes
/// `to`. `becomes` is room to work in. The ports that it quotes are at `at`; the quoted transport checksum stays as it was. Who sent the
/// error keeps its address unless that is the flow's other end.
#[inline(always)]
pub fn translate_error<F: Family, P: Packet>(
    packet: &mut P,
    at: usize,
    (key, to): (&F::Tuple, &F::Tuple),
    becomes: &mut F::Tuple,
) -> Option<()> {
    let outer = packet.get::<F>(ETH_LEN)?.tuple((0, 0), 0);
    let (old, new) = (key.ports(), to.ports());
    let ports = Delta::default().replace(old.0, new.0).replace(old.1, new.1);
    if key.protocol() == F::ICMP {
        let icmp: &mut Icmp = packet.get_mut(at)?;
        let [identifier, _] = &mut icmp.rest;
        // The other one is 0.
        *identifier = Be16::new(new.0 | new.1);
    } else {
        let written: &mut Ports = packet.get_mut(at)?;
        written.source = Be16::new(new.1);
        written.destination = Be16::new(new.0);
    }
    // The sum over both is the same backwards.
    let quoted_changed = key.addresses_changed(to);
    *becomes = to.reversed();
    let quoted: &mut F = packet.get_mut(F::QUOTED_AT)?;
    quoted.set_addresses(becomes, quoted_changed);
    let source = if outer.source() == key.source() { to.source() } else { outer.source() };
    *becomes = F::Tuple::new(&source, &to.destination(), (0, 0), 0);
    let changed = outer.addresses_changed(becomes);
    // Over an IPv4 header with its checksum the sum stays; and ICMP over IPv4 has no pseudo-header.
    let change = if F::HAS_HEADER_CHECKSUM {
        TransportChange { addresses: Delta::default(), ports, udp: false, in_header: true }
    } else {
        let ports = ports.and(quoted_changed);
        TransportChange { addresses: changed, ports, udp: false, in_header: false }
    };
    packet.transport_changed(F::TRANSPORT_AT.wrapping_add(ICMP_CHECKSUM_AT), change)?;
    let ip: &mut F = packet.get_mut(ETH_LEN)?;
    ip.set_addresses(becomes, changed);
    Some(())
}
