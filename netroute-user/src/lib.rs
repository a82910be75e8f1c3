//! The netroute agent and its command line as a library.
#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
pub mod apply;
pub mod cli;
pub mod compile;
pub mod config;
pub mod desired;
pub mod error;
pub mod explain;
pub mod health_check;
pub mod input;
pub mod kernel;
pub mod load;
pub mod netlink;
pub mod observe;
pub mod plan;
