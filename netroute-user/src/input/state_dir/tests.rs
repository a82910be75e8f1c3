use std::time::{Duration, Instant};

use super::*;
use crate::desired::route::{Origin, ProbeKind, RouteKey};

fn route(n: u32) -> CustomRoute {
    let destination = std::net::Ipv4Addr::from(0x0a00_0000 + n * 256);
    CustomRoute {
        key: RouteKey {
            destination: format!("{destination}/24").parse().unwrap(),
            interface: "Port3".into(),
            next_hop: "192.168.20.1".parse().unwrap(),
        },
        metric: 100 + n % 7,
        weight: 1,
        forced: n % 2 == 1,
        probe: None,
        origin: Origin::Cli,
    }
}

fn open(directory: &Path) -> StateDir {
    StateDir::open(directory, None).unwrap()
}

#[test]
fn r9_what_was_saved_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let routes: Vec<_> = (0..50).map(route).collect();
    let state = open(directory.path());
    assert_eq!(state.load().unwrap(), []);
    state.save(&routes).unwrap();
    drop(state);
    assert_eq!(open(directory.path()).load().unwrap(), routes);
}

#[test]
fn a_probe_equal_to_the_default_follows_the_default() {
    let probe = |kind| Some(Probe { kind, interval: Duration::from_secs(1), threshold: 3 });
    let (echo, neighbour) = (probe(ProbeKind::Echo), probe(ProbeKind::Neighbour));
    let routes = [CustomRoute { probe: echo, ..route(1) }, CustomRoute { probe: neighbour, ..route(2) }];
    let text = encode(&routes, echo);
    let back = decode(text.as_bytes(), None).unwrap();
    assert_eq!([back[0].probe, back[1].probe], [None, neighbour]);
}

#[test]
fn r9_a_file_cut_at_any_byte_is_noticed() {
    let text = encode(&[route(1), route(2)], None);
    for cut in 0..text.len() {
        assert!(decode(&text.as_bytes()[..cut], None).is_err(), "cut at {cut} of {}", text.len());
    }
    assert_eq!(decode(text.as_bytes(), None).unwrap().len(), 2);
    assert_eq!(decode(encode([], None).as_bytes(), None).unwrap(), []);
}

#[test]
fn a_byte_changed_anywhere_is_noticed() {
    let text = encode(&[route(1)], None);
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        assert!(decode(&bytes, None).is_err(), "byte {at} of {}", text.len());
    }
}

#[test]
fn r9_a_damaged_file_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let state = open(directory.path());
    state.save(&[route(1)]).unwrap();
    let file = directory.path().join("routes.yaml");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let message = state.load().unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("{}: the last line with the checksum is missing", file.display())),
        "{message}"
    );
    assert!(message.contains("netroute route import FILE") && !message.contains('\n'), "{message}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes[..bytes.len() / 2]);
}

#[test]
fn what_an_interrupted_write_left_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let left = directory.path().join(".routes.yaml.Ab3dE");
    std::fs::write(&left, "half").unwrap();
    open(directory.path());
    assert!(!left.exists());
}

#[test]
fn a_second_agent_is_refused_with_the_pid_of_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let message = StateDir::open(directory.path(), None).err().unwrap().to_string();
    assert!(
        message.starts_with(&format!("another agent (pid {}) works in", std::process::id())),
        "{message}"
    );
    drop(first);
    open(directory.path());
}

#[test]
fn a_hundred_thousand_routes_are_saved_and_loaded_in_seconds() {
    let directory = tempfile::tempdir().unwrap();
    let routes: Vec<_> = (0..100_000).map(|n| route(n % 60_000 + n / 60_000)).collect();
    let state = open(directory.path());
    let start = Instant::now();
    state.save(&routes).unwrap();
    let saved = start.elapsed();
    assert_eq!(state.load().unwrap().len(), routes.len());
    let loaded = start.elapsed() - saved;
    println!("saved in {saved:?}, loaded in {loaded:?}");
    assert!(start.elapsed() < Duration::from_secs(20), "saved in {saved:?}, loaded in {loaded:?}");
}
