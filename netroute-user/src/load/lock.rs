//! One agent per folder: a lock that the kernel gives back when its holder dies.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::LoadError;

/// Held as long as the value lives. The folder itself is locked, since a BPF file system holds no
/// ordinary files.
#[derive(Debug)]
pub(super) struct Lock {
    _folder: Flock<File>,
}

impl Lock {
    /// Makes the folder if need be and locks it.
    ///
    /// # Errors
    /// [`LoadError::InUse`] if somebody else holds it.
    pub(super) fn acquire(bpffs: &Path) -> Result<Self, LoadError> {
        let failed = |operation: &'static str| {
            let path: PathBuf = bpffs.to_path_buf();
            move |source: std::io::Error| LoadError::Folder { operation, path, source }
        };
        loop {
            DirBuilder::new().recursive(true).mode(0o700).create(bpffs).map_err(failed("create"))?;
            let folder = File::open(bpffs).map_err(failed("open"))?;
            let folder = Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
                if errno == Errno::EWOULDBLOCK {
                    LoadError::InUse { path: bpffs.to_path_buf() }
                } else {
                    failed("lock")(errno.into())
                }
            })?;
            // Between open and lock the folder may have been removed and made anew by another
            // process; the lock would then be on a folder that nobody else sees.
            let locked = folder.metadata().map_err(failed("look at"))?;
            if std::fs::metadata(bpffs)
                .is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino()))
            {
                return Ok(Self { _folder: folder });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::acquire(folder.path()).unwrap();
        assert!(matches!(Lock::acquire(folder.path()), Err(LoadError::InUse { .. })));
        drop(first);
        Lock::acquire(folder.path()).unwrap();
    }
}
