//! The one binary: the agent and its command line.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use netroute_user::cli::{self, Seams};

fn main() -> ExitCode {
    let seams = Seams {
        agent: |config| anyhow::bail!("{}: the agent is not part of this build", config.node_name),
        detach: |bpffs| anyhow::bail!("{}: detaching is not part of this build", bpffs.display()),
    };
    cli::run(std::env::args_os().collect(), seams)
}
