//! Any words after a cmdlet's name: what is understood can be written in full and is understood the
//! same, and the route in it survives an export; a mistake is told in one line.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use netroute_fuzz::routes::{one_line, survive_an_export, survive_the_state_file};
use netroute_user::api::request::Refusal;
use netroute_user::api::types::RouteEntry;
use netroute_user::cli::args::AddRoute;
use netroute_user::cli::cmdlet::{Action, Cmdlet};

/// One word per line; the first says which cmdlet.
fn words(data: &[u8]) -> Option<(Cmdlet, Vec<String>)> {
    let mut words = std::str::from_utf8(data).ok()?.split('\n').map(str::to_owned);
    let cmdlet = Cmdlet::named(&words.next()?)?;
    Some((cmdlet, words.collect()))
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((cmdlet, words)) = words(data) else { return Corpus::Reject };
    match cmdlet.parse(&words) {
        Err(failure) => one_line(&failure.to_string()),
        Ok(invocation) => {
            if let Action::Add(route) = invocation.action {
                written_in_full(&route);
                exported(route);
            }
        }
    }
    Corpus::Keep
});

fn written_in_full(route: &AddRoute) {
    let AddRoute { destination, via, dev, metric, weight: _, force } = route;
    let mut words = vec![
        format!("-InterfaceAlias:\"{dev}\""),
        format!("-DestinationPrefix:\"{destination}\""),
        format!("-NextHop:\"{via}\""),
        format!("-Force:${force}"),
    ];
    words.extend(metric.map(|metric| format!("-RouteMetric:{metric}")));
    let again = Cmdlet::Add.parse(&words).expect("written in full");
    let Action::Add(again) = again.action else { panic!("another cmdlet") };
    assert_eq!(format!("{again:?}"), format!("{route:?}"));
}

fn exported(route: AddRoute) {
    let AddRoute { destination, via, dev, metric, weight, force } = route;
    let entry = RouteEntry { destination, next_hop: via, interface: dev, metric, weight, force };
    match entry.route(None) {
        // As the agent would answer.
        Err(refusal) => one_line(&Refusal::new(refusal).message),
        Ok(route) => {
            survive_an_export(&[RouteEntry::from(&route)]);
            survive_the_state_file(&[route], None);
        }
    }
}
