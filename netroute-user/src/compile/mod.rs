//! Desired state and the kernel's state in, the maps' content out. Pure: no clock, no I/O, no map.

pub mod admission;
pub mod image;
pub mod mirror;
pub mod status;
