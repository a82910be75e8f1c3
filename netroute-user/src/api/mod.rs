//! The agent's API: HTTP with JSON over a Unix socket. The server turns requests into [`request`]s
//! to the agent; it knows neither maps nor files.

pub mod request;
pub mod types;
