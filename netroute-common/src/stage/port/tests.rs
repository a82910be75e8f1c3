//! The order in which source ports are tried.

use std::collections::BTreeSet;
use std::vec::Vec;

use super::*;
use crate::host::{Capacities, HostTables};
use crate::wire::ipv4::Ipv4;

/// The ports tried, the one from before the search in front.
fn tried(ports: u16, own: Option<u16>) -> Vec<u16> {
    let tables = HostTables::new(Capacities::default(), [], [], [], []);
    let port = || Ipv4::scratch(&tables, |scratch| scratch.answers.ports().1).unwrap_or(0);
    Ipv4::scratch(&tables, |Scratch { answers, chosen, .. }| {
        *chosen = Chosen { first_port: 50_000, ports, hash: 0x9e37_79b1, ..Chosen::default() };
        answers.set_destination_port(own.unwrap_or(chosen.port_at(0)));
    });
    let mut tried = std::vec![port()];
    for attempt in 0..ATTEMPTS {
        if !next_port::<Ipv4, _>(&tables, attempt) {
            break;
        }
        tried.push(port());
    }
    tried
}

#[test]
fn n7_every_port_is_tried_and_none_twice_before_all_were() {
    for ports in [1, 4, 100, 128] {
        for own in [None, Some(50_000), Some(50_000 + ports - 1)] {
            let tried = tried(ports, own);
            let all: BTreeSet<u16> = tried.iter().copied().collect();
            assert_eq!(all, (50_000..50_000 + ports).collect(), "{ports} ports, {own:?}");
            if own.is_none() {
                let first: BTreeSet<_> = tried.iter().take(ports.into()).collect();
                assert_eq!(first.len(), usize::from(ports), "{ports} ports");
            }
        }
    }
    let many: BTreeSet<_> = tried(1000, None).into_iter().collect();
    assert_eq!(many.len() as u32, ATTEMPTS + 1, "each attempt is another port");
}
