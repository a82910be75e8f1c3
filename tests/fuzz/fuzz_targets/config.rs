//! Any text as the agent's configuration: what is accepted can be run with, what is not is refused
//! in one line.
#![no_main]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use libfuzzer_sys::{Corpus, fuzz_target};
use netroute_fuzz::routes::one_line;
use netroute_user::compile::image::Limits;
use netroute_user::config::{AgentConfig, ClusterCidrs, NodePorts, SocketGroup};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    let parsed = AgentConfig::parse(text, Path::new("agent.yaml"));
    assert_eq!(AgentConfig::parse(text, Path::new("agent.yaml")), parsed, "read again, it says the same");
    match parsed {
        Ok(config) => usable(&config),
        Err(problem) => one_line(&problem.to_string()),
    }
    Corpus::Keep
});

fn usable(config: &AgentConfig) {
    assert!(!config.interfaces.is_empty());
    let aliases: BTreeSet<_> =
        config.interfaces.iter().map(|interface| interface.alias.to_lowercase()).collect();
    assert_eq!(aliases.len(), config.interfaces.len(), "an alias names one interface");
    assert_eq!(config.node_labels.get("kubernetes.io/hostname"), Some(&config.node_name));
    let paths = [&config.manifests, &config.state_dir, &config.bpffs, &config.socket];
    assert!(paths.iter().all(|path| path.is_absolute()), "{paths:?}");
    let ClusterCidrs { pods, services, nodes } = &config.cluster_cidrs;
    assert!([pods, services, nodes].into_iter().flatten().all(|prefix| prefix.trunc() == *prefix));
    let NodePorts { addresses, range } = &config.node_ports;
    assert!(addresses.iter().chain(&config.external_ips).all(|prefix| prefix.trunc() == *prefix));
    assert!(*range.start() >= 1 && range.start() <= range.end(), "{range:?}");
    if let Some(SocketGroup::At(path)) = &config.sockets {
        assert!(path.is_absolute(), "{path:?}");
    }
    let Limits { routes4, routes6, groups, next_hops, route_stats, front_ends, slots, .. } = config.limits;
    let limits = [routes4, routes6, groups, next_hops, route_stats, front_ends, slots];
    assert!(limits.iter().all(|&limit| limit >= 1), "{limits:?}");
    // Both are added to the time of the day.
    let soon = |wait: Duration| Instant::now().checked_add(wait).is_some();
    assert!(soon(config.hold_time), "{:?}", config.hold_time);
    assert!(config.probe.is_none_or(|probe| soon(probe.interval) && !probe.interval.is_zero()));
}
