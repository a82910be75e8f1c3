//! The first packet of a flow to a front end: which endpoint it gets, and the flow's two entries.

use core::hint::black_box;

use super::family::Family;
use super::follow::is_quiet;
use super::serve::{Asked, Decision, Scratch};
use super::tuple::Tuple;
use crate::hash::Hash;
use crate::layout::flow::{FLOW_REPLY, Flow, STATE_OPENING};
use crate::layout::route::KIND_SERVICE;
use crate::layout::service::{
    Address, Affinity, AffinityKey, BACKEND_LOCAL, Backend, FRONTEND_DROP, FRONTEND_MASQUERADE,
    FRONTEND_SOURCE_RANGES, FrontEnd, FrontEndKey, SCOPE_EXTERNAL, SCOPE_INTERNAL, SourceRange,
};
use crate::packet::Packet;
use crate::services::{Place, ServiceEvent, Services};
use crate::tables::Tables;
use crate::verdict::{Hook, Reason};
use crate::wire::l4::PROTOCOL_SCTP;

/// Source ports tried before a flow is refused.
const ATTEMPTS: u32 = 4;
/// From which a port is not a well-known one.
const FIRST_HIGH_PORT: u16 = 1024;
const NANOSECONDS: u64 = 1_000_000_000;

/// The endpoint of a new flow, and who its packets are from as the endpoint sees it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Chosen {
    pub endpoint: Address,
    pub source: Address,
    pub backend: u32,
    pub generation: u32,
    pub service: u32,
    pub hash: u32,
    pub port: u16,
    /// Source ports to choose from.
    pub first_port: u16,
    pub ports: u16,
    /// Whose address the source is.
    pub from: From,
}

/// Whose address the endpoint sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum From {
    #[default]
    Client,
    /// The node's on the interface the packet leaves by.
    Interface,
    /// The node's: the client is the endpoint itself, and must not answer itself (S17).
    Node,
}

/// Chooses the endpoint for the packet of no known flow; false if it is to no front end.
#[inline(always)]
pub fn choose<F: Family, P: Packet, T: Tables + Services>(
    tables: &T,
    asked: &Asked<F::Tuple>,
    chosen: &mut Chosen,
) -> Result<bool, Reason> {
    let client = asked.tuple.source();
    let Some(front_end) = front_end::<F, T>(tables, asked)? else { return Ok(false) };
    if front_end.size == 0 {
        let drop = front_end.flags & FRONTEND_DROP != 0;
        if drop || !asked.arrival.at_xdp::<P>() {
            tables.count_service(front_end.service, asked.bytes, ServiceEvent::NoEndpoint);
        }
        return Err(if drop { Reason::NoLocalEndpoint } else { Reason::NoEndpoint });
    }
    if front_end.flags & FRONTEND_SOURCE_RANGES != 0 {
        let client = SourceRange { service: front_end.service.to_be_bytes(), address: client };
        if !tables.source_allowed(&client) {
            return Err(Reason::SourceNotAllowed);
        }
    }
    let hash = hash(&asked.tuple);
    let id = endpoint(tables, front_end, &client, asked.now, hash).ok_or(Reason::TableInconsistent)?;
    let Backend { address, port, flags, generation } =
        *tables.backend(id).ok_or(Reason::TableInconsistent)?;
    let local = flags & BACKEND_LOCAL != 0;
    if local && asked.arrival.at_xdp::<P>() {
        return Err(Reason::PodAtTc);
    }
    let from = if address == client {
        From::Node
    } else if front_end.flags & FRONTEND_MASQUERADE != 0 && !local {
        From::Interface
    } else {
        From::Client
    };
    *chosen = Chosen {
        endpoint: address,
        source: client,
        backend: id,
        generation,
        service: front_end.service,
        hash,
        port,
        first_port: FIRST_HIGH_PORT,
        ports: u16::MAX.wrapping_sub(FIRST_HIGH_PORT),
        from,
    };
    Ok(true)
}

/// The front end that the packet is to; `None` where the address may be somebody else's as well.
#[inline(always)]
fn front_end<'t, F: Family, S: Services>(
    tables: &'t S,
    asked: &Asked<F::Tuple>,
) -> Result<Option<&'t FrontEnd>, Reason> {
    let scope = if asked.arrival.hook == Hook::TcPod { SCOPE_INTERNAL } else { SCOPE_EXTERNAL };
    let (address, protocol) = (asked.tuple.destination(), asked.tuple.protocol());
    let key = FrontEndKey { address, port: asked.tuple.ports().1, protocol, scope };
    if let Some(front_end) = tables.front_end(&key) {
        return Ok(Some(front_end));
    }
    if asked.destination != KIND_SERVICE {
        return Ok(None);
    }
    let owned = tables.front_end(&FrontEndKey { port: 0, protocol: 0, ..key }).is_some();
    Err(if owned { Reason::NoServicePort } else { Reason::NoService })
}

#[inline(always)]
fn hash<A: Tuple>(tuple: &A) -> u32 {
    let ([a, b, c, d], [e, f, g, h]) = (tuple.source().words(), tuple.destination().words());
    let hash = Hash::new().word(a).word(b).word(c).word(d).word(e).word(f).word(g).word(h);
    let (source, destination) = tuple.ports();
    hash.word(u32::from(source) << 16 | u32::from(destination)).word(tuple.protocol().into()).finish()
}

/// The endpoint for a new flow: the one this client had, else that of its slot.
#[inline(always)]
pub(super) fn endpoint<S: Services>(
    tables: &S,
    front_end: &FrontEnd,
    client: &Address,
    now: u64,
    hash: u32,
) -> Option<u32> {
    let scaled = u64::from(hash).wrapping_mul(u64::from(front_end.size)) >> 32;
    let slot = front_end.block.wrapping_add(scaled as u32);
    if front_end.affinity == 0 {
        return tables.slot(slot);
    }
    let key = AffinityKey { client: *client, service: front_end.service };
    let id = match kept(tables, &key, front_end, now) {
        Some(id) => id,
        None => tables.slot(slot)?,
    };
    let generation = tables.backend(id)?.generation;
    tables.set_affinity(&key, &Affinity { backend: id, generation, used: now });
    Some(id)
}

/// The endpoint that a client had before, if it may have it again (S12).
#[inline(always)]
fn kept<S: Services>(tables: &S, key: &AffinityKey, front_end: &FrontEnd, now: u64) -> Option<u32> {
    let Affinity { backend, generation, used } = tables.affinity(key)?;
    let timeout = u64::from(front_end.affinity).wrapping_mul(NANOSECONDS);
    let had = tables.backend(backend)?;
    // The same client may have been elsewhere by a front end that takes remote endpoints too (S4).
    let allowed = front_end.flags & FRONTEND_DROP == 0 || had.flags & BACKEND_LOCAL != 0;
    let usable = allowed && had.generation == generation;
    (usable && now.saturating_sub(used) <= timeout).then_some(backend)
}

/// Adds both entries under the first source port whose answers nobody else waits for, and says what the
/// packet becomes. `ifindex` is the interface that it leaves by, 0 if that is the kernel's to know.
#[inline(never)]
pub fn enter<F: Family, S: Services>(tables: &S, scratch: &mut Scratch<F::Tuple>, ifindex: u32) -> Decision {
    match try_enter::<F, S>(tables, scratch, ifindex) {
        Ok(()) => Decision::NONE,
        Err(reason) => Decision::refused(reason),
    }
}

#[inline(always)]
fn try_enter<F: Family, S: Services>(
    tables: &S,
    scratch: &mut Scratch<F::Tuple>,
    ifindex: u32,
) -> Result<(), Reason> {
    let Scratch { asked, to, answers, chosen, flow, .. } = scratch;
    let (own_port, front_port) = asked.tuple.ports();
    let protocol = asked.tuple.protocol();
    let mut own_first = true;
    if chosen.from != From::Client {
        if chosen.from == From::Interface && ifindex == 0 {
            return Err(Reason::EndpointUnreachable);
        }
        // Whatever the interface, the pod's answer to an address of the node comes back to this hook.
        let ifindex = if chosen.from == From::Node { 0 } else { ifindex };
        let masquerade = tables.masquerade(ifindex).ok_or(Reason::NoMasqueradeAddress)?;
        chosen.source = F::masquerade_address(masquerade).ok_or(Reason::NoMasqueradeAddress)?;
        chosen.first_port = masquerade.first_port;
        chosen.ports = masquerade.ports;
        own_first = own_port.wrapping_sub(masquerade.first_port) < masquerade.ports;
    }
    *flow = Flow {
        seen: asked.now,
        touched: asked.now,
        source: asked.tuple.destination(),
        destination: asked.tuple.source(),
        source_port: front_port,
        destination_port: own_port,
        state: STATE_OPENING,
        flags: FLOW_REPLY,
        protocol,
        backend: chosen.backend,
        generation: chosen.generation,
        service: chosen.service,
        arrival: asked.arrival.ifindex,
        ..Flow::default()
    };
    let port = if own_first { own_port } else { chosen.first_port };
    *answers = F::Tuple::new(&chosen.endpoint, &chosen.source, (chosen.port, port), protocol);
    let entered = own_first && await_answers::<F, S>(tables, asked.now, answers, flow)
        || with_another_port::<F, S>(tables, asked.now, (answers, flow), chosen);
    if !entered {
        return Err(Reason::NoMasqueradePort);
    }
    *to = answers.reversed();
    // SCTP's checksum is over the whole packet and cannot be brought up to date here.
    let fits = protocol != PROTOCOL_SCTP || to.ports() == asked.tuple.ports();
    flow.source = to.source();
    flow.destination = to.destination();
    (flow.source_port, flow.destination_port) = to.ports();
    flow.flags = 0;
    flow.packets = 1;
    flow.bytes = asked.bytes.into();
    if fits && F::add_flow(tables, Place::Opening, &asked.tuple, flow, true) {
        tables.count_service(chosen.service, asked.bytes, ServiceEvent::NewFlow);
        return Ok(());
    }
    F::remove_flow(tables, Place::Opening, answers);
    Err(if fits { Reason::FlowTableFull } else { Reason::ServiceProtocol })
}

/// Tries other ports in an order that the flow alone decides.
#[inline(always)]
fn with_another_port<F: Family, S: Services>(
    tables: &S,
    now: u64,
    (answers, flow): (&mut F::Tuple, &Flow),
    chosen: &Chosen,
) -> bool {
    for attempt in 0..ATTEMPTS {
        // Opaque: unrolled, the loop would hold every attempt on the stack.
        let step = u32::from(chosen.hash as u16).wrapping_add(black_box(attempt).wrapping_mul(STRIDE));
        let offset = step.checked_rem(u32::from(chosen.ports)).unwrap_or(0);
        let port = chosen.first_port.wrapping_add(offset as u16);
        *answers = F::Tuple::new(&chosen.endpoint, &chosen.source, (chosen.port, port), flow.protocol);
        if await_answers::<F, S>(tables, now, answers, flow) {
            return true;
        }
    }
    false
}

/// Odd, and coprime to the usual sizes of ranges: neighbours in hash do not run after each other.
const STRIDE: u32 = 7919;

/// Adds the entry for answers of this tuple, unless another flow has it.
#[inline(never)]
fn await_answers<F: Family, S: Services>(tables: &S, now: u64, answers: &F::Tuple, flow: &Flow) -> bool {
    let Some(timers) = tables.timers() else { return false };
    let ours_or_over = F::flow(tables, answers, |_, held| {
        let client = held.destination == flow.destination && held.destination_port == flow.destination_port;
        let front_end = held.source == flow.source && held.source_port == flow.source_port;
        client && front_end || is_quiet(held, timers, now)
    });
    match ours_or_over {
        None => F::add_flow(tables, Place::Opening, answers, flow, false),
        Some(true) => {
            F::remove_flow(tables, Place::Established, answers);
            F::add_flow(tables, Place::Opening, answers, flow, true)
        }
        Some(false) => false,
    }
}
