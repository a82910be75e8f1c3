//! Where things lie: in the workspace, and in the cache that all clones of one user share.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

#[derive(Clone, Debug)]
pub struct Paths {
    /// Folder of the workspace's `Cargo.toml`.
    pub workspace: PathBuf,
    /// `${XDG_CACHE_HOME:-~/.cache}/netroute`: tools and downloads, keyed by version.
    pub cache: PathBuf,
}

impl Paths {
    /// Fails if neither `XDG_CACHE_HOME` nor `HOME` is set.
    pub fn find() -> Result<Self> {
        // Cargo names the crate's folder at run time, which stays right when the clone was moved.
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let Some(workspace) = manifest.parent().map(Path::to_path_buf) else {
            bail!("{} lies in no workspace", manifest.display());
        };
        Ok(Self { workspace, cache: cache_base()?.join("netroute") })
    }

    /// The crate that is built for BPF, a workspace of its own.
    pub fn ebpf(&self) -> PathBuf {
        self.workspace.join("netroute-ebpf")
    }

    /// Apart from the workspace's target folder, so that the two builds do not wait for each other.
    pub fn ebpf_target(&self) -> PathBuf {
        self.workspace.join("target/ebpf")
    }

    /// The BPF object, where the build script of `netroute-user` looks for it.
    pub fn object(&self) -> PathBuf {
        self.workspace.join("target/bpf/netroute.bpf.o")
    }

    /// Cargo's target folder of the workspace.
    pub fn target(&self) -> PathBuf {
        env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| self.workspace.join("target"), |dir| self.workspace.join(dir))
    }

    /// The committed map layouts.
    pub fn abi(&self) -> PathBuf {
        self.workspace.join("netroute-common/abi.txt")
    }

    /// `path` as a person in the workspace would write it.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.workspace).unwrap_or(path).display().to_string()
    }
}

fn cache_base() -> Result<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set: no place for tools and downloads")
}
