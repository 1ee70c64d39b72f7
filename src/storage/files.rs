//! The data folder and its files, which only their owner may read: the database with its
//! write-ahead log, the master key, and locks.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::{Mutex, PoisonError},
};

/// Creates a folder, and those above it that do not exist, with mode 0700.
///
/// # Errors
/// Where it cannot be created.
pub fn create_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates a file with mode 0600, for writing.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`]; where it cannot be created.
pub fn create(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Creates an empty database file unless there is a file. SQLite gives the files beside it the same
/// mode.
pub(super) fn create_database(path: &Path) -> io::Result<()> {
    // SQLite's locks are the process's: closing any descriptor of a file drops its locks. So the
    // file is closed here before anything else in this process opens it.
    static CREATING: Mutex<()> = Mutex::new(());
    let _creating = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    if path.exists() {
        return Ok(());
    }
    match create(path) {
        // By another process, at the same time.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map(drop),
    }
}

/// Opens a file that is only locked; one that does not exist is created with mode 0600.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Warns of a file or folder that is accessible to other users. One that does not exist is not.
pub fn warn_if_shared(path: &Path) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let (path, mode) = (path.display(), format!("{mode:04o}"));
        let should_be = if metadata.is_dir() { "0700" } else { "0600" };
        tracing::warn!(%path, mode, should_be, "accessible to other users: change its mode");
    }
}
