//! `--user`: giving up root, keeping what a switch needs.

use super::options::UserOption;
use super::{Fatal, reason};
use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Group, Uid, User, geteuid, getuid, setgid, setgroups, setuid};
use std::io;

/// Module of the log.
const MODULE: &str = "daemon_unix";

/// What the daemon still may do as another user.
const KEPT: [Capability; 5] = [
    Capability::CAP_IPC_LOCK,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
    Capability::CAP_NET_BROADCAST,
];

/// Whom to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewUser {
    uid: Uid,
    gid: Gid,
}

impl NewUser {
    /// Looks up `user`, `user:group` or `:group`. The user must be a member of the group.
    pub fn find(option: &UserOption) -> Result<NewUser, Fatal> {
        let UserOption { spec, context } = option;
        let fail = |text: String| Fatal::logged(MODULE, format!("{context}: {text}"));
        if !getuid().is_root() || !geteuid().is_root() {
            return Err(fail("only root can use --user option".to_owned()));
        }
        let (name, group) = spec.split_once(':').map_or((spec.as_str(), ""), |(name, group)| (name, group));
        let (name, group) = (name.trim_start(), group.trim_start());
        let found = if name.is_empty() { User::from_uid(getuid()) } else { User::from_name(name) };
        let user = found
            .map_err(|e| fail(format!("Failed to retrieve user {name}'s uid ({}), aborting.", e.desc())))?
            .ok_or_else(|| fail(format!("user {name} not found, aborting.")))?;
        let mut gid = user.gid;
        if !group.is_empty() {
            let found = Group::from_name(group)
                .map_err(|e| {
                    fail(format!("Failed to get group entry for {group}, ({}), aborting.", e.desc()))
                })?
                .ok_or_else(|| fail(format!("group {group} not found, aborting.")))?;
            if found.gid != gid && !found.mem.contains(&user.name) {
                let who = format!("(user {} is not in group {group})", user.name);
                return Err(fail(format!("Invalid --user option {} {who}, aborting.", spec.trim_start())));
            }
            gid = found.gid;
        }
        Ok(NewUser { uid: user.uid, gid })
    }

    /// Becomes the user, for good. The log file is given to it first.
    pub fn become_it(self, context: &str) -> Result<(), Fatal> {
        let log = vlog::Vlog::global();
        log.change_owner(self.uid, self.gid).map_err(|e| Fatal::logged("vlog", e.to_string()))?;
        self.switch().map_err(|e| {
            let why = reason(&e);
            let text =
                format!("failed to switch to user and group {}:{} ({why}), aborting", self.uid, self.gid);
            Fatal::logged(MODULE, format!("{context}: {text}"))
        })
    }

    fn switch(self) -> io::Result<()> {
        let kept: CapsHashSet = KEPT.into_iter().collect();
        for capability in caps::all() {
            // Capabilities that this kernel does not know cannot be dropped.
            if caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
                caps::drop(None, CapSet::Bounding, capability).map_err(io::Error::other)?;
            }
        }
        caps::securebits::set_keepcaps(true).map_err(io::Error::other)?;
        setgroups(&[])?;
        setgid(self.gid)?;
        setuid(self.uid)?;
        caps::set(None, CapSet::Effective, &kept).map_err(io::Error::other)?;
        caps::set(None, CapSet::Permitted, &kept).map_err(io::Error::other)?;
        caps::securebits::set_keepcaps(false).map_err(io::Error::other)
    }
}
