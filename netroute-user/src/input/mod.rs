//! Where the agent's knowledge comes from: each input parses once and hands on typed values.

pub mod netlink;
pub mod probe;
