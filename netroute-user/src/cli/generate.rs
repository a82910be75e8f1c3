//! Files made from the code: completions, manual pages, custom resource definitions.

use std::path::Path;

use clap::CommandFactory;
use kube::CustomResourceExt;

use super::args::Cli;
use super::cmdlet::Cmdlet;
use super::failure::{Failure, refused};
use super::output::print;
use crate::input::objects::{EgressPolicy, NetRoute};

/// # Errors
/// When standard output cannot be written.
pub fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut command = Cli::command();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "netroute", &mut text);
    print(&String::from_utf8_lossy(&text))
}

/// # Errors
/// When the output or the folder cannot be written.
pub fn man(folder: Option<&Path>) -> Result<(), Failure> {
    let Some(folder) = folder else {
        let mut text = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut text).map_err(refused)?;
        return print(&String::from_utf8_lossy(&text));
    };
    let failed = |error| refused(format!("{}: cannot be written: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(failed)?;
    for cmdlet in Cmdlet::ALL {
        // The cmdlets are described in the main page.
        let page = folder.join(format!("{}.1", cmdlet.name()));
        std::fs::write(page, ".so man1/netroute.1\n").map_err(failed)?;
    }
    Ok(())
}

/// # Errors
/// When the folder cannot be written.
pub fn crds(folder: &Path) -> Result<(), Failure> {
    let failed = |error| refused(format!("{}: cannot be written: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    for definition in [NetRoute::crd(), EgressPolicy::crd()] {
        let name = definition.metadata.name.clone().unwrap_or_default();
        let text = serde_norway::to_string(&definition).map_err(refused)?;
        std::fs::write(folder.join(format!("{name}.yaml")), text).map_err(failed)?;
    }
    Ok(())
}
