//! One decision each; [`crate::pipeline`] puts them in order.

pub mod choose;
pub mod forward;
