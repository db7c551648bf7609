//! Rate limits of single log statements.

use crate::level::Level;
use crate::log::Vlog;
use parking_lot::Mutex;

/// Tokens of one message; a bucket gains its rate in tokens per millisecond.
const TOKENS_PER_MESSAGE: u32 = 60_000;

/// A token bucket for one log statement, or for a few that belong together. Starts full. When messages pass again
/// after some were dropped, one line says how many.
#[derive(Debug)]
pub struct RateLimit {
    per_minute: u32,
    burst: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: u32,
    /// `None`: never filled, which means full.
    filled_ms: Option<u64>,
    dropped: u32,
    first_dropped_s: u64,
    last_dropped_s: u64,
}

/// What a limit says of one message.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Drop,
    Pass,
    /// Pass, and tell: messages dropped, seconds since the first and the last of them.
    PassAfter(u32, u64, u64),
}

impl RateLimit {
    /// At most `per_minute` messages a minute on average and `burst` at once.
    pub const fn new(per_minute: u32, burst: u32) -> Self {
        let state = State { tokens: 0, filled_ms: None, dropped: 0, first_dropped_s: 0, last_dropped_s: 0 };
        RateLimit { per_minute, burst: burst.saturating_mul(TOKENS_PER_MESSAGE), state: Mutex::new(state) }
    }

    fn admit(&self, now_ms: u64) -> Verdict {
        let mut state = self.state.lock();
        let now_s = now_ms / 1000;
        if !self.withdraw(&mut state, now_ms) {
            if state.dropped == 0 {
                state.first_dropped_s = now_s;
            }
            state.last_dropped_s = now_s;
            state.dropped = state.dropped.saturating_add(1);
            return Verdict::Drop;
        }
        match std::mem::take(&mut state.dropped) {
            0 => Verdict::Pass,
            n => {
                let ago = |then| now_s.saturating_sub(then);
                Verdict::PassAfter(n, ago(state.first_dropped_s), ago(state.last_dropped_s))
            }
        }
    }

    fn withdraw(&self, state: &mut State, now_ms: u64) -> bool {
        if state.tokens < TOKENS_PER_MESSAGE {
            let gained = match state.filled_ms {
                None => self.burst,
                Some(then) => {
                    let elapsed = u32::try_from(now_ms.saturating_sub(then)).unwrap_or(u32::MAX);
                    self.per_minute.saturating_mul(elapsed)
                }
            };
            state.tokens = state.tokens.saturating_add(gained).min(self.burst);
            state.filled_ms = Some(now_ms);
        }
        let rest = state.tokens.checked_sub(TOKENS_PER_MESSAGE);
        state.tokens = rest.unwrap_or(state.tokens);
        rest.is_some()
    }
}

impl Vlog {
    /// Whether a message under this limit is to be logged now. If earlier ones were dropped, says so in the log
    /// first. The macros [`err_rl!`](crate::err_rl) to [`dbg_rl!`](crate::dbg_rl) ask this.
    pub fn admit(&self, module: &str, level: Level, limit: &RateLimit) -> bool {
        if !self.rate_limited(module) {
            return true;
        }
        if !self.enabled(module, level) {
            return false;
        }
        match limit.admit(self.now_ms()) {
            Verdict::Drop => false,
            Verdict::Pass => true,
            Verdict::PassAfter(n, first, last) => {
                let text = format!(
                    "Dropped {n} log messages in last {first} seconds (most recently, {last} seconds ago) due to \
                     excessive rate"
                );
                self.log(module, level, &text);
                true
            }
        }
    }
}

/// `err_rl!("module", LIMIT, "format", ...)`: logs an error unless `LIMIT` (a [`RateLimit`]) is exhausted.
#[macro_export]
macro_rules! err_rl {
    ($module:literal, $limit:expr, $($arg:tt)+) => {
        if $crate::Vlog::global().admit($module, $crate::Level::Err, &$limit) {
            $crate::tracing::error!(target: $module, $($arg)+);
        }
    };
}

/// Like [`err_rl!`](crate::err_rl), a warning.
#[macro_export]
macro_rules! warn_rl {
    ($module:literal, $limit:expr, $($arg:tt)+) => {
        if $crate::Vlog::global().admit($module, $crate::Level::Warn, &$limit) {
            $crate::tracing::warn!(target: $module, $($arg)+);
        }
    };
}

/// Like [`err_rl!`](crate::err_rl), for information.
#[macro_export]
macro_rules! info_rl {
    ($module:literal, $limit:expr, $($arg:tt)+) => {
        if $crate::Vlog::global().admit($module, $crate::Level::Info, &$limit) {
            $crate::tracing::info!(target: $module, $($arg)+);
        }
    };
}

/// Like [`err_rl!`](crate::err_rl), for debugging.
#[macro_export]
macro_rules! dbg_rl {
    ($module:literal, $limit:expr, $($arg:tt)+) => {
        if $crate::Vlog::global().admit($module, $crate::Level::Dbg, &$limit) {
            $crate::tracing::debug!(target: $module, $($arg)+);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let limit = RateLimit::new(5, 3);
        let passed = (0..10).filter(|_| limit.admit(1000) == Verdict::Pass).count();
        assert_eq!(passed, 3);
        assert_eq!(limit.admit(5_000), Verdict::Drop);
        // Five a minute: a token's worth every twelve seconds.
        assert_eq!(limit.admit(13_000), Verdict::PassAfter(8, 12, 8));
        assert_eq!(limit.admit(13_001), Verdict::Drop);
        assert_eq!(limit.admit(10_000_000), Verdict::PassAfter(1, 9987, 9987));
        assert_eq!(limit.admit(10_000_000), Verdict::Pass);
    }

    #[test]
    fn disabled_limits_pass_everything() {
        let vlog = Vlog::new();
        vlog.set("console:off").unwrap();
        vlog.set("syslog:off").unwrap();
        vlog.set("dpif:console:info").unwrap();
        let limit = RateLimit::new(1, 1);
        assert!(!vlog.admit("bridge", Level::Info, &limit), "nothing would be logged");
        assert!(vlog.admit("dpif", Level::Info, &limit));
        assert!(!vlog.admit("dpif", Level::Info, &limit));
        vlog.set_rate_limits(&["dpif"], false).unwrap();
        assert!(vlog.admit("dpif", Level::Info, &limit));
        vlog.set_rate_limits(&["any"], true).unwrap();
        assert!(!vlog.admit("dpif", Level::Info, &limit));
    }
}
