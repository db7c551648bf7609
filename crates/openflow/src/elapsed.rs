//! How long something has existed, as messages have it.

/// A time in seconds and nanoseconds. Where a message or a peer does not know it, it is `None`, which
/// travels as all ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Elapsed {
    /// Whole seconds.
    pub sec: u32,
    /// Nanoseconds on top.
    pub nsec: u32,
}

impl Elapsed {
    pub(crate) fn from_wire(sec: u32, nsec: u32) -> Option<Self> {
        if sec == u32::MAX { None } else { Some(Self { sec, nsec }) }
    }

    pub(crate) fn to_wire(this: Option<Self>) -> (u32, u32) {
        this.map_or((u32::MAX, u32::MAX), |e| (e.sec, e.nsec))
    }
}

impl From<std::time::Duration> for Elapsed {
    fn from(d: std::time::Duration) -> Self {
        Self { sec: u32::try_from(d.as_secs()).unwrap_or(u32::MAX - 1), nsec: d.subsec_nanos() }
    }
}

impl From<Elapsed> for std::time::Duration {
    fn from(e: Elapsed) -> Self {
        Self::new(e.sec.into(), e.nsec)
    }
}
