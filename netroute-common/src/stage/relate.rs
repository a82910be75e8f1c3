//! What has no ports of its own and yet belongs to a flow: errors about its packets, and fragments behind
//! the first. And echo requests to addresses of Services. At TC; XDP leaves them to it.

use super::answer::Answering;
use super::family::{Family, echo_ports, is_echo};
use super::follow::is_quiet;
use super::serve::{Decision, Scratch, Standing, leads_out, way_back};
use super::translate::{translate_addresses, translate_error};
use super::tuple::Tuple;
use crate::layout::flow::{Back, FRAGMENT_LIFETIME, FragmentKey};
use crate::layout::route::KIND_SERVICE;
use crate::layout::service::{FRONTEND_ECHO, FrontEndKey, SCOPE_EXTERNAL, SCOPE_INTERNAL};
use crate::packet::Packet;
use crate::pipeline::Arrival;
use crate::services::Services;
use crate::verdict::{Hook, Reason};
use crate::wire::eth::ETH_LEN;
use crate::wire::icmp::Icmp;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::{Fragment6, Ipv6};
use crate::wire::l4::{Ports, has_ports};

/// Up to eight bytes of the transport that a quoted IPv6 fragment has behind its header; of a quoted IPv4 packet
/// with all options it may have it is less.
const HEADERS: usize =
    Ipv6::QUOTED_AT.wrapping_add(size_of::<Ipv6>()).wrapping_add(size_of::<Fragment6>()).wrapping_add(8);
const _: () = assert!(HEADERS >= Ipv4::QUOTED_AT.wrapping_add(60).wrapping_add(8));

/// Decides for a packet in which no ports were found.
#[inline(always)]
pub fn relate<F: Answering, P: Packet, S: Services>(
    packet: &mut P,
    services: &S,
    arrival: Arrival,
    destination: u8,
) -> Decision {
    packet.pull(HEADERS);
    let related = F::scratch(services, |scratch| {
        let Some(ip) = packet.get::<F>(ETH_LEN) else { return Some(Decision::refused(Reason::Truncated)) };
        let protocol = F::fragment(packet).map(|piece| piece.protocol).or(ip.transport()).unwrap_or(0);
        scratch.asked.tuple = ip.tuple((0, 0), protocol);
        scratch.asked.arrival = arrival;
        scratch.asked.bytes = packet.frame_length();
        scratch.asked.fragmented = F::fragment(packet).is_some();
        scratch.standing = Standing::default();
        scratch.back = Back::default();
        scratch.via = 0;
        match F::fragment(packet) {
            Some(piece) if !piece.first => {
                later_fragment::<F, P, S>(packet, services, scratch, piece.identification, piece.protocol)
            }
            Some(_) => None,
            None => icmp::<F, P, S>(packet, services, scratch, destination),
        }
    });
    match related.flatten() {
        Some(decision) => decision,
        None if destination != KIND_SERVICE => unrelated(arrival.hook, destination),
        None if F::fragment(packet).is_some() => Decision::refused(Reason::ServiceFragment),
        None => Decision::refused(Reason::ServiceProtocol),
    }
}

/// What is no flow's and leaves the node.
#[inline(always)]
fn unrelated(hook: Hook, destination: u8) -> Decision {
    let leaves = matches!(hook, Hook::TcPod | Hook::TcOut) && leads_out(destination);
    if leaves { Decision::PORTLESS } else { Decision::NONE }
}

/// A fragment without ports gets the addresses that the first of its packet got (N10).
#[inline(always)]
fn later_fragment<F: Family, P: Packet, S: Services>(
    packet: &P,
    services: &S,
    scratch: &mut Scratch<F::Tuple>,
    identification: u32,
    protocol: u8,
) -> Option<Decision> {
    let Scratch { to, fragment, back, .. } = scratch;
    let tuple = packet.get::<F>(ETH_LEN)?.tuple((0, 0), protocol);
    fragment.key = FragmentKey {
        source: tuple.source(),
        destination: tuple.destination(),
        identification,
        protocol: protocol.into(),
    };
    let now = services.now();
    let known = services.fragment(&fragment.key, |first| {
        *to = F::Tuple::new(&first.source, &first.destination, (0, 0), protocol);
        *back = first.back;
        now.saturating_sub(first.seen) <= FRAGMENT_LIFETIME
    });
    (known == Some(true)).then_some(Decision::FRAGMENT)
}

#[inline(always)]
fn icmp<F: Answering, P: Packet, S: Services>(
    packet: &P,
    services: &S,
    scratch: &mut Scratch<F::Tuple>,
    destination: u8,
) -> Option<Decision> {
    let ip: &F = packet.get(ETH_LEN)?;
    if ip.transport() != Some(F::ICMP) {
        return None;
    }
    let kind = packet.get::<Icmp>(F::TRANSPORT_AT)?.kind();
    if F::is_error(kind) {
        return about::<F, P, S>(packet, services, scratch);
    }
    let echo = destination == KIND_SERVICE && kind == F::ECHO_REQUEST;
    (echo && answers_echo::<F, P, S>(packet, services, scratch) == Some(true))
        .then_some(Decision::refused(Reason::EchoAnswered))
}

/// An error about a packet that was sent as an entry of a flow says: read backwards, what is quoted is the
/// other entry's key (N3). The flow stays as it is (N4).
#[inline(always)]
fn about<F: Answering, P: Packet, S: Services>(
    packet: &P,
    services: &S,
    scratch: &mut Scratch<F::Tuple>,
) -> Option<Decision> {
    let Scratch { asked, to, back, .. } = scratch;
    let (at, protocol) = F::quoted(packet)?;
    let ports = if has_ports(protocol) {
        let ports: &Ports = packet.get(at)?;
        (ports.source.get(), ports.destination.get())
    } else if is_echo::<F, P>(packet, protocol, at) {
        echo_ports::<F>(packet.get(at)?)
    } else {
        return None;
    };
    let sent = packet.get::<F>(F::QUOTED_AT)?.tuple(ports, protocol);
    if packet.get::<F>(ETH_LEN)?.tuple((0, 0), 0).destination() != sent.source() {
        return None;
    }
    asked.tuple = sent.reversed();
    asked.at = at as u32;
    let timers = services.timers()?;
    let now = services.now();
    let known = F::flow(services, &asked.tuple, |_, flow| {
        *to = F::Tuple::rewritten_by(flow);
        *back = way_back(flow);
        !is_quiet(flow, timers, now)
    });
    (known == Some(true)).then_some(Decision::ERROR)
}

/// Whether the address answers echo requests itself (S8).
#[inline(always)]
fn answers_echo<F: Family, P: Packet, S: Services>(
    packet: &P,
    services: &S,
    scratch: &Scratch<F::Tuple>,
) -> Option<bool> {
    let pod = scratch.asked.arrival.hook == Hook::TcPod;
    let scope = if pod { SCOPE_INTERNAL } else { SCOPE_EXTERNAL };
    let address = packet.get::<F>(ETH_LEN)?.tuple((0, 0), 0).destination();
    let owned = services.front_end(&FrontEndKey { address, port: 0, protocol: 0, scope })?;
    Some(owned.flags & FRONTEND_ECHO != 0)
}

/// Rewrites such a packet, now that the way is known. `obstacle` is as in [`super::serve::carry`].
#[inline(always)]
pub fn carry_related<F: Answering, P: Packet, S: Services>(
    packet: &mut P,
    services: &S,
    decision: Decision,
    obstacle: Decision,
) -> Decision {
    if matches!(obstacle.refusal(), Some(Reason::TtlExpired | Reason::Truncated)) {
        return obstacle;
    }
    let rewritten = F::scratch(services, |Scratch { asked, to, answers, .. }| match decision {
        Decision::ERROR => translate_error::<F, P>(packet, asked.at as usize, (&asked.tuple, to), answers),
        _ => translate_addresses::<F, P>(packet, to),
    });
    match rewritten.flatten() {
        None => Decision::refused(Reason::ServiceProtocol),
        Some(()) if obstacle != Decision::NONE => Decision::refused(Reason::Translated),
        Some(()) => Decision::NONE,
    }
}
