//! Egress policies: who is judged by which rules, and what the maps hold of them. Pure.
//!
//! [`sources`] finds the set of policies that selects each source, [`content`] what such a set says of
//! each destination, [`policies`] what each policy does on this node; [`identities`], [`slots`] and [`runs`]
//! keep numbers and places, [`assemble`] puts the image together and [`generation`] says whether flows
//! must be judged anew. What does not fit, or is not known, is denied and never let out (E4).

pub mod applicable;
mod assemble;
mod build;
mod cluster;
pub mod condition;
mod content;
mod generation;
mod identities;
pub mod image;
mod memory;
mod order;
mod policies;
mod room;
mod runs;
mod select;
mod slots;
mod sources;
mod statuses;
pub(in crate::compile) mod vias;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(in crate::compile) use build::build;
use condition::PolicyStatus;
pub use memory::Memory;

/// What a compilation came to, beside the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// For the next compilation.
    pub memory: Arc<Memory>,
    /// By the policy's name.
    pub statuses: BTreeMap<String, PolicyStatus>,
    /// Sources that there is no room for: what they send is dropped.
    pub unplaced: usize,
    /// What is written now makes room for what was refused: another compilation has it.
    pub again: bool,
}
