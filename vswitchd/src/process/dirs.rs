//! Directories, from the environment or Debian's defaults.

use std::path::{Path, PathBuf};

/// Where files are: `OVS_RUNDIR`, `OVS_LOGDIR`, `OVS_DBDIR` and `OVS_SYSCONFDIR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    pub run: PathBuf,
    pub log: PathBuf,
    pub db: PathBuf,
    pub sysconf: PathBuf,
}

impl Dirs {
    pub fn from_env() -> Self {
        Self::from(|name| std::env::var_os(name).map(PathBuf::from))
    }

    fn from(get: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let get = |name| get(name).filter(|dir| !dir.as_os_str().is_empty());
        let or = |name, default: &str| get(name).unwrap_or_else(|| default.into());
        let below_sysconf = || get("OVS_SYSCONFDIR").map(|dir| dir.join("openvswitch"));
        Dirs {
            run: or("OVS_RUNDIR", "/var/run/openvswitch"),
            log: or("OVS_LOGDIR", "/var/log/openvswitch"),
            db: get("OVS_DBDIR").or_else(below_sysconf).unwrap_or_else(|| "/etc/openvswitch".into()),
            sysconf: or("OVS_SYSCONFDIR", "/etc"),
        }
    }

    /// A file named by an operator: relative names are in the run directory.
    pub fn in_run(&self, name: &str) -> PathBuf {
        self.run.join(Path::new(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_overrides_defaults() {
        let dirs = Dirs::from(|name| match name {
            "OVS_RUNDIR" => Some("/r".into()),
            "OVS_SYSCONFDIR" => Some("/s".into()),
            "OVS_LOGDIR" => Some("".into()),
            _ => None,
        });
        let expected = Dirs {
            run: "/r".into(),
            log: "/var/log/openvswitch".into(),
            db: "/s/openvswitch".into(),
            sysconf: "/s".into(),
        };
        assert_eq!(dirs, expected);
        assert_eq!((dirs.in_run("x.pid"), dirs.in_run("/x")), ("/r/x.pid".into(), "/x".into()));
    }
}
