//! The state directory: routes of the command line, kept over restarts, and the lock that keeps a
//! second agent away.

mod file;
mod lock;

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::desired::route::{CustomRoute, Probe};
pub use file::{Damage, decode, encode};
pub use lock::{DirectoryLock, LockError};

const ROUTES: &str = "routes.yaml";
/// Begins the names of files that were being written.
const TEMPORARY: &str = ".routes.yaml.";

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{}: cannot be {action}: {error}; the agent needs to write there (stateDir)", path.display())]
    Io { action: &'static str, path: PathBuf, error: io::Error },
    #[error("{}: {damage}; nothing was changed. Move the file away and start again, then take over what is good with `netroute route import FILE`", path.display())]
    Damaged { path: PathBuf, damage: Damage },
    #[error(transparent)]
    Locked(#[from] LockError),
}

/// The one owner of the directory.
pub struct StateDir {
    path: PathBuf,
    default_probe: Option<Probe>,
    _lock: DirectoryLock,
}

impl StateDir {
    /// Makes the directory if needed, locks it and removes what an interrupted write left.
    ///
    /// # Errors
    /// When another agent holds it or it cannot be written.
    pub fn open(path: &Path, default_probe: Option<Probe>) -> Result<Self, StateError> {
        let failed = |action| move |error| StateError::Io { action, path: path.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("made"))?;
        let lock = DirectoryLock::acquire(path)?;
        for entry in std::fs::read_dir(path).map_err(failed("listed"))? {
            let entry = entry.map_err(failed("listed"))?;
            if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
                std::fs::remove_file(entry.path()).map_err(failed("cleaned up"))?;
            }
        }
        Ok(Self { path: path.to_owned(), default_probe, _lock: lock })
    }

    /// The routes last saved; none if there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or is not whole. It is left as it is.
    pub fn load(&self) -> Result<Vec<CustomRoute>, StateError> {
        load(&self.path, self.default_probe)
    }

    /// Replaces the file in one step: after a crash the old or the new routes are there.
    ///
    /// # Errors
    /// When the file cannot be written; the old one is then still there.
    pub fn save<'a>(&self, routes: impl IntoIterator<Item = &'a CustomRoute>) -> Result<(), StateError> {
        let text = encode(routes, self.default_probe);
        let path = self.path.join(ROUTES);
        let write = || -> io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.path)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path).map(drop).map_err(|error| error.error)
        };
        write().map_err(|error| StateError::Io { action: "written", path: path.clone(), error })?;
        // The new file is in its place: to refuse the routes now would be untrue. What is open is
        // whether it survives the machine's next power failure.
        if let Err(error) = File::open(&self.path).and_then(|directory| directory.sync_all()) {
            warn!(%error, path = %self.path.display(), "directory not written to the disk");
        }
        Ok(())
    }
}

/// What is kept in the directory, without locking it: for `config check`.
///
/// # Errors
/// As [`StateDir::load`].
pub fn load(directory: &Path, default_probe: Option<Probe>) -> Result<Vec<CustomRoute>, StateError> {
    let path = directory.join(ROUTES);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StateError::Io { action: "read", path, error }),
    };
    decode(&bytes, default_probe).map_err(|damage| StateError::Damaged { path, damage })
}

#[cfg(test)]
mod tests;
