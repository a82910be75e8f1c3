mod cluster;
mod examples;

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;

fn source(directory: &Path) -> ManifestSource {
    let node_labels = BTreeMap::from([("site".to_owned(), "a".to_owned())]);
    ManifestSource { directory: directory.to_owned(), node_labels, default_probe: None }
}

fn net_route(name: &str, destination: &str) -> String {
    format!(
        "---\napiVersion: netroute.dev/v1alpha1\nkind: NetRoute\nmetadata: {{name: {name}}}\nspec:\n  \
         destination: {destination}\n  nextHop: 192.168.20.1\n  interface: Port3\n"
    )
}

fn destinations(set: &ManifestSet) -> Vec<String> {
    set.routes.iter().map(|route| route.key.destination.to_string()).collect()
}

/// Problems without the directory in front.
fn problems(set: &ManifestSet, directory: &Path) -> Vec<String> {
    let prefix = format!("{}/", directory.display());
    set.problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

#[test]
fn all_files_are_read_in_order_and_others_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("b.yml"), net_route("b", "10.2.0.0/16")).unwrap();
    fs::write(dir.path().join("a.yaml"), net_route("a", "10.1.0.0/16") + &net_route("a2", "10.1.1.0/24"))
        .unwrap();
    fs::write(dir.path().join("c.json"), r#"{"apiVersion":"netroute.dev/v1alpha1","kind":"NetRoute",
        "metadata":{"name":"c"},"spec":{"destination":"010.3.0.0/16","nextHop":"192.168.20.1","interface":"Port3"}}"#).unwrap();
    fs::write(dir.path().join("note.txt"), "not: [yaml").unwrap();
    fs::write(dir.path().join(".hidden.yaml"), "not: [yaml").unwrap();
    let set = ManifestReader::new(source(dir.path())).read();
    assert_eq!(problems(&set, dir.path()), [""; 0]);
    assert_eq!(destinations(&set), ["10.1.0.0/16", "10.1.1.0/24", "10.2.0.0/16", "10.3.0.0/16"]);
    assert_eq!(set.routes[0].origin.to_string(), "manifest a.yaml (a)");
}

#[test]
fn a_bad_document_does_not_hide_the_good_ones() {
    let dir = tempfile::tempdir().unwrap();
    let text = net_route("host-bits", "10.1.2.3/16")
        + "---\nkind: [broken\n"
        + &net_route("typo", "10.4.0.0/16").replace("nextHop", "nexthop")
        + &net_route("good", "10.2.0.0/16")
        + &net_route("kind", "10.5.0.0/16").replace("NetRoute", "NetRuote");
    fs::write(dir.path().join("a.yaml"), text).unwrap();
    let set = ManifestReader::new(source(dir.path())).read();
    assert_eq!(destinations(&set), ["10.2.0.0/16"]);
    let problems = problems(&set, dir.path());
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert_eq!(
        problems[0],
        "a.yaml:6: NetRoute host-bits: spec.destination: 10.1.2.3/16 has host bits set; \
         the prefix is 10.1.0.0/16, the single address 10.1.2.3/32"
    );
    assert!(problems[1].starts_with("a.yaml:1"), "{}", problems[1]);
    assert_eq!(
        problems[2],
        "a.yaml:17: NetRoute typo: spec: unknown key \"nexthop\"; did you mean \"nextHop\"?"
    );
    assert_eq!(
        problems[3],
        "a.yaml:29: NetRuote kind: unknown kind \"NetRuote\"; did you mean \"NetRoute\"?"
    );
}

#[test]
fn other_kinds_are_ignored_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let text = "apiVersion: netroute.dev/v1alpha1\nkind: AddressPool\nmetadata: {name: services}\nspec: {x: 1}\n\
                ---\napiVersion: netroute.dev/v1alpha1\nkind: AddressPool\nmetadata: {name: more}\n";
    fs::write(dir.path().join("a.yaml"), text).unwrap();
    let set = ManifestReader::new(source(dir.path())).read();
    assert_eq!(set.problems, []);
    let ignored: Vec<_> = set.notes.iter().map(|p| (p.object.clone().unwrap(), p.message.clone())).collect();
    let message = "ignored: not in this version".to_owned();
    assert_eq!(
        ignored,
        [("AddressPool services".to_owned(), message.clone()), ("AddressPool more".to_owned(), message)]
    );
}

#[test]
fn duplicates_are_a_problem_of_the_later() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), net_route("x", "10.1.0.0/16") + &net_route("x", "10.7.0.0/16"))
        .unwrap();
    fs::write(dir.path().join("b.yaml"), net_route("x", "10.2.0.0/16") + &net_route("y", "10.1.0.0/16"))
        .unwrap();
    let set = ManifestReader::new(source(dir.path())).read();
    assert_eq!(destinations(&set), ["10.1.0.0/16"]);
    let problems = problems(&set, dir.path());
    assert!(
        problems[0].starts_with("a.yaml:11: NetRoute x: the same kind and name as in line 3"),
        "{problems:#?}"
    );
    assert!(problems[1].starts_with("b.yaml:3: NetRoute x: the same kind and name is in "), "{problems:#?}");
    assert!(
        problems[2].starts_with("b.yaml:11: NetRoute y: the same route (10.1.0.0/16 via"),
        "{problems:#?}"
    );
}

#[test]
fn routes_for_other_nodes_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let with = |label: &str| {
        net_route(label, &format!("10.{}.0.0/16", label.len())) + "  nodeSelector: {site: " + label + "}\n"
    };
    fs::write(dir.path().join("a.yaml"), with("a") + &with("bb")).unwrap();
    let set = ManifestReader::new(source(dir.path())).read();
    assert_eq!((destinations(&set), set.problems), (vec!["10.1.0.0/16".to_owned()], vec![]));
}

#[test]
fn a_file_that_breaks_keeps_its_last_good_objects() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    let mut reader = ManifestReader::new(source(dir.path()));
    fs::write(&file, net_route("x", "10.1.0.0/16") + &net_route("y", "10.2.0.0/16")).unwrap();
    assert_eq!(reader.read().routes.len(), 2);
    // One object broken: its old self stays, the other changes.
    fs::write(&file, net_route("x", "10.1.2.3/16") + &net_route("y", "10.3.0.0/16")).unwrap();
    let set = reader.read();
    let mut found = destinations(&set);
    found.sort();
    assert_eq!(found, ["10.1.0.0/16", "10.3.0.0/16"]);
    assert!(
        set.problems[0].message.ends_with("(1 object that the file gave before stays in force)"),
        "{set:#?}"
    );
    fs::write(&file, b"\xff\xfe").unwrap();
    assert_eq!(reader.read().routes.len(), 2);
    fs::write(&file, net_route("y", "10.3.0.0/16")).unwrap();
    let set = reader.read();
    assert_eq!((destinations(&set), set.problems), (vec!["10.3.0.0/16".to_owned()], vec![]));
    fs::remove_file(&file).unwrap();
    assert_eq!(reader.read(), ManifestSet::default());
}

#[test]
fn a_missing_directory_is_a_problem_and_takes_nothing_away() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("manifests");
    let mut reader = ManifestReader::new(source(&dir));
    let set = reader.read();
    assert_eq!(set.problems, []);
    assert!(set.notes[0].message.contains("make the directory"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a.yaml"), net_route("x", "10.1.0.0/16")).unwrap();
    assert_eq!(reader.read().problems, []);
    fs::remove_dir_all(&dir).unwrap();
    let set = reader.read();
    assert_eq!(destinations(&set), ["10.1.0.0/16"]);
    assert!(set.problems[0].message.contains("stays in force"));
    fs::create_dir(&dir).unwrap();
    assert_eq!(reader.read(), ManifestSet::default());
}

/// Waits until the watched set has these destinations.
async fn until(sets: &mut tokio::sync::watch::Receiver<ManifestSet>, expected: &[&str]) {
    let arrived = sets.wait_for(|set| destinations(set) == expected);
    let result = tokio::time::timeout(Duration::from_secs(20), arrived).await.map(|set| set.is_ok());
    assert_eq!(result, Ok(true), "waited for {expected:?}, have {:?}", destinations(&sets.borrow()));
}

#[tokio::test]
async fn changes_are_delivered_through_saves_by_rename_and_a_new_directory() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("etc/manifests");
    let watch = watch(source(&dir)).unwrap();
    let mut sets = watch.sets();
    assert_eq!(sets.borrow().routes, []);

    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("a.yaml"), net_route("x", "10.1.0.0/16")).unwrap();
    until(&mut sets, &["10.1.0.0/16"]).await;

    // An editor's save: new file, renamed over the old.
    fs::write(dir.join(".a.yaml.swp"), net_route("x", "10.2.0.0/16")).unwrap();
    fs::rename(dir.join(".a.yaml.swp"), dir.join("a.yaml")).unwrap();
    until(&mut sets, &["10.2.0.0/16"]).await;

    let old = parent.path().join("etc/old");
    fs::rename(&dir, &old).unwrap();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("b.yaml"), net_route("y", "10.3.0.0/16")).unwrap();
    until(&mut sets, &["10.3.0.0/16"]).await;

    fs::remove_dir_all(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("c.yaml"), net_route("z", "10.4.0.0/16")).unwrap();
    until(&mut sets, &["10.4.0.0/16"]).await;
}

#[tokio::test]
async fn a_file_that_is_being_written_is_not_read_before_it_is_closed() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.yaml");
    fs::write(&path, net_route("x", "10.1.0.0/16") + &net_route("y", "10.2.0.0/16")).unwrap();
    let watch = watch(source(dir.path())).unwrap();
    let mut sets = watch.sets();
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(net_route("x", "10.1.0.0/16").as_bytes()).unwrap();
    // Longer than the pause after which a closed file is read.
    let early = tokio::time::timeout(Duration::from_millis(700), sets.changed()).await;
    assert!(early.is_err(), "half of the file was read: {:?}", destinations(&sets.borrow()));
    file.write_all(net_route("z", "10.3.0.0/16").as_bytes()).unwrap();
    drop(file);
    sets.changed().await.unwrap();
    assert_eq!(destinations(&sets.borrow()), ["10.1.0.0/16", "10.3.0.0/16"]);
}
