//! Everything that comes from outside, parsed into the types of `desired` or `kernel`.

pub mod address;
pub mod manifests;
pub mod netlink;
pub mod objects;
pub mod probe;
pub mod problem;
pub mod state_dir;
pub mod yaml;
