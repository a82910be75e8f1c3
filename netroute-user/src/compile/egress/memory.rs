//! What one compilation leaves to the next: the maps hold no names, and most of ten thousand pods are
//! as they were.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use netroute_common::layout::egress::Identity;

use super::content::Content;
use super::identities::Who;
use super::image::Destinations;
use super::order::Rank;
use super::slots::Slots;
use super::sources::SetId;
use crate::desired::egress::{EgressPolicy, Labels, Pod};

/// `Default` is what is known after a start: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// That the compilation asked for. If the maps have another one the plan was not carried out to its
    /// end, or is not known to have been.
    pub generation: Option<u32>,
    pub(super) slots: Slots,
    pub(super) identities: BTreeMap<Who, Identity>,
    pub(super) policies: Arc<BTreeMap<String, EgressPolicy>>,
    pub(super) namespaces: Arc<BTreeMap<String, Labels>>,
    /// Pods of this node in order, and what selects them.
    pub(super) known: Vec<Known>,
    pub(super) sets: Vec<Arc<[Rank]>>,
    /// Prefixes of the cluster that contents were made with.
    pub(super) internal: Vec<IpNet>,
    pub(super) contents: BTreeMap<SetId, Arc<Content>>,
    pub(super) numbered: BTreeMap<Identity, Numbered>,
    /// Of `numbered`: the number of each policy, by IP version, and of what lets the node out.
    pub(super) numbers: Vec<[u32; 2]>,
}

/// One pod as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) pod: Arc<Pod>,
    pub(super) sets: Arc<[(IpAddr, SetId)]>,
}

/// A content with the numbers that its policies and rules have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) content: Arc<Content>,
    pub(super) destinations: Arc<Destinations>,
    /// Its runs of rules.
    pub(super) firsts: Arc<[u32]>,
}

impl Memory {
    /// Whether what is known of pods still holds.
    pub(super) fn has(
        &self,
        policies: &Arc<BTreeMap<String, EgressPolicy>>,
        namespaces: &Arc<BTreeMap<String, Labels>>,
    ) -> bool {
        let same_policies = Arc::ptr_eq(&self.policies, policies) || self.policies == *policies;
        same_policies && (Arc::ptr_eq(&self.namespaces, namespaces) || self.namespaces == *namespaces)
    }

    /// As a plan that was cut short leaves it: flows may have been stamped, or not.
    #[must_use]
    pub fn unsettled(&self) -> Self {
        Self { generation: None, ..self.clone() }
    }
}
