//! The project's own commands: `cargo xtask …`.

mod lab;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Command {
    /// The appliance in network namespaces
    Lab(lab::LabCommand),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Lab(command) => command.run(),
    }
}
