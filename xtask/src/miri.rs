//! `cargo xtask miri`: the unit tests of `netroute-common` under Miri, which sees undefined behaviour
//! that other tests happen to survive.

use std::process::Command;

use anyhow::Result;

use crate::paths::Paths;
use crate::process;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<()> {
    let paths = Paths::find()?;
    let cargo = |toolchain: Option<&str>| {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&paths.workspace).arg("miri");
        if let Some(name) = toolchain {
            // Only if it is there: this is no reason to download one.
            cargo.env("RUSTUP_TOOLCHAIN", name).env("RUSTUP_AUTO_INSTALL", "0");
        }
        cargo
    };
    for toolchain in [None, Some("nightly")] {
        if process::read(cargo(toolchain).arg("--version")).is_err() {
            continue;
        }
        println!("miri: {} toolchain", toolchain.unwrap_or("the pinned"));
        let mut tests = cargo(toolchain);
        // The host's packet and tables are part of it; the feature `user` is aya's business.
        tests.args(["test", "--package", "netroute-common", "--features", "host", "--target-dir"]);
        return process::run(tests.arg(paths.workspace.join("target/miri")));
    }
    let release = process::read(Command::new("rustc").arg("--version").current_dir(&paths.workspace))?;
    println!(
        "SKIP miri: neither this toolchain ({release}) nor a nightly one has it; Miri is a component of nightly \
         toolchains: `rustup toolchain install nightly --component miri rust-src`, then `cargo xtask miri`"
    );
    Ok(())
}
