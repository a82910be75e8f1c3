//! The daemon: one loop that owns all state. Inputs come in as events, every change leads through
//! `compile` and `plan` to map writes; only a failing next hop takes the short way.

mod carried;
mod converge;
mod core;
mod health_checks;
mod health_views;
mod interfaces;
mod job;
mod kernel_tasks;
mod requests;
mod signals;
pub mod sources;
mod start;
mod views;

pub use start::{AgentError, detach, run};
