//! The agent's log: standard error, where systemd and containers collect it.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// What is logged: `info`, `netroute_user=debug`, …
const VARIABLE: &str = "NETROUTE_LOG";

/// Of this process, once.
pub fn start() {
    let filter = EnvFilter::builder().with_env_var(VARIABLE).try_from_env();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(terminal);
    // journald stamps lines itself; in both cases a log that cannot start must not stop the agent.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().try_init()
    } else {
        log.try_init()
    };
}
