//! Services: from the endpoints that each front end has to what the maps hold. Pure.
//!
//! [`selection`] is what is asked for, [`ids`] keeps the numbers of Service ports and [`backends`] those
//! of endpoints, [`slots`] finds room for [`maglev`] tables, and [`build`] puts them together.

mod backends;
pub mod build;
pub mod ids;
pub mod image;
mod installed;
pub mod maglev;
mod masquerade;
pub mod nat;
pub mod refused;
pub mod selection;
mod slots;

use std::collections::BTreeMap;

use ids::ServiceIds;
use refused::Refused;
use selection::ServicePort;

/// What a compilation came to, beside the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// For the next compilation: the maps hold no names.
    pub ids: ServiceIds,
    /// Service ports that have no front ends in the maps, each with the reason.
    pub refused: BTreeMap<ServicePort, Refused>,
}
