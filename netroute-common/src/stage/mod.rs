//! One decision each; [`crate::pipeline`] puts them in order.

pub mod choose;
pub mod family;
pub mod follow;
pub mod forward;
pub mod open;
pub mod refuse;
pub mod serve;
pub mod socket;
pub mod translate;
pub mod tuple;
