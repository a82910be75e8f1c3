//! The netroute agent and its command line as a library.
#![forbid(unsafe_code)]

pub mod apply;
pub mod compile;
pub mod desired;
pub mod input;
pub mod kernel;
pub mod netlink;
pub mod observe;
pub mod plan;
