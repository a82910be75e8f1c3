//! Services: which endpoints each front end gets. Pure.

pub mod condition;
mod endpoints;
mod front_ends;
pub mod selection;

pub use endpoints::MOST_ENDPOINTS;

#[cfg(test)]
mod tests;
