//! A container as a file, for a restart without a hand-over.

use crate::container::{Container, FormatError, MAX_CONTAINER};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// State could not be written or read.
#[derive(Debug, Error)]
pub enum FileError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Somebody else may have written it.
    #[error("not a plain file of this user that nobody else may write")]
    Untrusted,
}

/// Writes `container` to `path`, for its owner only: wholly, or not at all, also if the machine stops meanwhile.
pub fn save(path: &Path, container: &Container) -> Result<(), FileError> {
    let bytes = container.to_bytes()?;
    let temporary = temporary_name(path);
    // Left over from a process of this number that was killed while it saved.
    let _ = std::fs::remove_file(&temporary);
    let result = write_new(&temporary, &bytes).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(e) = result {
        let _ = std::fs::remove_file(&temporary);
        return Err(e.into());
    }
    File::open(parent(path))?.sync_all()?;
    Ok(())
}

/// Reads what [`save`] wrote, `None` if there is no such file.
pub fn load(path: &Path) -> Result<Option<Container>, FileError> {
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match open {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let metadata = file.metadata()?;
    let ours = metadata.uid() == nix::unistd::geteuid().as_raw();
    if !metadata.is_file() || !ours || metadata.mode() & 0o022 != 0 {
        return Err(FileError::Untrusted);
    }
    let mut bytes = Vec::new();
    file.take(MAX_CONTAINER as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(Container::from_bytes(&bytes)?))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".tmp{}", std::process::id()));
    name.into()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Saved;
    use serde::{Deserialize, Serialize};
    use std::os::unix::fs::PermissionsExt;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Count(u64);

    impl Saved for Count {
        const NAME: &'static str = "test/count";
        const VERSION: u32 = 1;
    }

    #[test]
    fn saved_and_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert!(load(&path).unwrap().is_none());
        for n in [1, 2] {
            let mut container = Container::new();
            container.put(&Count(n)).unwrap();
            save(&path, &container).unwrap();
            assert_eq!(load(&path).unwrap().unwrap().get(), Ok(Some(Count(n))));
        }
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_that_others_may_write_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("state"), dir.path().join("link"));
        save(&path, &Container::new()).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(load(&link), Err(FileError::Io(_))));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o622)).unwrap();
        assert!(matches!(load(&path), Err(FileError::Untrusted)));
        assert!(matches!(load(dir.path()), Err(FileError::Untrusted)));
    }
}
