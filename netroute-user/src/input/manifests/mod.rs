//! A directory of YAML or JSON manifests as a source of desired state.

mod document;
mod kinds;
mod reader;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::problem::Problem;
use crate::config::AgentConfig;
use crate::desired::route::{CustomRoute, Probe};
use crate::desired::service::Cluster;
pub use reader::ManifestReader;
pub use watch::{ManifestWatch, WatchError, watch};

/// What one full read of the directory gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestSet {
    /// For this node, no key twice.
    pub routes: Vec<CustomRoute>,
    /// Services, their endpoints, nodes, pods and egress policies.
    pub cluster: Arc<Cluster>,
    /// What is wrong; the good objects of the same file are in force all the same.
    pub problems: Vec<Problem>,
    /// Not wrong, but worth knowing: objects that do nothing in this version, no directory yet.
    pub notes: Vec<Problem>,
}

/// Where to read and for which node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestSource {
    pub directory: PathBuf,
    pub node_labels: BTreeMap<String, String>,
    pub default_probe: Option<Probe>,
}

impl From<&AgentConfig> for ManifestSource {
    fn from(config: &AgentConfig) -> Self {
        Self {
            directory: config.manifests.clone(),
            node_labels: config.node_labels.clone(),
            default_probe: config.probe,
        }
    }
}

#[cfg(test)]
mod tests;
