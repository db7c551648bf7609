//! Turns that took too long, or found a guest's queue too full, are logged with those around them.

use super::history::HISTORY;
use super::{Perf, Turns, text};
use std::fmt::{self, Display, Formatter};
use tracing::warn;

const TARGET: &str = "pmd_perf";
/// Turns before and after a suspicious one that are logged by default.
const AROUND: usize = 5;
/// The longest that both may be together.
const AROUND_MAX: usize = HISTORY - 2;
/// After so many turns in one log the defaults return, lest the log itself is what is suspicious.
const MANY: usize = 100;

/// `dpif-netdev/pmd-perf-log-set`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Supervision {
    pub is_on: bool,
    /// Turns to log before and after a suspicious one.
    pub before: usize,
    pub after: usize,
    /// Another one prolongs the log.
    pub extends: bool,
    /// Microseconds that a turn may last.
    pub us: u32,
    /// Frames that may wait in a guest's queue, this many not included.
    pub fill: u32,
}

impl Default for Supervision {
    fn default() -> Self {
        Supervision { is_on: false, before: AROUND, after: AROUND, extends: false, us: 250, fill: 128 }
    }
}

impl Display for Supervision {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Supervision { is_on, before, after, extends, us, fill } = self;
        let on = if *is_on { "on" } else { "off" };
        write!(f, "{on}, before={before}, after={after}, extend={extends}, us_thr={us}, q_thr={fill}")
    }
}

impl Supervision {
    /// Changes what `args` of the command name; `None` for what it does not know.
    pub fn with(mut self, args: &[&str]) -> Option<Self> {
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || args.next().and_then(|n| n.parse::<u32>().ok());
            match *arg {
                "on" => self.is_on = true,
                "off" => self.is_on = false,
                "-e" => self.extends = true,
                "-ne" => self.extends = false,
                "-a" => self.after = (number()? as usize).min(AROUND_MAX),
                "-b" => self.before = (number()? as usize).min(AROUND_MAX),
                "-q" => self.fill = number()?,
                "-us" => self.us = number()?,
                _ => return None,
            }
        }
        self.after = self.after.min(AROUND_MAX - self.before);
        Some(self)
    }
}

/// A suspicious turn that waits for those after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    turn: Turns,
    reason: &'static str,
    /// The turns that the log begins and ends with.
    from: u64,
    to: u64,
}

impl Suspect {
    fn log(&self, hz: f64) {
        let us = (self.turn.cycles as f64 / hz * 1e6) as u64;
        warn!(target: TARGET, "Suspicious iteration ({}): iter={} duration={us} us", self.reason, self.turn.id);
    }
}

impl Perf {
    pub(super) fn look_for_suspects(&mut self, turn: &Turns) {
        if !self.supervision.is_on {
            return;
        }
        let hz = crate::watch::hz();
        let is_long = turn.cycles as f64 > f64::from(self.supervision.us) / 1e6 * hz;
        if is_long {
            self.suspect(turn, "Excessive total cycles", hz);
        } else if turn.fill >= u64::from(self.supervision.fill) {
            self.suspect(turn, "Vhost RX queue full", hz);
        }
        if let Some(suspect) = self.suspect.filter(|s| turn.id >= s.to) {
            self.log_around(&suspect, hz);
        }
    }

    fn suspect(&mut self, turn: &Turns, reason: &'static str, hz: f64) {
        let first = turn.id.saturating_sub(self.supervision.before as u64);
        let to = turn.id + self.supervision.after as u64;
        let new = Suspect { turn: *turn, reason, from: first, to };
        self.suspect = match self.suspect {
            None => Some(new),
            Some(old) if self.supervision.extends => {
                old.log(hz);
                // The log ends where its first turn would be forgotten.
                let to = to.min(old.from + HISTORY as u64 - 1).max(turn.id);
                Some(Suspect { from: old.from, to, ..new })
            }
            old => old,
        };
    }

    fn log_around(&mut self, suspect: &Suspect, hz: f64) {
        suspect.log(hz);
        let range = (suspect.to - suspect.from) as usize + 1;
        warn!(target: TARGET, "Neighborhood of suspicious iteration:\n{}", text::turns(&self.turns, range));
        self.suspect = None;
        if range > MANY {
            self.supervision =
                Supervision { extends: false, before: AROUND, after: AROUND, ..self.supervision };
        }
    }
}
