//! The source port of a new flow whose own is not free, or not one to choose from.

use core::hint::black_box;

use super::answer::Answering;
use super::family::Family;
use super::follow::{forget, is_quiet};
use super::open::Chosen;
use super::serve::Scratch;
use super::stages::NewFlows;
use super::tuple::Tuple;
use crate::layout::flow::{FLOW_ANSWERED, STATE_OPENING, TOUCH};
use crate::services::{Place, Services};

/// Source ports tried before a flow is refused.
const ATTEMPTS: u32 = 128;
/// Of those, ports tried again that a flow without an answer has.
const RECLAIMS: u32 = 32;
/// How old that flow's entry for answers is. While its client still sends, that is renewed every [`TOUCH`]: only
/// what is older waits in vain.
const IN_VAIN: u64 = 20 * NANOSECONDS;
const _: () = assert!(IN_VAIN > TOUCH);
/// Odd, and coprime to the usual sizes of ranges: neighbours in hash do not run after each other.
const STRIDE: u32 = 7919;
const NANOSECONDS: u64 = 1_000_000_000;

/// Tries source ports in an order that the flow alone decides.
#[inline(always)]
pub(super) fn with_another_port<F: Answering, T: NewFlows>(tables: &T) -> bool {
    for attempt in 0..ATTEMPTS {
        // Opaque: unrolled, the loop would hold every attempt on the stack.
        if !next_port::<F, T>(tables, black_box(attempt)) {
            break;
        }
        if tables.await_answers::<F>() {
            return true;
        }
    }
    false
}

/// Tries some again, whose flows wait in vain: a flood of those must not keep others out.
#[inline(always)]
pub(super) fn with_a_reclaimed_port<F: Answering, T: NewFlows>(tables: &T) -> bool {
    for attempt in 0..RECLAIMS {
        if !next_port::<F, T>(tables, black_box(attempt)) {
            break;
        }
        if tables.reclaim::<F>() && tables.await_answers::<F>() {
            return true;
        }
    }
    false
}

/// The entry for answers with another source port; false when there is none left. The first of the order comes
/// last: it was tried where the client's own is none to choose from.
#[inline(always)]
fn next_port<F: Family, S: Services>(tables: &S, attempt: u32) -> bool {
    let more = F::scratch(tables, |Scratch { answers, chosen, .. }| {
        answers.set_destination_port(chosen.port_at(attempt.wrapping_add(1)));
        attempt < u32::from(chosen.ports)
    });
    more == Some(true)
}

impl Chosen {
    #[inline(always)]
    pub(super) fn port_at(&self, attempt: u32) -> u16 {
        let step = u32::from(self.hash as u16).wrapping_add(attempt.wrapping_mul(STRIDE));
        self.first_port.wrapping_add(step.checked_rem(u32::from(self.ports)).unwrap_or(0) as u16)
    }
}

/// Adds the entry for answers in the scratch, unless another flow has it. A function of its own.
#[inline(always)]
pub fn await_answers<F: Family, S: Services>(tables: &S) -> bool {
    let awaited = F::scratch(tables, |Scratch { asked, answers, flow, .. }| {
        let timers = tables.timers()?;
        let ours_or_over = F::flow(tables, answers, |_, held| {
            let client =
                held.destination == flow.destination && held.destination_port == flow.destination_port;
            let front_end = held.source == flow.source && held.source_port == flow.source_port;
            client && front_end || is_quiet(held, timers, asked.now)
        });
        Some(match ours_or_over {
            None => F::add_flow(tables, Place::Opening, answers, flow, false),
            Some(true) => {
                F::remove_flow(tables, Place::Established, answers);
                F::add_flow(tables, Place::Opening, answers, flow, true)
            }
            Some(false) => false,
        })
    });
    awaited.flatten().unwrap_or(false)
}

/// Removes the flow whose answers the scratch would have, if it waits for its first longer than most do. A
/// function of its own.
#[inline(always)]
pub fn reclaim<F: Family, S: Services>(tables: &S) -> bool {
    let removed = F::scratch(tables, |Scratch { asked, answers, .. }| {
        let in_vain = F::flow(tables, answers, |_, held| {
            let unanswered = held.state == STATE_OPENING && held.flags & FLOW_ANSWERED == 0;
            unanswered && asked.now.saturating_sub(held.seen) > IN_VAIN
        });
        if in_vain == Some(true) {
            forget::<F, S>(tables, answers);
        }
        in_vain == Some(true)
    });
    removed.unwrap_or(false)
}

#[cfg(all(test, feature = "host"))]
mod tests;
