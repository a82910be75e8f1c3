//! One decision each; [`crate::pipeline`] puts them in order.

pub mod answer;
pub mod choose;
pub mod family;
pub mod follow;
pub mod forward;
pub mod hold;
pub mod leave;
pub mod open;
pub mod outgoing;
pub mod port;
pub mod relate;
pub mod serve;
pub mod socket;
pub mod stages;
pub mod translate;
pub mod tuple;
pub mod way;
