//! Probes of a host that stops answering and comes back.

mod netns;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use netns::{Far, Observed, in_namespace, ip, veth, within};
use netroute_user::apply::neighbours::Neighbours;
use netroute_user::desired::route::{Probe, ProbeKind};
use netroute_user::input::netlink::Options;
use netroute_user::input::probe::{ProbeEvent, Probes};
use netroute_user::kernel::NeighbourKey;

const INTERVAL: Duration = Duration::from_millis(100);

async fn dies_and_revives(kind: ProbeKind, address: &str, prefix: &str) {
    veth("nic0", "far0");
    ip("addr add 10.0.0.1/24 dev nic0");
    ip("-6 addr add 2001:db8::1/64 dev nic0 nodad");
    let far = Far::with("far0", &["10.0.0.2/24", "2001:db8::2/64"]);
    let ifindex = nix::net::if_::if_nametoindex("nic0").expect("interface");
    let target = NeighbourKey { ifindex, address: address.parse().expect("address") };
    // As in the agent: the neighbour is managed too.
    let mut care = Neighbours::open().expect("neighbours");
    care.keep(&BTreeSet::from([target])).await.expect("keep");
    let mut seen = Observed::open(Options::default()).await;
    seen.until(|state| state.neighbours.get(&target).is_some_and(|n| n.mac.is_some())).await;
    let (mut probes, mut events) = Probes::new();
    probes.set(&BTreeMap::from([(target, Probe { kind, interval: INTERVAL, threshold: 3 })]));
    // A host that answers is no event: wait a few intervals for one that must not come.
    assert!(tokio::time::timeout(INTERVAL * 6, events.recv()).await.is_err(), "an event about a live host");
    for (alive, word) in [(false, "del"), (true, "add"), (false, "del")] {
        let nodad = if word == "add" && address.contains(':') { "nodad" } else { "" };
        far.ip(&format!("addr {word} {prefix} dev far0 {nodad}"));
        let begun = Instant::now();
        assert_eq!(within(events.recv()).await, Some(ProbeEvent { target, alive }));
        println!("{kind:?} {address}: alive={alive} told after {:?}", begun.elapsed());
    }
    assert!(ip(&format!("-d neigh show {address} dev nic0")).contains("managed"));
    probes.set(&BTreeMap::new());
}

#[test]
fn echo4() {
    in_namespace(async || dies_and_revives(ProbeKind::Echo, "10.0.0.2", "10.0.0.2/24").await);
}

#[test]
fn echo6() {
    in_namespace(async || dies_and_revives(ProbeKind::Echo, "2001:db8::2", "2001:db8::2/64").await);
}

#[test]
fn neighbour4() {
    in_namespace(async || dies_and_revives(ProbeKind::Neighbour, "10.0.0.2", "10.0.0.2/24").await);
}

#[test]
fn neighbour6() {
    in_namespace(async || dies_and_revives(ProbeKind::Neighbour, "2001:db8::2", "2001:db8::2/64").await);
}
