//! The Unix socket of the API.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another agent answers at {}; stop it first, or give this one its own socket", .0.display())]
    Live(PathBuf),
    #[error("{} is a file, not a socket; move it away or set another socket", .0.display())]
    NotASocket(PathBuf),
    #[error("the socket {} cannot be made: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// Makes the folder (0755) and the socket (0660). A socket that nobody answers at is replaced.
///
/// # Errors
/// When somebody answers there, or the place cannot be written. Needs a tokio runtime.
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |error| SocketError::Io { path: path.to_owned(), error };
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(failed)?;
    }
    match path.symlink_metadata() {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::Live(path.to_owned())),
        _ => {}
    }
    // Bound beside and renamed: whoever connects finds the final permissions.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&beside).map_err(failed)?;
    std::fs::set_permissions(&beside, Permissions::from_mode(0o660)).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)?;
    Ok(listener)
}
