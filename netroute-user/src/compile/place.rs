//! Gives each custom route its link, or the reason for having none.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Inputs;
use super::admission;
use super::interfaces::{Interfaces, Unresolved};
use super::status::State;
use super::table::{Entry, Table};
use crate::desired::route::{CustomRoute, RouteKey};
use crate::kernel::Link;

/// A route that gets no place in the table, and what is said of it.
pub(super) struct Refused<'a> {
    pub(super) key: &'a RouteKey,
    pub(super) state: State,
    pub(super) reason: String,
}

/// The link of a route, or state and reason of one that has none.
pub(super) type Answer<'a> = Result<&'a Link, (State, String)>;

/// Puts the custom routes into `table`.
pub(super) fn place<'a>(
    inputs: &Inputs<'a>,
    interfaces: &Interfaces,
    table: &mut Table<'a>,
) -> Vec<Refused<'a>> {
    let mut refused = Vec::new();
    // Routes are many, interfaces few.
    let mut answers: BTreeMap<(&str, bool), Answer<'a>> = BTreeMap::new();
    let mut fresh: Vec<(IpNet, Entry<'a>)> = Vec::new();
    let mut prefix = Prefix::default();
    for (key, route) in &inputs.desired.routes {
        if prefix.destination != Some(key.destination) {
            std::mem::take(&mut prefix).finish(table, &mut fresh);
            prefix.destination = Some(key.destination);
        }
        let named = (key.interface.as_str(), route.forced);
        let answer = answers
            .entry(named)
            .or_insert_with(|| self::named(inputs, interfaces, &key.interface, route.forced));
        let outcome = match answer {
            Ok(link) => prefix.add(route, link),
            Err(refused) => Err(refused.clone()),
        };
        refused.extend(outcome.err().map(|(state, reason)| Refused { key, state, reason }));
    }
    prefix.finish(table, &mut fresh);
    table.append(&mut fresh.into_iter().collect());
    refused
}

/// The link that a name stands for, if next hops on it are accepted.
pub(super) fn named<'a>(
    inputs: &Inputs<'a>,
    interfaces: &Interfaces,
    name: &str,
    forced: bool,
) -> Answer<'a> {
    let Inputs { kernel, .. } = *inputs;
    let found = interfaces.find(name, kernel).map_err(|unresolved| match unresolved {
        Unresolved::NoDevice => (State::Pending, format!("interface {name} does not exist yet")),
        Unresolved::UnknownName => {
            let reason =
                format!("no interface is called {name}; see interfaces in the agent's configuration");
            (State::Invalid, reason)
        }
    })?;
    admission::admission(found, &kernel.links, &kernel.addresses, forced)
        .map(|()| found)
        .map_err(|refusal| (State::Invalid, refusal.to_string()))
}

/// Routes of one destination, which follow each other in the order of their keys.
#[derive(Default)]
struct Prefix<'a> {
    destination: Option<IpNet>,
    custom: Vec<(&'a CustomRoute, &'a Link)>,
    /// By link and next hop, the last route that asked for them.
    seen: BTreeMap<(u32, IpAddr), &'a RouteKey>,
}

impl<'a> Prefix<'a> {
    fn add(&mut self, route: &'a CustomRoute, link: &'a Link) -> Result<(), (State, String)> {
        let key = &route.key;
        match self.seen.insert((link.index, key.next_hop), key) {
            Some(twin) => Err((State::Invalid, format!("same as {twin}"))),
            None => {
                self.custom.push((route, link));
                Ok(())
            }
        }
    }

    /// New entries go to `fresh`: a table of many is made faster than entry by entry.
    fn finish(self, table: &mut Table<'a>, fresh: &mut Vec<(IpNet, Entry<'a>)>) {
        let Self { destination, custom, seen: _ } = self;
        let Some(destination) = destination.filter(|_| !custom.is_empty()) else { return };
        match table.get_mut(&destination) {
            Some(entry) => entry.custom = custom,
            None => fresh.push((destination, Entry { custom, ..Entry::default() })),
        }
    }
}
