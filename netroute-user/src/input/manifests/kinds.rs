//! The kinds of objects that a manifest may have.

use crate::input::yaml::nearest;

const OWN: &str = "netroute.dev/v1alpha1";

/// What is made of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    Route,
    Service,
    EndpointSlice,
    Node,
    Pod,
    Namespace,
    EgressPolicy,
    /// Known, but does nothing in this version.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
pub struct Known {
    api_version: &'static str,
    kind: &'static str,
    pub namespaced: bool,
    pub reads: Reads,
}

const fn known(api_version: &'static str, kind: &'static str, namespaced: bool, reads: Reads) -> Known {
    Known { api_version, kind, namespaced, reads }
}

const KINDS: [Known; 8] = [
    known(OWN, "NetRoute", false, Reads::Route),
    known(OWN, "EgressPolicy", false, Reads::EgressPolicy),
    known(OWN, "AddressPool", false, Reads::Nothing),
    known("v1", "Node", false, Reads::Node),
    known("v1", "Service", true, Reads::Service),
    known("v1", "Pod", true, Reads::Pod),
    known("v1", "Namespace", false, Reads::Namespace),
    known("discovery.k8s.io/v1", "EndpointSlice", true, Reads::EndpointSlice),
];

pub fn find(api_version: &str, kind: &str) -> Option<&'static Known> {
    KINDS.iter().find(|known| known.api_version == api_version && known.kind == kind)
}

/// What to say about a kind that is not found.
pub fn unknown(api_version: &str, kind: &str) -> String {
    if let Some(known) = KINDS.iter().find(|known| known.kind == kind) {
        let right = known.api_version;
        return format!("apiVersion \"{api_version}\" is not known for {kind}; use {right}");
    }
    match nearest(kind, KINDS.iter().map(|known| known.kind)) {
        Some(near) => format!("unknown kind \"{kind}\"; did you mean \"{near}\"?"),
        None => format!(
            "unknown kind \"{kind}\" ({api_version}); this version reads NetRoute, EgressPolicy, \
             Service, EndpointSlice, Node, Pod and Namespace"
        ),
    }
}
