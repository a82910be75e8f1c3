//! Which next hop a packet takes, and what is known of it.

use netroute_common::layout::route::{FIRST_FREE_ID, Group, MAX_MEMBERS, Member, NextHop};
use netroute_common::stage::serve::Decision;
use netroute_common::tables::Tables as _;
use netroute_common::verdict::{Reason, Verdict};

use super::hook::{decision, known};
use super::{Place, Scene};
use crate::agent::views::why_down;
use crate::api::explain_types::{NeighbourView, NextHopStageView, RouteStageView};
use crate::compile::Gateway;
use crate::compile::next_hops::address;
use crate::explain::Judged;

/// Both stages.
pub(super) struct Way {
    pub(super) route: Option<RouteStageView>,
    pub(super) next_hop: Option<NextHopStageView>,
}

impl Scene<'_> {
    /// `None` if the packet goes nowhere before it comes to that.
    pub(super) fn way(&self, place: &Place, judged: &Judged) -> Option<Way> {
        if matches!(judged.verdict, Verdict::Drop(_) | Verdict::Answer(_)) && judged.trace.groups.is_empty() {
            return None;
        }
        let reason = judged.verdict.reason();
        if reason == Reason::SpoofedSource {
            return None;
        }
        let chosen = chosen(judged);
        let Some(group) = judged.trace.groups.last().copied() else {
            let route = match (chosen, reason) {
                (Some(_), _) => self.of_flow(place, judged),
                (None, Reason::NoRoute) => Some(self.no_route(place, judged)),
                _ => None,
            };
            return Some(Way { route, next_hop: chosen.and_then(|id| self.next_hop(id)) });
        };
        let members = self.tables.group(group).map(members).unwrap_or_default();
        let route = self.route_view(place, judged, (group, &members), chosen);
        // Where none is taken, the preferred one says why.
        let shown = chosen.or_else(|| members.first().map(|member| member.next_hop));
        let shown = shown.filter(|id| group >= FIRST_FREE_ID && *id >= FIRST_FREE_ID);
        Some(Way { route: Some(route), next_hop: shown.and_then(|id| self.next_hop(id)) })
    }

    fn next_hop(&self, id: u32) -> Option<NextHopStageView> {
        let hop: &NextHop = self.tables.next_hop(id)?;
        let address = address(hop);
        let alive = hop.alive != 0;
        let neighbour = match address {
            Some(address) => self.neighbour(hop.ifindex, address, Some(hop.destination_mac)),
            None => NeighbourView { state: "none".to_owned(), mac: None },
        };
        Some(NextHopStageView {
            address,
            interface: self.name_of(hop.ifindex),
            alive,
            reason: if alive { String::new() } else { self.why_dead(hop) },
            neighbour,
        })
    }

    pub(super) fn why_dead(&self, hop: &NextHop) -> String {
        let Some(address) = address(hop) else { return "it is not alive".to_owned() };
        let gateway = Gateway { ifindex: hop.ifindex, address };
        why_down(&self.snapshot.kernel, gateway, &self.snapshot.compiled)
    }
}

/// The members in use.
pub(super) fn members(group: &Group) -> Vec<Member> {
    let used = usize::try_from(group.len).unwrap_or(MAX_MEMBERS);
    group.members.iter().take(used).copied().collect()
}

/// The next hop that the packet leaves by, or would.
fn chosen(judged: &Judged) -> Option<u32> {
    let forwarded = judged.trace.forwarded.map(|(_, next_hop)| next_hop);
    let held = judged.trace.held.filter(|id| *id != 0);
    let kept = || {
        let flow = known(judged).filter(|flow| flow.back.next_hop != 0);
        flow.filter(|_| decision(judged) != Some(Decision::OPENS)).map(|flow| flow.back.next_hop)
    };
    forwarded.or(held).or_else(|| kept().filter(|_| matches!(judged.verdict, Verdict::Forward(_))))
}
