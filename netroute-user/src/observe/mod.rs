//! Reads what is there, for people: counters, NICs, health.

pub mod doctor;
pub mod nic;
