//! Neighbour care against a live kernel.

mod netns;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use netns::{Far, Observed, in_namespace, ip, veth};
use netroute_user::apply::neighbours::Neighbours;
use netroute_user::input::netlink::Options;
use netroute_user::kernel::{Change, NeighbourKey, NeighbourState};

fn key(seen: &Observed, address: &str) -> NeighbourKey {
    NeighbourKey { ifindex: seen.index("nic0"), address: address.parse().expect("address") }
}

fn shown(address: &str) -> String {
    ip(&format!("-d neigh show {address} dev nic0"))
}

/// Older kernels ignore that they are asked to, and forget our mark with the entry.
fn kernel_keeps() -> bool {
    use aya::util::KernelVersion;
    KernelVersion::current().expect("version") >= KernelVersion::new(5, 16, 0)
}

/// A NIC whose far end answers at .2 and ::2.
async fn wired() -> (Far, Observed) {
    veth("nic0", "far0");
    ip("addr add 10.0.0.1/24 dev nic0");
    ip("-6 addr add 2001:db8::1/64 dev nic0 nodad");
    let far = Far::with("far0", &["10.0.0.2/24", "2001:db8::2/64"]);
    (far, Observed::open(Options::default()).await)
}

#[test]
fn wanted_neighbours_are_resolved_and_released() {
    in_namespace(async || {
        let (_far, mut seen) = wired().await;
        let wanted =
            BTreeSet::from([key(&seen, "10.0.0.2"), key(&seen, "2001:db8::2"), key(&seen, "10.0.0.9")]);
        let mut care = Neighbours::open().expect("neighbours");
        assert!(care.keep(&wanted).await.expect("keep").is_empty());
        for key in wanted.iter().filter(|key| !key.address.to_string().ends_with('9')) {
            seen.until(|state| {
                state.neighbours.get(key).is_some_and(|n| n.state == NeighbourState::Reachable)
            })
            .await;
            let shown = shown(&key.address.to_string());
            assert!(shown.contains("proto 78"), "{shown}");
            assert_eq!(shown.contains("managed"), kernel_keeps(), "{shown}");
        }
        if !kernel_keeps() {
            return;
        }
        // One that is not there stays managed: the kernel goes on asking.
        assert!(shown("10.0.0.9").contains("managed"));

        // Another agent, as after a restart, knows them for its own and lets them go.
        let mut next = Neighbours::open().expect("neighbours");
        let kept = BTreeSet::from([key(&seen, "10.0.0.2")]);
        assert!(next.keep(&kept).await.expect("keep").is_empty());
        assert!(shown("10.0.0.2").contains("managed"));
        assert!(!shown("2001:db8::2").contains("managed") && !shown("10.0.0.9").contains("managed"));
        assert_eq!(next.release_all().await.expect("release"), 1);
        assert!(!shown("10.0.0.2").contains("managed"));
    });
}

#[test]
fn entries_of_others_stay_as_they_are() {
    in_namespace(async || {
        let (_far, mut seen) = wired().await;
        ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev nic0 nud permanent");
        ip("neigh add 10.0.0.3 dev nic0 managed");
        seen.until(|state| state.neighbours.keys().filter(|key| key.address.is_ipv4()).count() >= 2).await;
        let wanted = BTreeSet::from([key(&seen, "10.0.0.2"), key(&seen, "10.0.0.3")]);
        let mut care = Neighbours::open().expect("neighbours");
        care.keep(&wanted).await.expect("keep");
        care.refresh(&wanted).await.expect("refresh");
        care.probe(&wanted).await.expect("probe");
        care.keep(&BTreeSet::new()).await.expect("keep");
        assert!(shown("10.0.0.2").contains("02:00:00:00:00:02 PERMANENT"), "{}", shown("10.0.0.2"));
        assert!(shown("10.0.0.3").contains("managed"), "{}", shown("10.0.0.3"));
    });
}

#[test]
fn an_entry_that_is_flushed_is_made_again() {
    in_namespace(async || {
        let (_far, mut seen) = wired().await;
        let wanted = BTreeSet::from([key(&seen, "10.0.0.2")]);
        let mut care = Neighbours::open().expect("neighbours");
        care.keep(&wanted).await.expect("keep");
        seen.change(
            |change| matches!(change, Change::Neighbour(_, n) if n.state == NeighbourState::Reachable),
        )
        .await;
        ip("neigh del 10.0.0.2 dev nic0");
        while !care.observe(&seen.next().await) {}
        care.keep(&wanted).await.expect("keep");
        seen.until(|state| state.neighbours.get(&key_of(&wanted)).is_some_and(|n| n.mac.is_some())).await;
    });
}

fn key_of(wanted: &BTreeSet<NeighbourKey>) -> NeighbourKey {
    *wanted.first().expect("one")
}

#[test]
fn a_host_that_is_replaced_is_noticed() {
    in_namespace(async || {
        let (far, mut seen) = wired().await;
        let wanted = BTreeSet::from([key(&seen, "10.0.0.2")]);
        let host = key_of(&wanted);
        let mut care = Neighbours::open().expect("neighbours");
        care.keep(&wanted).await.expect("keep");
        seen.until(|state| state.neighbours.get(&host).is_some_and(|n| n.mac.is_some())).await;
        // The same address on another MAC, without gratuitous ARP.
        far.ip("link set far0 address 02:00:00:00:00:77");
        care.probe(&wanted).await.expect("probe");
        let new = Some([2, 0, 0, 0, 0, 0x77]);
        seen.until(|state| state.neighbours.get(&host).is_some_and(|n| n.mac == new)).await;
        assert!(shown("10.0.0.2").contains("managed"));
    });
}

#[test]
fn an_entry_that_lost_its_mark_is_taken_again_when_it_fails() {
    in_namespace(async || {
        let (_far, mut seen) = wired().await;
        let wanted = BTreeSet::from([key(&seen, "10.0.0.9")]);
        let mut care = Neighbours::open().expect("neighbours");
        care.keep(&wanted).await.expect("keep");
        ip("neigh replace 10.0.0.9 lladdr 02:00:00:00:00:09 dev nic0 nud probe");
        assert!(!shown("10.0.0.9").contains("managed"), "{}", shown("10.0.0.9"));
        // Nobody is there: the kernel gives up, and would never ask again.
        let failed =
            |change: &Change| matches!(change, Change::Neighbour(_, n) if n.state == NeighbourState::Failed);
        loop {
            let event = seen.next().await;
            let due = care.observe(&event);
            if matches!(&event, netroute_user::input::netlink::Event::Changed(change) if failed(change)) {
                assert!(due, "a failure of a wanted neighbour asks for care");
                break;
            }
        }
        care.keep(&wanted).await.expect("keep");
        assert!(shown("10.0.0.9").contains("managed"), "{}", shown("10.0.0.9"));
    });
}

#[test]
fn r14_a_host_that_was_away_is_asked_again_where_the_kernel_does_not() {
    in_namespace(async || {
        let (far, mut seen) = wired().await;
        netns::sysctl("ipv4/neigh/nic0/retrans_time_ms", "50");
        let wanted = BTreeSet::from([key(&seen, "10.0.0.9")]);
        let mut care = Neighbours::open().expect("neighbours").unmanaged();
        // It fails again and again, which the kernel tells once.
        let away = Instant::now() + Duration::from_secs(1);
        look_after(&mut care, &mut seen, &wanted, |_| Instant::now() > away).await;
        assert_eq!(seen.state.neighbours[&key_of(&wanted)].state, NeighbourState::Failed);
        far.ip("addr add 10.0.0.9/24 dev far0");
        let is_back = |seen: &Observed| seen.state.neighbours[&key_of(&wanted)].mac.is_some();
        netns::within(look_after(&mut care, &mut seen, &wanted, is_back)).await;
        // Nothing is left to ask for.
        care.keep(&wanted).await.expect("keep");
        assert!(!care.waits());
    });
}

/// As the agent does, at ten times its pace.
async fn look_after(
    care: &mut Neighbours,
    seen: &mut Observed,
    wanted: &BTreeSet<NeighbourKey>,
    over: impl Fn(&Observed) -> bool,
) {
    while !over(seen) {
        care.keep(wanted).await.expect("keep");
        tokio::select! {
            event = seen.next() => drop(care.observe(&event)),
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
}
