//! Services: which endpoints each front end gets, and what the maps hold of them. Pure.
//!
//! [`selection`] is what is asked for, [`ids`] keeps the numbers of Service ports and [`backends`] those
//! of endpoints, [`slots`] finds room for [`maglev`] tables, and [`build`] puts them together.

mod backends;
pub mod build;
pub mod condition;
mod endpoints;
mod front_ends;
pub mod ids;
pub mod image;
mod installed;
pub mod maglev;
mod masquerade;
pub mod nat;
pub(in crate::compile) mod peers;
pub mod refused;
pub mod selection;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use endpoints::MOST_ENDPOINTS;

use ids::ServiceIds;
use refused::Refused;
use selection::{Selection, ServicePort};

/// What a compilation came to, beside the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// For the next compilation: the maps hold no names.
    pub ids: ServiceIds,
    /// What was asked for.
    pub selection: Arc<Selection>,
    /// Service ports that have no front ends in the maps, each with the reason.
    pub refused: BTreeMap<ServicePort, Refused>,
}
