//! The database lock (RFC 7047 sections 4.1.8 to 4.1.10).

/// Who has the lock, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// Not connected, or not answered yet, or this session needs no lock.
    Unknown,
    /// It is ours.
    Owned,
    /// Another client has it; it will be ours when that one goes away.
    Contended,
    /// Given back; not asked for.
    Released,
}

/// What a session does about its lock. Methods return the requests to send.
#[derive(Debug)]
pub(crate) struct Lock {
    name: Option<String>,
    state: LockState,
    /// The kind of request that the next connection starts with.
    wish: Wish,
    /// Replies to come; only that to the newest request counts.
    replies: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Lock,
    Steal,
    Nothing,
}

type Requests = &'static [&'static str];

impl Lock {
    pub fn new(name: Option<String>) -> Self {
        Lock { name, state: LockState::Unknown, wish: Wish::Lock, replies: 0 }
    }

    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub fn state(&self) -> LockState {
        self.state
    }

    pub fn permits_writing(&self) -> bool {
        self.name.is_none() || self.state == LockState::Owned
    }

    pub fn connected(&mut self) -> Requests {
        if self.name.is_none() {
            return &[];
        }
        let requests: Requests = match self.wish {
            Wish::Lock => &["lock"],
            Wish::Steal => &["steal"],
            Wish::Nothing => &[],
        };
        self.replies = requests.len() as u32;
        requests
    }

    /// Returns whether the state changed, as do the next two.
    pub fn disconnected(&mut self) -> bool {
        self.replies = 0;
        self.state != LockState::Released && self.set(LockState::Unknown)
    }

    pub fn replied(&mut self, locked: bool) -> bool {
        self.replies = self.replies.saturating_sub(1);
        if self.replies > 0 || self.wish == Wish::Nothing {
            return false;
        }
        // A lock stolen once is not stolen again after every reconnection.
        self.wish = Wish::Lock;
        self.set(if locked { LockState::Owned } else { LockState::Contended })
    }

    /// "locked" or "stolen" for the lock `name`.
    pub fn notified(&mut self, name: &str, locked: bool) -> bool {
        if self.name.as_deref() != Some(name) || self.wish == Wish::Nothing || self.replies > 0 {
            return false;
        }
        self.set(if locked { LockState::Owned } else { LockState::Contended })
    }

    /// A write failed for want of the lock.
    pub fn refused(&mut self) -> bool {
        self.state == LockState::Owned && self.set(LockState::Contended)
    }

    pub fn steal(&mut self, connected: bool) -> Requests {
        let queued = self.wish != Wish::Nothing;
        self.wish = Wish::Steal;
        match (connected, queued) {
            (true, true) => {
                self.replies += 1;
                &["unlock", "steal"]
            }
            (true, false) => {
                self.replies += 1;
                &["steal"]
            }
            (false, _) => &[],
        }
    }

    pub fn unlock(&mut self, connected: bool) -> Requests {
        let queued = self.wish != Wish::Nothing;
        self.wish = Wish::Nothing;
        self.set(LockState::Released);
        if connected && queued { &["unlock"] } else { &[] }
    }

    pub fn request(&mut self, connected: bool) -> Requests {
        if self.wish != Wish::Nothing {
            return &[];
        }
        self.wish = Wish::Lock;
        self.set(LockState::Unknown);
        if connected {
            self.replies += 1;
            &["lock"]
        } else {
            &[]
        }
    }

    fn set(&mut self, state: LockState) -> bool {
        let changed = self.state != state;
        self.state = state;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn life_of_a_lock() {
        let mut l = Lock::new(Some("x".into()));
        assert_eq!(l.connected(), ["lock"]);
        assert!(!l.permits_writing());
        assert!(l.replied(false));
        assert_eq!(l.state(), LockState::Contended);
        assert!(!l.notified("y", true));
        assert!(l.notified("x", true) && l.permits_writing());
        assert!(l.notified("x", false));
        assert_eq!(l.steal(true), ["unlock", "steal"]);
        assert!(!l.notified("x", false), "about the request before");
        assert!(l.replied(true));
        assert_eq!(l.unlock(true), ["unlock"]);
        assert_eq!(l.connected(), [""; 0]);
        assert_eq!(l.state(), LockState::Released);
        assert_eq!(l.request(true), ["lock"]);
        assert!(l.replied(true) && l.disconnected());
        assert_eq!(l.connected(), ["lock"]);
    }

    #[test]
    fn no_lock_needed() {
        let mut l = Lock::new(None);
        assert!(l.permits_writing() && l.connected().is_empty());
    }
}
