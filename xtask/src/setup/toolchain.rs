//! The Rust toolchain of this workspace: which release, where it lies, which LLVM it carries.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::bpf_linker;
use crate::paths::Paths;
use crate::process;

#[derive(Clone, Debug)]
pub struct Toolchain {
    /// As rustc prints it, such as `1.95.0`.
    pub release: String,
    /// Such as `22`.
    pub llvm_major: String,
    pub sysroot: PathBuf,
    /// Where the linker is, or will be once it is installed.
    pub bpf_linker: PathBuf,
}

impl Toolchain {
    pub fn detect(paths: &Paths) -> Result<Self> {
        let rustc = |arguments: &[&str]| {
            process::read(Command::new("rustc").args(arguments).current_dir(&paths.workspace))
        };
        let version = rustc(&["--version", "--verbose"])?;
        let field = |name: &str| {
            let value = version.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.with_context(|| format!("`rustc --version --verbose` prints no `{name}`"))
        };
        let release = field("release")?.to_owned();
        let llvm = field("LLVM version")?;
        let llvm_major = llvm.split_once('.').map_or(llvm, |(major, _)| major).to_owned();
        let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?);
        let bpf_linker = bpf_linker::program(paths, &release);
        Ok(Self { release, llvm_major, sysroot, bpf_linker })
    }

    /// Name of rustc's own LLVM as the linker takes it, such as `LLVM-22-rust-1.95.0-stable`.
    pub fn llvm_library(&self) -> Result<String> {
        let folder = self.sysroot.join("lib");
        let prefix = format!("libLLVM-{}-rust-", self.llvm_major);
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(&prefix))
            .find_map(|name| Some(name.strip_prefix("lib")?.strip_suffix(".so")?.to_owned()))
            .with_context(|| {
                format!("{}/{prefix}*.so is missing: install Rust with rustup", folder.display())
            })
    }
}
