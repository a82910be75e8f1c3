//! `Node` of the core group.

use k8s_openapi::api::core::v1 as core;

use super::field::{FieldError, address};
use crate::desired::service::Node;
use crate::input::yaml::Step::{Index, Key};

/// Types of `status.addresses` that are no host names.
const ADDRESSES: [&str; 2] = ["InternalIP", "ExternalIP"];

/// # Errors
/// The first address that is none.
pub fn node(object: &core::Node) -> Result<Node, FieldError> {
    let core::Node { metadata, spec: _, status } = object;
    let entries = status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let numeric = entries.iter().enumerate().filter(|(_, entry)| ADDRESSES.contains(&entry.type_.as_str()));
    let path = |index| [Key("status"), Key("addresses"), Index(index), Key("address")];
    Ok(Node {
        name: metadata.name.clone().unwrap_or_default(),
        labels: metadata.labels.clone().unwrap_or_default(),
        addresses: numeric
            .map(|(index, entry)| address(&entry.address, &path(index)))
            .collect::<Result<_, _>>()?,
    })
}
