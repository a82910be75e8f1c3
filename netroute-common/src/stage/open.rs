//! The first packet of a flow to a front end: which endpoint it gets, and the flow's two entries.

use super::answer::Answering;
use super::family::Family;
use super::hold::denied;
use super::port::{with_a_reclaimed_port, with_another_port};
use super::serve::{Asked, Decision, Scratch};
use super::stages::NewFlows;
use super::tuple::Tuple;
use crate::egress::{Egress, EgressEvent};
use crate::hash::Hash;
use crate::layout::egress::{MAX_SNAT_ADDRESSES, SnatAddress};
use crate::layout::flow::{Back, FLOW_EGRESS, FLOW_REPLY, Flow, PeerKey, STATE_OPENING};
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

/// From which a port is not a well-known one; another port is of the same class (RFC 4787 REQ-3).
const FIRST_HIGH_PORT: u16 = 1024;
/// First and number, where the client's address stays.
const HIGH_PORTS: (u16, u16) = (FIRST_HIGH_PORT, u16::MAX.wrapping_sub(FIRST_HIGH_PORT).wrapping_add(1));
const LOW_PORTS: (u16, u16) = (1, 1023);
/// Where the node's address takes its place: what Linux takes for itself and for others likewise.
const LOW_MASQUERADE_PORTS: (u16, u16) = (600, 424);
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
    /// `FLOW_*` of both entries.
    pub flags: u8,
    /// Index into `EGRESS_POLICIES`, of what leaves the cluster, and the generation of all policies.
    pub policy: u32,
    pub policies: u32,
    pub peer: PeerKey,
    /// Where a flow that sticks to its path leaves by.
    pub out: Back,
    /// The interface that it leaves by; 0 if that is the kernel's to know.
    pub ifindex: u32,
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
    /// One of the policy's on the interface the packet leaves by.
    Policy,
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
        first_port: 0,
        ports: 0,
        from,
        flags: 0,
        policy: 0,
        policies: 0,
        peer: chosen.peer,
        out: Back::default(),
        ifindex: 0,
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
pub(super) fn hash<A: Tuple>(tuple: &A) -> u32 {
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
/// packet becomes.
#[inline(always)]
pub fn enter<F: Answering, T: NewFlows>(tables: &T) -> Decision {
    // The scratch is let go of before each call: what is called takes it up by itself.
    let prepared = F::scratch(tables, |scratch| prepare::<F, T>(tables, scratch));
    if let Some(reason) = prepared.unwrap_or(Some(Reason::TableInconsistent)) {
        return denied::<F, T>(tables, reason);
    }
    let entered = tables.await_answers::<F>()
        || with_another_port::<F, T>(tables)
        || with_a_reclaimed_port::<F, T>(tables);
    if !entered {
        return denied::<F, T>(tables, Reason::NoMasqueradePort);
    }
    let refused = F::scratch(tables, |scratch| add::<F, T>(tables, scratch));
    match refused.unwrap_or(Some(Reason::TableInconsistent)) {
        Some(reason) => denied::<F, T>(tables, reason),
        None => Decision::NONE,
    }
}

/// The entry for answers, with the client's own source port if it is one to choose from; or why there is none.
#[inline(always)]
fn prepare<F: Family, S: Services + Egress>(tables: &S, scratch: &mut Scratch<F::Tuple>) -> Option<Reason> {
    let Scratch { asked, answers, chosen, flow, .. } = scratch;
    let ifindex = chosen.ifindex;
    let (own_port, front_port) = asked.tuple.ports();
    // An echo's identifier is of no class.
    let low = own_port < FIRST_HIGH_PORT && asked.tuple.protocol() != F::ICMP;
    (chosen.first_port, chosen.ports) = if low { LOW_PORTS } else { HIGH_PORTS };
    if chosen.from == From::Policy {
        let Some(own) = address_of_policy::<F, S>(tables, chosen, ifindex) else {
            return Some(Reason::EgressNoAddress);
        };
        chosen.source = own.address;
        (chosen.first_port, chosen.ports) =
            if low { LOW_MASQUERADE_PORTS } else { (own.first_port, own.ports) };
    } else if chosen.from != From::Client {
        if chosen.from == From::Interface && ifindex == 0 {
            return Some(Reason::EndpointUnreachable);
        }
        // Whatever the interface, the pod's answer to an address of the node comes back to this hook.
        let ifindex = if chosen.from == From::Node { 0 } else { ifindex };
        let masquerade = tables.masquerade(ifindex);
        let address = masquerade.and_then(F::masquerade_address);
        let (Some(masquerade), Some(address)) = (masquerade, address) else {
            return Some(Reason::NoMasqueradeAddress);
        };
        chosen.source = address;
        (chosen.first_port, chosen.ports) =
            if low { LOW_MASQUERADE_PORTS } else { (masquerade.first_port, masquerade.ports) };
    }
    *flow = Flow {
        seen: asked.now,
        touched: asked.now,
        source: asked.tuple.destination(),
        destination: asked.tuple.source(),
        source_port: front_port,
        destination_port: own_port,
        state: STATE_OPENING,
        flags: FLOW_REPLY | chosen.flags,
        protocol: asked.tuple.protocol(),
        backend: chosen.backend,
        generation: chosen.generation,
        service: chosen.service,
        policy: chosen.policy,
        policies: chosen.policies,
        back: back_to(tables, &chosen.peer),
        ..Flow::default()
    };
    // What goes on as it is keeps whatever it has.
    let as_it_is = chosen.from == From::Client && chosen.flags != 0;
    let own = as_it_is || own_port.wrapping_sub(chosen.first_port) < chosen.ports;
    let port = if own { own_port } else { chosen.port_at(0) };
    *answers = F::Tuple::new(&chosen.endpoint, &chosen.source, (chosen.port, port), flow.protocol);
    None
}

/// The policy's address for this source on this interface: the same for all flows of the source (RFC 4787
/// REQ-2).
// Out of line: its registers would be kept on the stack of the deepest way.
#[inline(never)]
fn address_of_policy<'t, F: Family, E: Egress>(
    tables: &'t E,
    chosen: &Chosen,
    ifindex: u32,
) -> Option<&'t SnatAddress> {
    let policy = tables.policy(chosen.policy)?;
    let (first, count) =
        if F::VERSION == 4 { (policy.snat4, policy.snat4_count) } else { (policy.snat6, policy.snat6_count) };
    let [a, b, c, d] = chosen.source.words();
    let start = Hash::new().word(a).word(b).word(c).word(d).finish();
    for n in 0..MAX_SNAT_ADDRESSES {
        let place = start.wrapping_add(n.into()).checked_rem(count.into())?;
        if n >= count {
            break;
        }
        let own = tables.snat(first.wrapping_add(place))?;
        if own.ifindex == ifindex && own.address != Address::default() {
            return Some(own);
        }
    }
    None
}

/// The way back to who handed the packet over.
#[inline(always)]
pub fn back_to<S: Services>(services: &S, peer: &PeerKey) -> Back {
    match services.neighbour(peer) {
        Some(next_hop) => Back { next_hop, mac: peer.mac, zero: [0; 2] },
        None => Back::default(),
    }
}

/// Adds the entry for the client's packets, behind that for answers; or says why not.
#[inline(always)]
fn add<F: Family, S: Services + Egress>(tables: &S, scratch: &mut Scratch<F::Tuple>) -> Option<Reason> {
    let Scratch { asked, to, answers, chosen, flow, .. } = scratch;
    *to = answers.reversed();
    // SCTP's checksum is over the whole packet and cannot be brought up to date here.
    let fits = flow.protocol != PROTOCOL_SCTP || to.ports() == asked.tuple.ports();
    flow.source = to.source();
    flow.destination = to.destination();
    (flow.source_port, flow.destination_port) = to.ports();
    flow.flags = chosen.flags;
    if chosen.flags & FLOW_EGRESS != 0 {
        flow.back = chosen.out;
    }
    flow.packets = 1;
    flow.bytes = asked.bytes.into();
    if fits && F::add_flow(tables, Place::Opening, &asked.tuple, flow, true) {
        if chosen.service != 0 {
            tables.count_service(chosen.service, asked.bytes, ServiceEvent::NewFlow);
        }
        if chosen.flags & FLOW_EGRESS != 0 {
            tables.count_egress(chosen.policy, asked.bytes, asked.now, EgressEvent::NewFlow);
        }
        return None;
    }
    F::remove_flow(tables, Place::Opening, answers);
    Some(match (fits, chosen.flags & FLOW_EGRESS) {
        (true, _) => Reason::FlowTableFull,
        (false, 0) => Reason::ServiceProtocol,
        (false, _) => Reason::EgressProtocol,
    })
}
