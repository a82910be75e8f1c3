//! One agent per directory: an advisory lock that the kernel releases when the process ends,
//! however it ends. Works on a state directory and on a folder of a BPF file system.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another agent ({}) works in {}; stop it first, or give this one its own stateDir, bpffs and socket", holder(*.pid), path.display())]
    Held { path: PathBuf, pid: Option<u32> },
    #[error("{}: cannot be locked: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "pid unknown".to_owned(), |pid| format!("pid {pid}"))
}

/// Held until dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: Flock<File>,
}

impl DirectoryLock {
    /// Does not wait.
    ///
    /// # Errors
    /// When another process holds it, or the directory cannot be opened.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |error| LockError::Io { path: path.to_owned(), error };
        let directory = File::open(path).map_err(failed)?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((directory, Errno::EWOULDBLOCK)) => {
                Err(LockError::Held { path: path.to_owned(), pid: holder_of(&directory) })
            }
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

/// Looks the lock up in `/proc/locks` (`1: FLOCK  ADVISORY  WRITE 4711 00:1b:42 0 EOF`).
fn holder_of(directory: &File) -> Option<u32> {
    let inode = directory.metadata().ok()?.ino().to_string();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        if words.next()? != "FLOCK" {
            return None;
        }
        let pid = words.nth(2)?;
        let place = words.next()?;
        (place.rsplit(':').next()? == inode).then(|| pid.parse().ok())?
    })
}
