//! The pidfile: a locked file with the process's number. The lock, not the file, says that a daemon runs.

use super::{Fatal, reason};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Module of the log.
const MODULE: &str = "daemon_unix";

/// A pidfile of this process. Dropping it removes the file; the lock goes with the process.
#[derive(Debug)]
pub(super) struct Pidfile {
    path: PathBuf,
    /// Keeps the lock. Closing any descriptor of the file would release it.
    _locked: File,
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Pidfile {
    /// Writes and locks the pidfile. Two daemons that start at once are told apart by the lock on a common
    /// temporary file, which becomes the pidfile; with `overwrite`, each has its own.
    pub fn create(path: &Path, overwrite: bool) -> Result<Pidfile, Fatal> {
        let pid = std::process::id();
        let temporary =
            if overwrite { suffixed(path, &format!(".tmp{pid}")) } else { suffixed(path, ".tmp") };
        let fail = |what: &str, e: io::Error| {
            Fatal::logged(MODULE, format!("{}: {what} failed ({})", temporary.display(), reason(&e)))
        };
        let open = OpenOptions::new().read(true).append(true).create(true).mode(0o666).open(&temporary);
        let mut file = open.map_err(|e| fail("create", e))?;
        lock(&file).map_err(|e| fail("fcntl(F_SETLK)", e))?;
        let write = |file: &mut File| {
            if !overwrite {
                check_not_running(path)?;
            }
            file.set_len(0).map_err(|e| fail("truncate", e))?;
            writeln!(file, "{pid}").map_err(|e| fail("write", e))
        };
        if let Err(error) = write(&mut file) {
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
        std::fs::rename(&temporary, path).map_err(|e| {
            let (from, to) = (temporary.display(), path.display());
            Fatal::logged(MODULE, format!("failed to rename \"{from}\" to \"{to}\" ({})", reason(&e)))
        })?;
        Ok(Pidfile { path: path.to_owned(), _locked: file })
    }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn whole_file(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn lock(file: &File) -> io::Result<()> {
    Ok(fcntl(file, FcntlArg::F_SETLK(&whole_file(libc::F_WRLCK))).map(drop)?)
}

/// The process that has the file locked.
fn lock_holder(file: &File) -> io::Result<Option<i32>> {
    let mut probe = whole_file(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_GETLK(&mut probe))?;
    Ok((i32::from(probe.l_type) != libc::F_UNLCK).then_some(probe.l_pid))
}

fn check_not_running(path: &Path) -> Result<(), Fatal> {
    let name = path.display();
    match running(path) {
        Ok(None) => Ok(()),
        Ok(Some(pid)) => {
            Err(Fatal::logged(MODULE, format!("{name}: already running as pid {pid}, aborting")))
        }
        Err(e) => {
            let text = format!("{name}: pidfile check failed ({}), aborting", reason(&e));
            Err(Fatal::logged(MODULE, text))
        }
    }
}

/// The process whose pidfile this is. A file that nobody has locked is stale; it is left for the new one to be
/// renamed over, so that whoever reads the pidfile always finds one.
fn running(path: &Path) -> io::Result<Option<i32>> {
    let warn = |text: &str| tracing::warn!(target: "daemon_unix", "{}: {text}", path.display());
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            warn(&format!("open: {}", reason(&e)));
            return Err(e);
        }
        Ok(file) => file,
    };
    let Some(holder) = lock_holder(&file)? else { return Ok(None) };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    match text.lines().next().map(str::trim) {
        Some(line) if line.parse() == Ok(holder) => Ok(Some(holder)),
        Some(line) => {
            warn(&format!("stale pidfile for pid {line} being deleted by pid {holder}"));
            Err(Errno::ESRCH.into())
        }
        None => {
            warn("read: unexpected end of file");
            Err(Errno::ESRCH.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_file_is_replaced_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        std::fs::write(&path, "1\n").unwrap();
        let pidfile = Pidfile::create(&path, false).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(pidfile);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_directory() {
        let error = Pidfile::create(Path::new("/nonexistent/x.pid"), false).unwrap_err();
        assert_eq!(error.to_string(), "/nonexistent/x.pid.tmp: create failed (No such file or directory)");
    }
}
