//! One document of a manifest: which object it is, and what it asks for.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ManifestSource;
use super::kinds::{self, Known, Reads};
use crate::desired::egress::{self, Labels, Pod};
use crate::desired::route::{CustomRoute, Origin};
use crate::desired::service::{EndpointSlice, Node, Service};
use crate::input::address::LeadingZeros;
use crate::input::objects::{
    DEFAULT_NAMESPACE, EgressPolicy, FieldError, NetRoute, check_effect, egress_policy, endpoint_slice,
    namespace, node, pod, service,
};
use crate::input::problem::Problem;
use crate::input::yaml::{Document, Step};

/// What identifies an object in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    pub kind: String,
    /// `None` for kinds that belong to the whole cluster.
    pub namespace: Option<String>,
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        match namespace {
            Some(namespace) => write!(f, "{kind} {namespace}/{name}"),
            None => write!(f, "{kind} {name}"),
        }
    }
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
    Service(Box<Service>),
    EndpointSlice(EndpointSlice),
    Node(Node),
    Pod(Arc<Pod>),
    Namespace(String, Labels),
    /// With what is wrong with it, if its traffic is denied for that.
    EgressPolicy(Box<egress::EgressPolicy>, Option<Problem>),
    /// A pod that has ended.
    Ended,
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
    namespace: Option<String>,
}

/// Line and message.
type Fault = (Option<u32>, String);

/// # Errors
/// When not even kind and name can be read.
pub fn read(document: Document<'_>, file: &Path, source: &ManifestSource) -> Result<Object, Problem> {
    let header: Header = document.parse().map_err(|error| Problem::new(file, error.line, error.message))?;
    let Header { api_version, kind, metadata: Metadata { name, namespace } } = header;
    let line = document.locate(&[Step::Key("kind")]).unwrap_or(document.lines_before + 1);
    let known = kinds::find(&api_version, &kind);
    let namespace = known.is_some_and(|known| known.namespaced).then(|| {
        let written = namespace.filter(|namespace| !namespace.is_empty());
        written.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
    });
    let name = ObjectName { kind, namespace, name };
    let read = if name.name.is_empty() {
        Err((Some(line), "metadata.name is empty; give the object a name".to_owned()))
    } else if let Some(known) = known {
        content(known, document, file, source)
    } else {
        Err((Some(line), kinds::unknown(&api_version, &name.kind)))
    };
    let content = read.unwrap_or_else(|(line, message)| {
        Content::Bad(Problem::new(file, line, message).about(name.to_string()))
    });
    Ok(Object { name, line, content })
}

fn content(
    known: &Known,
    document: Document<'_>,
    file: &Path,
    source: &ManifestSource,
) -> Result<Content, Fault> {
    Ok(match known.reads {
        Reads::Route => route(document, file, source)?,
        Reads::Service => Content::Service(Box::new(convert::<core::Service, _>(document, service)?)),
        Reads::EndpointSlice => {
            Content::EndpointSlice(convert::<discovery::EndpointSlice, _>(document, endpoint_slice)?)
        }
        Reads::Node => Content::Node(convert::<core::Node, _>(document, node)?),
        Reads::Pod => match convert::<core::Pod, _>(document, pod)? {
            Some(pod) => Content::Pod(Arc::new(pod)),
            None => Content::Ended,
        },
        Reads::Namespace => {
            let (name, labels) = convert::<core::Namespace, _>(document, |object| Ok(namespace(object)))?;
            Content::Namespace(name, labels)
        }
        Reads::EgressPolicy => policy(document, file)?,
        Reads::Nothing => Content::Ignored,
    })
}

fn convert<T: DeserializeOwned, U>(
    document: Document<'_>,
    into: fn(&T) -> Result<U, FieldError>,
) -> Result<U, Fault> {
    let object: T = document.parse().map_err(|error| (error.line, error.message))?;
    into(&object).map_err(|error| (document.locate(&error.path), error.to_string()))
}

/// One whose traffic is known is kept whatever else is wrong, and denies it: what it was to steer must
/// not leave as if it were not there (E4).
fn policy(document: Document<'_>, file: &Path) -> Result<Content, Fault> {
    let object: EgressPolicy = document.parse().map_err(|error| (error.line, error.message))?;
    let located = |error: &FieldError| (document.locate(&error.path), error.to_string());
    let policy = egress_policy(&object).map_err(|error| located(&error))?;
    let problem = check_effect(&object).err().map(|error| {
        let (line, message) = located(&error);
        let message = format!("{message} (its traffic is denied meanwhile)");
        Problem::new(file, line, message).about(format!("EgressPolicy {}", policy.name))
    });
    Ok(Content::EgressPolicy(Box::new(policy), problem))
}

fn route(document: Document<'_>, file: &Path, source: &ManifestSource) -> Result<Content, Fault> {
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
