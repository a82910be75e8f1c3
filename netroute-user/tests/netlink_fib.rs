//! The mirror of the custom routes in a live kernel's main table.

mod netns;

use std::time::Instant;

use netns::{Observed, in_namespace, ip, veth};
use netroute_common::abi::RTPROT_NETROUTE;
use netroute_user::apply::fib::{Mirror, Refusal};
use netroute_user::compile::mirror::{Fib, FibKey, FibNextHop};
use netroute_user::input::netlink::Options;
use netroute_user::kernel::Change;

fn at(destination: &str, metric: u32) -> FibKey {
    FibKey { destination: destination.parse().expect("prefix"), metric }
}

fn via(ifindex: u32, gateway: &str, weight: u8) -> FibNextHop {
    FibNextHop { ifindex, gateway: gateway.parse().expect("gateway"), weight }
}

fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).expect("interface")
}

/// Two NICs with an address of each family.
fn nics() -> (u32, u32) {
    veth("nic0", "far0");
    veth("nic1", "far1");
    for (nic, n) in [("nic0", 0), ("nic1", 1)] {
        ip(&format!("addr add 10.0.{n}.1/24 dev {nic}"));
        ip(&format!("-6 addr add 2001:db8:{n}::1/64 dev {nic} nodad"));
    }
    (index("nic0"), index("nic1"))
}

/// Our routes as `ip` shows them, one per line.
fn ours() -> String {
    let show = |family: &str| ip(&format!("{family} route show proto {RTPROT_NETROUTE}"));
    let text = show("-4") + &show("-6");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn r2_r13_writes_replaces_and_removes_both_families() {
    in_namespace(async || {
        let (a, c) = nics();
        let mut mirror = Mirror::open().expect("mirror");
        let mut wanted = Fib::from([
            // The next hop lies inside its own destination (R2).
            (at("192.168.20.0/24", 100), vec![via(a, "192.168.20.1", 1)]),
            (at("10.5.0.0/16", 7), vec![via(a, "10.0.0.2", 3), via(c, "10.0.1.2", 1)]),
            (at("2001:db8:5::/48", 7), vec![via(a, "2001:db8:0::2", 3), via(c, "2001:db8:1::2", 1)]),
            (at("2001:db8:6::/48", 7), vec![via(a, "fe80::2", 1)]),
        ]);
        let done = mirror.reconcile(&wanted).await.expect("reconcile");
        assert_eq!((done.added, done.conflicts.as_slice()), (4, &[][..]));
        let text = ours();
        assert!(text.contains("192.168.20.0/24 via 192.168.20.1 dev nic0 metric 100 onlink"), "{text}");
        assert!(text.contains("10.5.0.0/16 metric 7 nexthop via 10.0.0.2 dev nic0 weight 3"), "{text}");
        assert!(text.contains("nexthop via 2001:db8:1::2 dev nic1 weight 1"), "{text}");

        // Another agent, as after a restart, finds what is there.
        let mut next = Mirror::open().expect("mirror");
        assert_eq!(next.reconcile(&wanted).await.expect("reconcile"), Default::default());

        wanted.insert(at("10.5.0.0/16", 7), vec![via(c, "10.0.1.3", 1)]);
        wanted.insert(at("2001:db8:5::/48", 7), vec![via(c, "2001:db8:1::3", 1)]);
        wanted.remove(&at("2001:db8:6::/48", 7));
        let done = next.reconcile(&wanted).await.expect("reconcile");
        assert_eq!((done.added, done.replaced, done.removed), (0, 2, 1));
        let text = ours();
        assert!(text.contains("10.5.0.0/16 via 10.0.1.3 dev nic1") && !text.contains("nexthop"), "{text}");
        assert!(
            text.contains("2001:db8:5::/48 via 2001:db8:1::3 dev nic1") && !text.contains("fe80::2"),
            "{text}"
        );

        assert_eq!(next.remove_all().await.expect("remove"), 3);
        assert_eq!(ours(), "");
    });
}

#[test]
fn r15_a_foreign_route_stays_and_is_reported() {
    in_namespace(async || {
        let (a, c) = nics();
        ip("route add 10.5.0.0/16 via 10.0.0.9 metric 7 proto static");
        ip("-6 route add 2001:db8:5::/48 via 2001:db8:0::9 metric 7 proto static");
        let mut seen = Observed::open(Options::default()).await;
        let mut mirror = Mirror::open().expect("mirror");
        let wanted = Fib::from([
            (at("10.5.0.0/16", 7), vec![via(c, "10.0.1.2", 1)]),
            (at("10.6.0.0/16", 7), vec![via(c, "10.0.1.2", 1)]),
            (at("2001:db8:5::/48", 7), vec![via(a, "2001:db8:0::2", 1), via(c, "2001:db8:1::2", 1)]),
        ]);
        for added in [1, 0] {
            let done = mirror.reconcile(&wanted).await.expect("reconcile");
            assert_eq!(done.added, added);
            assert_eq!(done.conflicts.iter().map(|c| c.reason).collect::<Vec<_>>(), [Refusal::Foreign; 2]);
        }
        assert!(ip("route show 10.5.0.0/16").contains("via 10.0.0.9"));
        let text = ip("-6 route show 2001:db8:5::/48");
        assert!(text.contains("2001:db8::9") && !text.contains("nexthop"), "{text}");

        // A foreign route beside ours stays when ours is replaced and removed.
        ip("route prepend 10.6.0.0/16 via 10.0.0.9 metric 7 proto static");
        let mut changed = wanted.clone();
        changed.insert(at("10.6.0.0/16", 7), vec![via(c, "10.0.1.3", 1)]);
        mirror.reconcile(&changed).await.expect("reconcile");
        let text = ip("route show 10.6.0.0/16");
        assert!(
            text.contains("10.0.0.9") && text.contains("10.0.1.3") && !text.contains("10.0.1.2"),
            "{text}"
        );
        mirror.remove_all().await.expect("remove");
        assert!(ip("route show 10.6.0.0/16").contains("10.0.0.9"));

        // When it goes, a reconcile is due and succeeds.
        mirror.reconcile(&wanted).await.expect("reconcile");
        ip("route del 10.5.0.0/16 via 10.0.0.9");
        while !mirror.observe(&seen.next().await) {}
        assert_eq!(mirror.reconcile(&wanted).await.expect("reconcile").added, 1);
    });
}

#[test]
fn r13_an_own_route_that_somebody_deletes_comes_back() {
    in_namespace(async || {
        let (a, _) = nics();
        let mut mirror = Mirror::open().expect("mirror");
        let options = Options { mirror_port: Some(mirror.port()), ..Options::default() };
        let mut seen = Observed::open(options).await;
        let wanted = Fib::from([
            (at("10.5.0.0/16", 7), vec![via(a, "10.0.0.2", 1)]),
            (at("2001:db8:5::/48", 7), vec![via(a, "2001:db8:0::2", 1)]),
        ]);
        mirror.reconcile(&wanted).await.expect("reconcile");
        // What the mirror writes itself is not told back.
        ip("route add 10.99.0.0/16 dev nic0");
        ip("-6 route add 2001:db8:99::/48 dev nic0");
        for prefix in ["10.99.0.0/16", "2001:db8:99::/48"] {
            let about = |change: &Change| match change {
                Change::Route(route) => route.destination.to_string() == prefix,
                Change::OwnRoute(route) => panic!("told of our own {}", route.destination),
                _ => false,
            };
            seen.change(about).await;
        }
        for delete in ["route del 10.5.0.0/16", "-6 route del 2001:db8:5::/48"] {
            ip(delete);
            while !mirror.observe(&seen.next().await) {}
            assert_eq!(mirror.reconcile(&wanted).await.expect("reconcile").added, 1, "after ip {delete}");
        }
        // Silently, with the link.
        ip("link set nic0 down");
        while !mirror.observe(&seen.next().await) {}
        let done = mirror.reconcile(&wanted).await.expect("reconcile");
        let reasons: Vec<_> = done.conflicts.iter().map(|conflict| conflict.reason).collect();
        assert_eq!(reasons.first(), Some(&Refusal::InterfaceDown));
        ip("link set nic0 up");
        seen.until(|state| state.links[&a].carrier).await;
        let done = mirror.reconcile(&wanted).await.expect("reconcile");
        assert_eq!(done.conflicts, []);
        assert!(ours().contains("10.5.0.0/16 via 10.0.0.2"));
    });
}

#[test]
fn a_hundred_thousand_routes() {
    in_namespace(async || {
        let (a, c) = nics();
        let mut mirror = Mirror::open().expect("mirror");
        let options = Options { mirror_port: Some(mirror.port()), ..Options::default() };
        let mut seen = Observed::open(options).await;
        let wanted: Fib = (0..100_000_u32)
            .map(|i| {
                let network = std::net::Ipv4Addr::from(0x1400_0000 | (i << 8));
                let key = FibKey {
                    destination: ipnet::Ipv4Net::new(network, 24).expect("prefix").into(),
                    metric: 7,
                };
                (key, vec![via(a, "10.0.0.2", 1)])
            })
            .collect();
        let begun = Instant::now();
        let done = mirror.reconcile(&wanted).await.expect("reconcile");
        println!("100k routes written in {:?}", begun.elapsed());
        assert_eq!((done.added, done.conflicts.len()), (100_000, 0));

        let begun = Instant::now();
        let mut next = Mirror::open().expect("mirror");
        assert_eq!(next.reconcile(&wanted).await.expect("reconcile"), Default::default());
        println!("100k routes read and compared in {:?}", begun.elapsed());

        // A link event is told although the routes' notifications are not read yet.
        ip("link set far1 down");
        let begun = Instant::now();
        seen.until(|state| !state.links[&c].carrier).await;
        println!(
            "carrier loss told {:?} after `ip` returned, behind 100k route notifications",
            begun.elapsed()
        );

        let begun = Instant::now();
        assert_eq!(mirror.remove_all().await.expect("remove"), 100_000);
        println!("100k routes removed in {:?}", begun.elapsed());
        assert_eq!(ours(), "");
    });
}
