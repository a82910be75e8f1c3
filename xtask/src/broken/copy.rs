//! The crates of the BPF object, copied to where they may be broken.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::mutants::Mutant;
use super::object_in;
use crate::build;
use crate::paths::Paths;
use crate::process;
use crate::setup::Toolchain;

const CRATES: [&str; 2] = ["netroute-common", "netroute-ebpf"];
/// `netroute-common` inherits its version and its dependencies from there.
const WORKSPACE: &str = "Cargo.toml";

pub struct Copy {
    /// Where the sources are sound.
    from: PathBuf,
    /// With the copy as its workspace.
    paths: Paths,
}

impl Copy {
    pub fn make(paths: &Paths) -> Result<Self> {
        let root = paths.workspace.join("target/broken");
        for name in CRATES {
            let target = root.join(name);
            if target.exists() {
                fs::remove_dir_all(&target)?;
            }
            copy_folder(&paths.workspace.join(name), &target)?;
        }
        let manifest = fs::read_to_string(paths.workspace.join(WORKSPACE))?;
        fs::write(root.join(WORKSPACE), only_common(&manifest)?)?;
        Ok(Self {
            from: paths.workspace.clone(),
            paths: Paths { workspace: root, cache: paths.cache.clone() },
        })
    }

    /// Builds the object with the mistake of `mutant`, which is taken back afterwards.
    pub fn build(&self, toolchain: &Toolchain, mutant: Option<&Mutant>) -> Result<PathBuf> {
        let object = object_in(&self.paths.workspace);
        // An object that the build does not make anew must not be taken for its result.
        if object.exists() {
            fs::remove_file(&object)?;
        }
        let Some(mutant) = mutant else {
            self.compile(toolchain)?;
            return Ok(object);
        };
        let source = fs::read_to_string(self.from.join(mutant.file))?;
        let Some(broken) = mutant.applied(&source) else {
            bail!("{} does not hold `{}` exactly once", mutant.file, mutant.sound);
        };
        let file = self.paths.workspace.join(mutant.file);
        fs::write(&file, broken)?;
        let built = self.compile(toolchain);
        fs::write(&file, source)?;
        built.map(|()| object)
    }

    fn compile(&self, toolchain: &Toolchain) -> Result<()> {
        let mut cargo = build::ebpf_cargo(&self.paths, toolchain, "build");
        // A mistake may well bring about a warning.
        cargo.args(["--locked", "--quiet", "--bin", "netroute-ebpf"]).env("CARGO_TERM_QUIET", "true");
        process::read(&mut cargo).map(drop)
    }
}

/// The manifest of the workspace, with the one member that the copy has.
fn only_common(manifest: &str) -> Result<String> {
    let mut manifest: toml::Table = manifest.parse()?;
    let workspace = manifest.get_mut("workspace").and_then(toml::Value::as_table_mut);
    let workspace = workspace.context("the manifest has no workspace")?;
    let members = |names: &[&str]| toml::Value::from(names.to_vec());
    workspace.insert("members".to_owned(), members(&["netroute-common"]));
    workspace.remove("default-members");
    Ok(manifest.to_string())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if !entry.file_type()?.is_dir() {
            fs::copy(&source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
        } else if entry.file_name() != "target" {
            copy_folder(&source, &target)?;
        }
    }
    Ok(())
}
