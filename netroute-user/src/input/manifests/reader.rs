//! Reads the directory in full and remembers what was last good: a broken file never takes away
//! the objects it gave before.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{Content, Object, ObjectName, read};
use super::{ManifestSet, ManifestSource};
use crate::desired::route::RouteKey;
use crate::desired::service::Cluster;
use crate::input::problem::Problem;
use crate::input::yaml::documents;

type Objects = BTreeMap<ObjectName, Object>;

pub struct ManifestReader {
    source: ManifestSource,
    /// By file: the objects it last gave without fault.
    last_good: BTreeMap<PathBuf, Objects>,
    seen_directory: bool,
}

impl ManifestReader {
    #[must_use]
    pub const fn new(source: ManifestSource) -> Self {
        Self { source, last_good: BTreeMap::new(), seen_directory: false }
    }

    #[must_use]
    pub const fn source(&self) -> &ManifestSource {
        &self.source
    }

    /// Everything the directory says now, in the order of file names.
    pub fn read(&mut self) -> ManifestSet {
        let mut set = ManifestSet::default();
        match files(&self.source.directory) {
            Ok(files) => {
                self.seen_directory = true;
                self.last_good.retain(|file, _| files.contains(file));
                for file in files {
                    let kept = self.last_good.remove(&file).unwrap_or_default();
                    let objects = read_file(&file, &self.source, kept, &mut set.problems);
                    self.last_good.insert(file, objects);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.seen_directory => {
                let message = "does not exist; make the directory when there are manifests";
                set.notes.push(Problem::new(&self.source.directory, None, message));
            }
            Err(error) => set.problems.push(self.no_directory(&error)),
        }
        collect(&self.last_good, &mut set);
        set
    }

    fn no_directory(&self, error: &io::Error) -> Problem {
        let message = format!(
            "cannot be read: {error}; what it last said stays in force, an empty directory would end it"
        );
        Problem::new(&self.source.directory, None, message)
    }
}

/// Files with a manifest's extension, sorted; hidden ones and folders left out.
fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let wanted = ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known));
        // A dangling link is listed, so that its absence is a problem and not silence.
        if wanted && !hidden && path.metadata().map_or(true, |metadata| metadata.is_file()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The file's objects; where it is at fault, `kept` fills the gaps.
fn read_file(file: &Path, source: &ManifestSource, kept: Objects, problems: &mut Vec<Problem>) -> Objects {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("cannot be read: {error}{}", in_force(kept.len()));
            problems.push(Problem::new(file, None, message));
            return kept;
        }
    };
    let (mut good, mut faults) = (Objects::new(), Vec::new());
    let mut defined: BTreeMap<ObjectName, u32> = BTreeMap::new();
    for document in documents(&text) {
        let object = match read(document, file, source) {
            Ok(object) => object,
            Err(problem) => {
                faults.push(problem);
                continue;
            }
        };
        if let Some(first) = defined.insert(object.name.clone(), object.line) {
            let message = format!("the same kind and name as in line {first}; this one is left out");
            faults.push(Problem::new(file, Some(object.line), message).about(object.name.to_string()));
            defined.insert(object.name, first);
        } else if let Content::Bad(problem) = object.content {
            faults.push(problem);
        } else {
            good.insert(object.name.clone(), object);
        }
    }
    if !faults.is_empty() {
        let before = good.len();
        for (name, object) in kept {
            good.entry(name).or_insert(object);
        }
        let rescued = good.len() - before;
        problems.extend(faults.into_iter().map(|mut problem| {
            problem.message.push_str(&in_force(rescued));
            problem
        }));
    }
    good
}

fn in_force(objects: usize) -> String {
    match objects {
        0 => String::new(),
        1 => " (1 object that the file gave before stays in force)".to_owned(),
        n => format!(" ({n} objects that the file gave before stay in force)"),
    }
}

/// All files together; of two that claim the same name or the same route the earlier file wins.
fn collect(files: &BTreeMap<PathBuf, Objects>, set: &mut ManifestSet) {
    let mut names: BTreeMap<&ObjectName, &Path> = BTreeMap::new();
    let mut keys: BTreeMap<RouteKey, (&Path, u32)> = BTreeMap::new();
    let mut cluster = Cluster::default();
    let (mut policies, mut namespaces) = (BTreeMap::new(), BTreeMap::new());
    for (file, objects) in files {
        let mut in_order: Vec<&Object> = objects.values().collect();
        in_order.sort_by_key(|object| object.line);
        for object in in_order {
            let problem = |message: String| {
                Problem::new(file, Some(object.line), message).about(object.name.to_string())
            };
            if let Some(other) = names.get(&object.name) {
                let message =
                    format!("the same kind and name is in {}; this one is left out", other.display());
                set.problems.push(problem(message));
                continue;
            }
            names.insert(&object.name, file);
            match &object.content {
                Content::Route(route) => {
                    if let Some((other, line)) = keys.get(&route.key) {
                        let place = format!("{}:{line}", other.display());
                        let message =
                            format!("the same route ({}) is in {place}; this one is left out", route.key);
                        set.problems.push(problem(message));
                    } else {
                        keys.insert(route.key.clone(), (file, object.line));
                        set.routes.push((**route).clone());
                    }
                }
                Content::Service(service) => {
                    cluster.services.insert(service.key.clone(), (**service).clone());
                }
                Content::EndpointSlice(slice) => {
                    cluster.endpoint_slices.insert(slice.key.clone(), slice.clone());
                }
                Content::Node(node) => {
                    cluster.nodes.insert(node.name.clone(), node.clone());
                }
                Content::Pod(pod) => drop(cluster.pods.insert(pod.key.clone(), pod.clone())),
                Content::Namespace(name, labels) => {
                    namespaces.insert(name.clone(), labels.clone());
                }
                Content::EgressPolicy(policy, wrong) => {
                    policies.insert(policy.name.clone(), (**policy).clone());
                    set.problems.extend(wrong.clone());
                }
                Content::Ignored => set.notes.push(problem("ignored: not in this version".to_owned())),
                Content::NotSelected | Content::Ended | Content::Bad(_) => {}
            }
        }
    }
    cluster.namespaces = Arc::new(namespaces);
    cluster.egress_policies = Arc::new(policies);
    set.cluster = Arc::new(cluster);
}
