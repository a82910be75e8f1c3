//! `EgressPolicy`: what leaves the cluster, which way and under which address.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::egress_effect::effect;
use super::egress_matches::{from, to};
use super::field::FieldError;
use crate::desired::egress::{self, DEFAULT_PRIORITY};

/// Judges what pods, and the node itself, send out of the cluster. Of several that apply the one with
/// the lowest priority counts, then the one with the longest destination prefix, then the oldest.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "netroute.dev",
    version = "v1alpha1",
    kind = "EgressPolicy",
    plural = "egresspolicies",
    shortname = "ep",
    printcolumn = r#"{"name":"Priority","type":"integer","jsonPath":".spec.priority"}"#,
    printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.action"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressPolicySpec {
    /// Lower wins. Default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Who sends. Default: every pod.
    #[serde(default)]
    pub from: FromSpec,
    /// Where to. Default: everywhere outside of the cluster.
    #[serde(default)]
    pub to: ToSpec,
    /// `Allow`, `Deny`, `Masquerade` (the address of the interface that the packet leaves by) or `Snat`.
    pub action: String,
    /// For the action `Deny`: `Drop` (default), or `Reject`, which answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny: Option<String>,
    /// For the action `Snat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snat: Option<SnatSpec>,
    /// Next hops, instead of those of the route. Several with different metrics are fallbacks of each
    /// other, with the same metric they share the traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<ViaSpec>,
}

/// All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FromSpec {
    /// Labels of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<SelectorSpec>,
    /// Labels of the namespaces that pods are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<SelectorSpec>,
    /// Prefixes that addresses of pods (or of the node) lie in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// The node's own processes as well; with nothing else given, only these.
    #[serde(default)]
    pub node: bool,
}

/// A label selector as of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SelectorSpec {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<ExpressionSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpressionSpec {
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToSpec {
    /// Prefixes. Default: `0.0.0.0/0` and `::/0`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// Prefixes that the policy does not apply to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// Default: everything, whatever the protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortSpec {
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Default: all ports of the protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// The last one, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_port: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnatSpec {
    /// Addresses of this node; a sender always gets the same one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ViaSpec {
    /// An alias of the agent's configuration, or a device name.
    pub interface: String,
    /// Address of the router.
    pub next_hop: String,
    /// Lower is preferred. Default 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub metric: Option<u32>,
}

/// What is wrong beside who and where to stays in the result's `effect`.
///
/// # Errors
/// What is wrong in `from` and `to`: nobody knows then whose traffic it is.
pub fn egress_policy(object: &EgressPolicy) -> Result<egress::EgressPolicy, FieldError> {
    let EgressPolicy { metadata, spec } = object;
    let from = from(&spec.from)?;
    let to = to(&spec.to)?;
    Ok(egress::EgressPolicy {
        name: metadata.name.clone().unwrap_or_default(),
        created: metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
        priority: spec.priority.unwrap_or(DEFAULT_PRIORITY),
        effect: effect(spec, &to).map_err(|error| error.to_string()),
        from,
        to,
    })
}

/// What is wrong with the effect, with its place.
///
/// # Errors
/// As said.
pub fn check_effect(object: &EgressPolicy) -> Result<(), FieldError> {
    effect(&object.spec, &to(&object.spec.to)?).map(drop)
}

#[cfg(test)]
mod tests;
