//! Services: which endpoints each front end gets. Pure.

pub mod condition;
pub mod selection;
