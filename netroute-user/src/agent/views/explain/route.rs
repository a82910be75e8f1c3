//! The route of a packet: its prefix, its next hops by metric, and why the one that is taken is.

use std::net::IpAddr;

use ipnet::IpNet;
use netroute_common::layout::route::{FIRST_FREE_ID, Member, NextHop, Route};
use netroute_common::stage::serve::Decision;
use netroute_common::tables::Tables as _;
use netroute_common::verdict::Verdict;

use super::hook::{decision, known};
use super::{Place, Scene};
use crate::agent::views::origin;
use crate::api::explain_types::{MemberView, RouteStageView};
use crate::compile::lookup::Lookup;
use crate::compile::next_hops::address;
use crate::compile::services::image::unmapped;
use crate::desired::egress::EgressPolicy;
use crate::error::one_line;
use crate::explain::Judged;

/// Who says which next hops there are.
enum Decides<'a> {
    Route(Option<IpNet>),
    Policy(Option<&'a EgressPolicy>),
}

impl Scene<'_> {
    pub(super) fn route_view(
        &self,
        place: &Place,
        judged: &Judged,
        (group, list): (u32, &[Member]),
        chosen: Option<u32>,
    ) -> RouteStageView {
        let destination = destination(place, judged);
        let via = judged.worked.as_ref().map_or(0, |worked| worked.via);
        let decides = if via != 0 && via == group {
            Decides::Policy(self.winner(judged))
        } else {
            Decides::Route(self.prefix(destination, group))
        };
        let real = list.iter().filter(|member| group >= FIRST_FREE_ID && member.next_hop >= FIRST_FREE_ID);
        let mut next_hops: Vec<MemberView> =
            real.filter_map(|member| self.member(member, &decides, chosen)).collect();
        next_hops.sort_by_key(|member| member.tier);
        let why = match next_hops.iter().find(|member| member.chosen) {
            Some(member) => self.why(member, &next_hops, list),
            None => not_taken(judged),
        };
        let metric = next_hops.iter().find(|member| member.chosen).and_then(|member| member.metric);
        let (prefix, origin) = match decides {
            Decides::Route(prefix) => {
                (prefix, prefix.map_or_else(String::new, |prefix| origin(self.snapshot, prefix)))
            }
            Decides::Policy(policy) => {
                let name = policy.map_or("-", |policy| policy.name.as_str());
                (None, format!("via of policy {}", one_line(name)))
            }
        };
        RouteStageView { destination, prefix, origin, metric, why, next_hops }
    }

    /// Of a packet that goes the way of its flow, whatever the route says.
    pub(super) fn of_flow(&self, place: &Place, judged: &Judged) -> Option<RouteStageView> {
        let worked = judged.worked.as_ref()?;
        known(judged)?;
        let why = if worked.standing.reply {
            "answers go back where the request came from, while that next hop lives"
        } else {
            "the flow keeps its next hop while that lives"
        };
        Some(RouteStageView {
            destination: destination(place, judged),
            prefix: None,
            origin: "flow".to_owned(),
            metric: None,
            why: why.to_owned(),
            next_hops: Vec::new(),
        })
    }

    pub(super) fn no_route(&self, place: &Place, judged: &Judged) -> RouteStageView {
        RouteStageView {
            destination: destination(place, judged),
            prefix: None,
            origin: String::new(),
            metric: None,
            why: not_taken(judged),
            next_hops: Vec::new(),
        }
    }

    fn winner(&self, judged: &Judged) -> Option<&EgressPolicy> {
        let id = judged.trace.policies.get(1)?;
        let statuses = &self.snapshot.compiled.egress.statuses;
        let (name, _) = statuses.iter().find(|(_, status)| status.stats.contains(id))?;
        self.snapshot.desired.cluster.egress_policies.get(name)
    }

    /// `None` also while the table is being changed: then the snapshot has another entry than the map.
    fn prefix(&self, destination: IpAddr, group: u32) -> Option<IpNet> {
        let (prefix, Route { group: installed, .. }) =
            Lookup(&self.snapshot.installed).longest(destination)?;
        (installed == group).then_some(prefix)
    }

    fn member(&self, member: &Member, decides: &Decides<'_>, chosen: Option<u32>) -> Option<MemberView> {
        let hop = self.tables.next_hop(member.next_hop)?;
        Some(MemberView {
            address: address(hop),
            interface: self.name_of(hop.ifindex),
            metric: self.metric(hop, decides),
            tier: member.tier,
            weight: member.weight,
            alive: hop.alive != 0,
            chosen: chosen == Some(member.next_hop),
        })
    }

    fn metric(&self, hop: &NextHop, decides: &Decides<'_>) -> Option<u32> {
        let gateway = address(hop)?;
        let is_on = |name: &str| {
            let link = self.interfaces.find(name, &self.snapshot.kernel);
            link.is_ok_and(|link| link.index == hop.ifindex)
        };
        match decides {
            Decides::Policy(policy) => {
                let effect = policy.as_ref()?.effect.as_ref().ok()?;
                let via = effect.via.iter().find(|via| via.next_hop == gateway && is_on(&via.interface));
                via.map(|via| via.metric)
            }
            Decides::Route(prefix) => {
                let prefix = (*prefix)?;
                let mut custom = self.snapshot.desired.routes.values();
                let custom = custom.find(|route| {
                    let key = &route.key;
                    key.destination == prefix && key.next_hop == gateway && is_on(&key.interface)
                });
                let of_kernel = || {
                    let mut routes = self.snapshot.kernel.routes.iter();
                    let over = routes.find(|route| {
                        let mut hops = route.next_hops.iter();
                        route.destination == prefix
                            && hops.any(|one| one.gateway == Some(gateway) && one.ifindex == hop.ifindex)
                    });
                    over.map(|route| route.metric)
                };
                custom.map(|route| route.metric).or_else(of_kernel)
            }
        }
    }

    /// Why this next hop is taken.
    fn why(&self, taken: &MemberView, all: &[MemberView], list: &[Member]) -> String {
        let equal = all.iter().filter(|one| one.tier == taken.tier && one.alive).count();
        let share = if equal > 1 {
            format!("one of {equal} of equal metric, by the flow's hash")
        } else {
            String::new()
        };
        let better: Vec<&Member> = list.iter().filter(|member| member.tier < taken.tier).collect();
        let mut said = Vec::new();
        for hop in better.iter().filter_map(|member| self.tables.next_hop(member.next_hop)) {
            let at = address(hop).map_or_else(|| "-".to_owned(), |address| address.to_string());
            let reason = self.why_dead(hop);
            said.push(format!("{at} on {} comes first and is down: {reason}", self.name_of(hop.ifindex)));
        }
        match (share.is_empty(), said.is_empty()) {
            (true, true) if all.len() == 1 => "its only next hop".to_owned(),
            (true, true) => "the best metric, and alive".to_owned(),
            (false, true) => share,
            (true, false) => said.join("; "),
            (false, false) => format!("{}; {share}", said.join("; ")),
        }
    }
}

/// Where the packet goes after all translation.
fn destination(place: &Place, judged: &Judged) -> IpAddr {
    let asked = place.shape.destination.ip();
    let Some(worked) = &judged.worked else { return asked };
    if let Some(flow) = known(judged) {
        return unmapped(flow.destination);
    }
    let opens = decision(judged) == Some(Decision::OPENS);
    let [_, to] = worked.to;
    if opens { to.ip() } else { asked }
}

fn not_taken(judged: &Judged) -> String {
    match judged.verdict {
        Verdict::Pass(reason) | Verdict::Drop(reason) | Verdict::Answer(reason) => {
            reason.explanation().trim().to_owned()
        }
        Verdict::Forward(_) => "no route decides".to_owned(),
    }
}
