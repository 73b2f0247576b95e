//! One server per `SQLite` file.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Holds `<database>.lock` until dropped; the operating system releases it when the process dies, whatever the way.
#[derive(Debug)]
pub struct FileLock(File);

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing the file is not enough while a child of this process, not yet another program, has it open, too.
        let _ = self.0.unlock();
    }
}

impl FileLock {
    /// Takes the lock, or says in words who has it.
    pub fn take(database: &Path) -> Result<Self> {
        let path = beside(database, ".lock");
        let shown = path.display();
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(|why| Error::Refused(format!("cannot open {shown}: {why}")))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(Error::Refused(format!(
                "another server is running on {}; stop it, or use PostgreSQL for several",
                database.display()
            ))),
            Err(TryLockError::Error(why)) => Err(Error::Refused(format!("cannot lock {shown}: {why}"))),
        }
    }
}

/// Makes the file of a new database readable by its owner only; SQLite gives its companions the same mode.
pub(super) fn create_private(database: &Path) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(database) {
        Err(why) if why.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::Refused(format!("cannot make {}: {why}", database.display())))
        }
        _ => Ok(()),
    }
}

/// A file that belongs to a database: its path with a suffix.
#[must_use]
pub fn beside(database: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
