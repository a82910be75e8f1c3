//! Reads what is there, for people: counters, NICs, health.

pub mod counters;
pub mod doctor;
pub mod metrics;
pub mod nic;
