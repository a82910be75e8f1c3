//! Which next hop of a group: the lowest metric that has a living member; within it, weighted
//! rendezvous hashing, so that losing a next hop moves only the flows that used it.

use core::hint::black_box;

use crate::hash::{Hash, cost};
use crate::layout::route::{Group, MAX_MEMBERS, Member, NextHop};
use crate::tables::Tables;
use crate::verdict::Reason;

/// A member of a group: its next hop's id, and its place among the members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice(u32);

impl Choice {
    const PLACE_SHIFT: u32 = 24;

    /// Next-hop ids are indices of an array far smaller than 2^24.
    #[inline(always)]
    pub fn new(id: u32, place: usize) -> Self {
        Self(id & 0x00ff_ffff | (place as u32) << Self::PLACE_SHIFT)
    }

    #[inline(always)]
    pub fn id(self) -> u32 {
        self.0 & 0x00ff_ffff
    }

    #[inline(always)]
    pub fn place(self) -> u32 {
        self.0 >> Self::PLACE_SHIFT
    }
}

/// The first member of a group, where no hash is needed to choose: it is the only one, or it lives
/// and shares its tier with no other.
#[inline(always)]
pub fn preferred<'t, T: Tables>(
    tables: &'t T,
    group: &Group,
) -> Result<Option<(Choice, &'t NextHop)>, Reason> {
    let [first, second, ..] = &group.members;
    if group.len > 1 && second.tier <= first.tier || group.len == 0 {
        return Ok(None);
    }
    match living(tables, first.next_hop) {
        Ok(next_hop) => Ok(Some((Choice::new(first.next_hop, 0), next_hop))),
        Err(reason) if group.len == 1 => Err(reason),
        Err(_) => Ok(None),
    }
}

/// The next hop of a group for a flow with this hash.
#[inline(always)]
pub fn for_flow<'t, T: Tables>(
    tables: &'t T,
    group: &Group,
    flow: u32,
) -> Result<(Choice, &'t NextHop), Reason> {
    let choice = choose(tables, group, flow)?;
    Ok((choice, living(tables, choice.id())?))
}

/// The entry of a next hop, if packets may be sent to it.
#[inline(always)]
fn living<T: Tables>(tables: &T, id: u32) -> Result<&NextHop, Reason> {
    let next_hop = tables.next_hop(id).ok_or(Reason::TableInconsistent)?;
    if next_hop.alive == 0 { Err(down(next_hop)) } else { Ok(next_hop) }
}

/// Chooses for a flow by its hash. Out of line: it is the only loop on the path, and few packets
/// need it.
#[inline(never)]
fn choose<T: Tables>(tables: &T, group: &Group, flow: u32) -> Result<Choice, Reason> {
    let mut best = DEAD;
    let mut choice = 0;
    for index in 0..MAX_MEMBERS {
        let Some(member) = group.members.get(index) else { break };
        if index as u32 >= group.len {
            break;
        }
        // Not passed over: that would double what the verifier must walk.
        let Some(next_hop) = tables.next_hop(member.next_hop) else { break };
        let score = score(member, next_hop.alive, flow);
        let lower = lower(score, best);
        best ^= (best ^ score) & lower;
        choice ^= (choice ^ Choice::new(member.next_hop, index).0) & lower as u32;
    }
    if best < DEAD { Ok(Choice(choice)) } else { Err(preferred_reason(tables, group)) }
}

/// All ones if `a < b`, else zero, for numbers below 2^63. The compiler may not see through it:
/// it would make branches of what is selected by it, and the verifier would walk every combination
/// of the branches of every round.
#[inline(always)]
fn lower(a: u64, b: u64) -> u64 {
    black_box((a.wrapping_sub(b) as i64 >> 63) as u64)
}

/// Above the score of any living member.
const DEAD: u64 = u64::MAX >> 1;
const TIER_SHIFT: u32 = 48;

/// Orders members by liveness, tier, then cost per weight, in one number.
#[inline(always)]
fn score(member: &Member, alive: u8, flow: u32) -> u64 {
    let cost = cost(Hash::new().word(flow).word(member.next_hop).finish());
    let share = cost.wrapping_mul(u64::from(member.inverse));
    let dead = u64::from(alive).wrapping_sub(1) >> 1;
    dead | u64::from(member.tier) << TIER_SHIFT | share
}

/// Why a group without a living member cannot be used, said of its preferred one.
fn preferred_reason<T: Tables>(tables: &T, group: &Group) -> Reason {
    let [first, ..] = &group.members;
    if group.len == 0 {
        return Reason::TableInconsistent;
    }
    tables.next_hop(first.next_hop).map_or(Reason::TableInconsistent, down)
}

fn down(next_hop: &NextHop) -> Reason {
    if next_hop.destination_mac == [0; 6] { Reason::NeighbourUnresolved } else { Reason::NextHopDown }
}
