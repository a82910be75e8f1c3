//! One document of a manifest: which object it is, and the route it asks for.

use std::path::Path;

use serde::Deserialize;

use super::ManifestSource;
use crate::desired::route::{CustomRoute, Origin};
use crate::input::address::LeadingZeros;
use crate::input::objects::NetRoute;
use crate::input::problem::Problem;
use crate::input::yaml::{Document, Step, nearest};

const GROUP_VERSION: &str = "netroute.dev/v1alpha1";

/// Kinds that are known but do nothing in this version.
const IGNORED: &[(&str, &str)] = &[
    (GROUP_VERSION, "EgressPolicy"),
    (GROUP_VERSION, "AddressPool"),
    ("v1", "Node"),
    ("v1", "Service"),
    ("v1", "Pod"),
    ("v1", "Namespace"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
];

/// What identifies an object in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    pub kind: String,
    pub name: String,
}

/// A document understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub name: ObjectName,
    pub line: u32,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Route(Box<CustomRoute>),
    /// For other nodes.
    NotSelected,
    /// Not in this version.
    Ignored,
    /// Known by name, but wrong.
    Bad(Problem),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    api_version: String,
    kind: String,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

/// # Errors
/// When not even kind and name can be read.
pub fn read(document: Document<'_>, file: &Path, source: &ManifestSource) -> Result<Object, Problem> {
    let header: Header = document.parse().map_err(|error| Problem::new(file, error.line, error.message))?;
    let Header { api_version, kind, metadata: Metadata { name } } = header;
    let line = document.locate(&[Step::Key("kind")]).unwrap_or(document.lines_before + 1);
    let name = ObjectName { kind, name };
    let problem = |line, message: String| {
        Content::Bad(Problem::new(file, line, message).about(format!("{} {}", name.kind, name.name)))
    };
    let content = if name.name.is_empty() {
        problem(Some(line), "metadata.name is empty; give the object a name".to_owned())
    } else if api_version == GROUP_VERSION && name.kind == "NetRoute" {
        route(document, file, source).unwrap_or_else(|(line, message)| problem(line, message))
    } else if IGNORED.contains(&(api_version.as_str(), name.kind.as_str())) {
        Content::Ignored
    } else {
        problem(Some(line), unknown(&api_version, &name.kind))
    };
    Ok(Object { name, line, content })
}

fn route(
    document: Document<'_>,
    file: &Path,
    source: &ManifestSource,
) -> Result<Content, (Option<u32>, String)> {
    let object: NetRoute = document.parse().map_err(|error| (error.line, error.message))?;
    let name = object.metadata.name.clone().unwrap_or_default();
    let file_name = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let origin = Origin::Manifest { file: file_name, name };
    let route = object
        .spec
        .route(LeadingZeros::Decimal, source.default_probe, object.is_forced(), origin)
        .map_err(|error| {
            let line = document.locate(&[Step::Key("spec"), Step::Key(error.key())]);
            (line, format!("spec.{error}"))
        })?;
    Ok(if object.spec.selects(&source.node_labels) {
        Content::Route(Box::new(route))
    } else {
        Content::NotSelected
    })
}

fn unknown(api_version: &str, kind: &str) -> String {
    let kinds = || IGNORED.iter().map(|&(_, kind)| kind).chain(["NetRoute"]);
    if let Some(known) = kinds().find(|&known| known == kind) {
        let right =
            IGNORED.iter().find(|&&(_, kind)| kind == known).map_or(GROUP_VERSION, |&(group, _)| group);
        return format!("apiVersion \"{api_version}\" is not known for {kind}; use {right}");
    }
    match nearest(kind, kinds()) {
        Some(near) => format!("unknown kind \"{kind}\"; did you mean \"{near}\"?"),
        None => format!("unknown kind \"{kind}\" ({api_version}); this version reads NetRoute"),
    }
}
