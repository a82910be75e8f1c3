//! What must hold of routes that were read from anywhere: printed in any form, they read back.

use std::path::Path;

use netroute_user::api::types::RouteEntry;
use netroute_user::cli::lines;
use netroute_user::desired::route::{CustomRoute, Origin, Probe};
use netroute_user::input::state_dir;

/// The state file gives back what it was given.
pub fn survive_the_state_file(routes: &[CustomRoute], default_probe: Option<Probe>) {
    let text = state_dir::encode(routes, default_probe);
    let again = state_dir::decode(text.as_bytes(), default_probe).expect("a state file of our own");
    let by_cli = |route: &CustomRoute| CustomRoute { origin: Origin::Cli, ..route.clone() };
    assert_eq!(again, routes.iter().map(by_cli).collect::<Vec<_>>());
}

/// `route import` reads what `route export` wrote.
pub fn survive_an_export(entries: &[RouteEntry]) {
    let text = lines::write(entries);
    match lines::read(&text, Path::new("routes.txt"), || ()) {
        Ok(again) => assert_eq!(again, entries, "{text}"),
        Err(problems) => panic!("{text}\n{problems:?}"),
    }
}

/// One line that says something.
pub fn one_line(message: &str) {
    assert!(!message.trim().is_empty(), "says nothing");
    assert!(!message.contains(|c: char| c.is_control()), "is more than one line of text: {message:?}");
}
