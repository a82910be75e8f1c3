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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::yaml::documents;

    fn read(addresses: &str) -> Result<Node, String> {
        let text = format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: worker-1, labels: \
             {{topology.kubernetes.io/zone: a}}}}\nstatus: {{addresses: [{addresses}]}}\n"
        );
        let object: core::Node = documents(&text)[0].parse().expect("a Node");
        node(&object).map_err(|error| error.to_string())
    }

    #[test]
    fn r3_a_nodes_addresses_and_zone_are_read() {
        let node = read("{type: Hostname, address: worker-1}, {type: InternalIP, address: 10.128.044.011}");
        let node = node.unwrap();
        assert_eq!((node.name.as_str(), node.zone()), ("worker-1", Some("a")));
        assert_eq!(node.addresses, ["10.128.44.11".parse().unwrap()].into());
    }

    #[test]
    fn an_address_that_is_none_is_refused_with_its_field() {
        let message = read("{type: Hostname, address: x}, {type: InternalIP, address: x}").unwrap_err();
        assert_eq!(message, "status.addresses[1].address: \"x\" is not an IP address");
    }
}
