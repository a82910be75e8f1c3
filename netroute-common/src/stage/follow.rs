//! A packet of a flow that is known: what its entry says, and what the packet does to it.

use super::family::Family;
use super::tuple::Tuple;
use crate::layout::flow::{
    Back, FLOW_ANSWERED, FLOW_BACKEND_FIN, FLOW_CLIENT_FIN, FLOW_REPLY, Flow, STATE_CLOSING,
    STATE_ESTABLISHED, STATE_OPENING, STATE_RESET, TOUCH, Timers,
};
use crate::services::{Place, Services};
use crate::wire::l4::{PROTOCOL_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

const NANOSECONDS: u64 = 1_000_000_000;
const BOTH_FINS: u8 = FLOW_CLIENT_FIN | FLOW_BACKEND_FIN;

/// What a packet does to both entries of its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Transition {
    pub state: u8,
    /// `FLOW_*` that are set from now on, in both entries.
    pub flags: u8,
    /// The flow moves from the opening to the established ones.
    pub promoted: bool,
    /// The client's packet: it says the way back anew.
    pub forth: bool,
    pub now: u64,
    pub back: Back,
}

/// Nanoseconds after its last packet at which a flow counts as gone.
#[inline(always)]
pub fn lifetime(timers: &Timers, protocol: u8, state: u8) -> u64 {
    let seconds = match (protocol, state) {
        (PROTOCOL_TCP, STATE_OPENING) => timers.tcp_opening,
        (PROTOCOL_TCP, STATE_ESTABLISHED) => timers.tcp_established,
        (PROTOCOL_TCP, STATE_RESET) => timers.tcp_reset,
        (PROTOCOL_TCP, _) => timers.tcp_closing,
        (_, STATE_OPENING) => timers.udp_opening,
        _ => timers.udp_established,
    };
    u64::from(seconds).wrapping_mul(NANOSECONDS)
}

/// Whether nothing came for too long.
#[inline(always)]
pub fn is_quiet(flow: &Flow, timers: &Timers, now: u64) -> bool {
    now.saturating_sub(flow.seen) > lifetime(timers, flow.protocol, flow.state)
}

/// Whether this packet begins a connection anew on an entry whose own has come to its end (S19).
#[inline(always)]
pub fn begins_anew(flow: &Flow, tcp: u8) -> bool {
    let opens = tcp & (TCP_SYN | TCP_ACK) == TCP_SYN && flow.flags & FLOW_REPLY == 0;
    opens && (flow.state == STATE_CLOSING || flow.state == STATE_RESET || flow.flags & BOTH_FINS != 0)
}

/// What this packet changes; `None` for the many that change nothing.
#[inline(always)]
pub fn transition(flow: &Flow, place: Place, tcp: u8, now: u64) -> Option<Transition> {
    let reply = flow.flags & FLOW_REPLY != 0;
    let mut flags = if reply { FLOW_ANSWERED } else { 0 };
    let mut state = flow.state;
    if flow.protocol == PROTOCOL_TCP {
        if tcp & TCP_FIN != 0 {
            flags |= if reply { FLOW_BACKEND_FIN } else { FLOW_CLIENT_FIN };
        }
        state = tcp_state(flow, tcp, flow.flags | flags);
    } else if state == STATE_OPENING && reply {
        state = STATE_ESTABLISHED;
    }
    let touches = now.saturating_sub(flow.touched) > TOUCH;
    if state == flow.state && flags & !flow.flags == 0 && !touches {
        return None;
    }
    let promoted = place == Place::Opening && (state == STATE_ESTABLISHED || state == STATE_CLOSING);
    Some(Transition { state, flags, promoted, forth: !reply, now, back: Back::default() })
}

/// RFC 9293 as seen from the middle, with the caution of RFC 7857 section 2.2: a reset shortens the time
/// that the flow is kept, and a segment after it shows that it was not meant (S24).
#[inline(always)]
fn tcp_state(flow: &Flow, tcp: u8, flags: u8) -> u8 {
    let reply = flow.flags & FLOW_REPLY != 0;
    let data = tcp & (TCP_ACK | TCP_SYN) == TCP_ACK;
    match flow.state {
        _ if tcp & TCP_RST != 0 => STATE_RESET,
        STATE_OPENING if !reply && data && flags & FLOW_ANSWERED != 0 => STATE_ESTABLISHED,
        STATE_RESET if data && flags & FLOW_ANSWERED != 0 => STATE_ESTABLISHED,
        STATE_ESTABLISHED if flags & BOTH_FINS == BOTH_FINS => STATE_CLOSING,
        state => state,
    }
}

/// Takes note of a packet of `bytes` in its entry.
#[inline(always)]
pub fn refresh(flow: &mut Flow, now: u64, bytes: u32) {
    flow.seen = now;
    flow.packets = flow.packets.wrapping_add(1);
    flow.bytes = flow.bytes.wrapping_add(u64::from(bytes));
}

/// Carries a transition out on both entries. False if the established flows have no room for one more;
/// then the flow stays what it was.
#[inline(never)]
pub fn carry_out<F: Family, S: Services>(services: &S, key: &F::Tuple, transition: &Transition) -> bool {
    let answers_of = |_: Place, flow: &mut Flow| F::Tuple::rewritten_by(flow).reversed();
    let Some(answers) = F::flow(services, key, answers_of) else { return true };
    if !transition.promoted {
        F::flow(services, key, |_, flow| mark(flow, transition));
        F::flow(services, &answers, |_, flow| mark(flow, transition));
        return true;
    }
    if !promote::<F, S>(services, &answers, transition) {
        return false;
    }
    if !promote::<F, S>(services, key, transition) {
        F::remove_flow(services, Place::Established, &answers);
        return false;
    }
    F::remove_flow(services, Place::Opening, key);
    F::remove_flow(services, Place::Opening, &answers);
    true
}

#[inline(always)]
fn mark(flow: &mut Flow, transition: &Transition) {
    let Transition { state, flags, promoted: _, forth, now, back } = *transition;
    flow.seen = now;
    flow.touched = now;
    flow.state = state;
    flow.flags |= flags;
    // The other entry's is where the client's packets leave by.
    if forth && flow.flags & FLOW_REPLY != 0 {
        flow.back = back;
    }
}

/// Copies an entry to the established ones, as it is from now on. Another processor may be doing the
/// same: what it added is the same.
#[inline(never)]
fn promote<F: Family, S: Services>(services: &S, key: &F::Tuple, transition: &Transition) -> bool {
    let entry = F::flow(services, key, |_, flow| *flow);
    entry.is_some_and(|mut flow| {
        mark(&mut flow, transition);
        F::add_flow(services, Place::Established, key, &flow, true)
    })
}

/// Removes both entries of the flow that has one under `key`.
#[inline(never)]
pub fn forget<F: Family, S: Services>(services: &S, key: &F::Tuple) {
    let found = F::flow(services, key, |place, flow| (place, F::Tuple::rewritten_by(flow).reversed()));
    let Some((place, answers)) = found else { return };
    F::remove_flow(services, place, &answers);
    F::remove_flow(services, place, key);
}
