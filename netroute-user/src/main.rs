//! The one binary: the agent and its command line.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use netroute_user::agent;
use netroute_user::cli::{self, Seams};

fn main() -> ExitCode {
    let seams = Seams { agent: |config| Ok(agent::run(config)?), detach: |bpffs| Ok(agent::detach(bpffs)?) };
    cli::run(std::env::args_os().collect(), seams)
}
