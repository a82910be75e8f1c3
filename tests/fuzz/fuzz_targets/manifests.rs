//! Any text as a manifest beside a good one: no key twice, the good one stays in force, what was
//! read survives the state file, and a file that breaks takes nothing away.
#![no_main]

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use libfuzzer_sys::{Corpus, fuzz_target};
use netroute_fuzz::routes::{one_line, survive_the_state_file};
use netroute_user::desired::route::{Probe, ProbeKind};
use netroute_user::input::manifests::{ManifestReader, ManifestSource};
use tempfile::TempDir;

const GOOD: &str = "apiVersion: netroute.dev/v1alpha1
kind: NetRoute
metadata: {name: good}
spec: {destination: 192.168.20.0/24, nextHop: 192.168.20.1, interface: Port3}
";
const PROBE: Probe = Probe { kind: ProbeKind::Echo, interval: Duration::from_secs(1), threshold: 3 };

thread_local!(static FOLDER: TempDir = TempDir::new().expect("a temporary folder"));

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    FOLDER.with(|folder| {
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
        write("a.yaml", GOOD);
        write("b.yaml", text);
        let labels = [("kubernetes.io/hostname".to_owned(), "worker-1".to_owned())];
        let source = ManifestSource {
            directory: folder.path().to_owned(),
            node_labels: labels.into(),
            default_probe: Some(PROBE),
        };
        let mut reader = ManifestReader::new(source);
        let set = reader.read();
        assert_eq!(set.routes[0].key.to_string(), "192.168.20.0/24 via 192.168.20.1 dev Port3");
        let keys: BTreeSet<_> = set.routes.iter().map(|route| &route.key).collect();
        assert_eq!(keys.len(), set.routes.len(), "no key twice");
        set.problems.iter().chain(&set.notes).for_each(|problem| one_line(&problem.to_string()));
        survive_the_state_file(&set.routes, Some(PROBE));

        assert_eq!(reader.read(), set, "read again, it says the same");
        write("b.yaml", &format!("{text}\n---\nkind: [\n"));
        assert_eq!(reader.read().routes, set.routes, "a broken file takes nothing away");
    });
    Corpus::Keep
});
