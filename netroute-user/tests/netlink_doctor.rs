//! The doctor's collector against a live kernel.

mod netns;

use std::path::Path;

use netns::{Observed, in_namespace, ip, sysctl, veth};
use netroute_user::compile::mirror::{Fib, FibKey, FibNextHop};
use netroute_user::compile::services::nat::Nat;
use netroute_user::input::netlink::Options;
use netroute_user::observe::doctor::{Check, Level, Sockets, Subject, collect, judge};

async fn complaints(seen: &Observed, routes: &Fib) -> Vec<Check> {
    let interfaces = [seen.index("nic0")];
    let bpffs = Path::new("/sys/fs/bpf/netroute");
    let subject = Subject {
        state: &seen.state,
        interfaces: &interfaces,
        routes,
        filters: &[],
        sockets: &Sockets::Served,
        nat: Nat::DEFAULT,
        bpffs,
    };
    let facts = collect(subject).await.expect("facts");
    assert!(facts.kernel.is_some() && facts.forward4.is_some());
    assert!(
        facts.nics[0].features.as_ref().is_some_and(|on| on.contains("tx-checksum-ip-generic")),
        "{facts:?}"
    );
    judge(&facts).into_iter().filter(|check| check.level > Level::Ok).collect()
}

#[test]
fn finds_what_is_wrong_and_nothing_when_it_is_put_right() {
    in_namespace(async || {
        veth("br0port", "far1");
        ip("link add br0 type bridge");
        veth("nic0", "far0");
        ip("addr add 10.0.0.1/24 dev nic0 valid_lft 1000 preferred_lft 1000");
        ip("link set nic0 master br0");
        ip("link set nic0 mtu 9000");
        ip("route add 10.5.0.0/16 via 10.0.0.9 dev nic0 onlink metric 7");
        ip("rule add priority 100 to 10.9.0.0/16 table 100");
        sysctl("ipv4/ip_forward", "0");
        sysctl("ipv6/conf/all/forwarding", "0");
        sysctl("ipv4/conf/nic0/rp_filter", "1");
        let seen = Observed::open(Options::default()).await;
        let hop = FibNextHop {
            ifindex: seen.index("nic0"),
            gateway: "10.0.0.2".parse().expect("address"),
            weight: 1,
        };
        let key = FibKey { destination: "10.5.0.0/16".parse().expect("prefix"), metric: 256 };
        let routes = Fib::from([(key, vec![hop])]);
        let found = complaints(&seen, &routes).await;
        let names: Vec<_> =
            found.iter().map(|check| check.name.as_str()).filter(|name| *name != "bpffs").collect();
        let expected = [
            "forwarding",
            "forwarding",
            "rp-filter",
            "policy-rules",
            "foreign-route",
            "addressing",
            "enslaved",
            "mtu",
            "xdp-transmit",
        ];
        assert_eq!(names, expected, "{found:#?}");

        // What the fixes say.
        for words in [
            "rule del priority 100",
            "link set nic0 nomaster",
            "link set nic0 mtu 1500",
            "route del 10.5.0.0/16",
            "addr flush dev nic0",
            "addr add 10.0.0.1/24 dev nic0",
        ] {
            ip(words);
        }
        sysctl("ipv4/ip_forward", "1");
        sysctl("ipv6/conf/all/forwarding", "1");
        sysctl("ipv4/conf/nic0/rp_filter", "2");
        let gro = std::process::Command::new("ethtool").args(["-K", "far0", "gro", "on"]).status();
        assert!(gro.expect("ethtool is installed").success());
        let seen = Observed::open(Options::default()).await;
        let found = complaints(&seen, &routes).await;
        assert!(found.iter().all(|check| check.name == "bpffs"), "{found:#?}");
    });
}
