//! The netroute agent and its command line as a library.
#![forbid(unsafe_code)]

pub mod apply;
pub mod compile;
pub mod desired;
pub mod kernel;
pub mod load;
pub mod observe;
pub mod plan;
