//! Time, as an argument.
//!
//! Everything above the PMD loop asks a [`Clock`] instead of the system, so that `time/stop` and
//! `time/warp` can drive the whole switch in tests. A stopped clock moves only by [`Clock::warp`].

#![forbid(unsafe_code)]

mod warp;

pub use warp::{InvalidWarp, Warp};

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// What a clock shows when it is made. Far from zero, so that it can tell moments before: state that a
/// former process left behind is older than this one's clock.
pub const BEGIN: Duration = Duration::from_secs(1_000_000_000);

/// A monotonic clock that can be stopped and moved by hand. Cheap to clone; clones share the time.
#[derive(Clone, Debug)]
pub struct Clock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    start: Instant,
    /// Time warped forward so far, and the moment of the stop if stopped.
    state: Mutex<State>,
    moved: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    warped: Duration,
    stopped_at: Option<Duration>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    pub fn new() -> Self {
        Clock {
            inner: Arc::new(Inner {
                start: Instant::now(),
                state: Mutex::default(),
                moved: watch::channel(0).0,
            }),
        }
    }

    /// Time since this clock was made, plus [`BEGIN`].
    pub fn now(&self) -> Duration {
        let state = self.inner.state.lock();
        BEGIN + state.stopped_at.unwrap_or_else(|| self.inner.start.elapsed()) + state.warped
    }

    /// [`Clock::now`] in milliseconds: the unit of timers in the control plane.
    pub fn now_ms(&self) -> u64 {
        self.now().as_millis() as u64
    }

    /// Wall-clock time in milliseconds since the epoch, negative before it. As in Open vSwitch, `time/stop` and
    /// `time/warp` leave it alone: it is for people (log lines, the database), never for timers.
    pub fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        }
    }

    /// Stops the clock. It stays stopped.
    pub fn stop(&self) {
        let elapsed = self.inner.start.elapsed();
        self.inner.state.lock().stopped_at.get_or_insert(elapsed);
        self.inner.moved.send_modify(|n| *n += 1);
    }

    pub fn is_stopped(&self) -> bool {
        self.inner.state.lock().stopped_at.is_some()
    }

    /// Whether nobody has stopped or moved the clock so far.
    pub fn is_real(&self) -> bool {
        let state = self.inner.state.lock();
        state.stopped_at.is_none() && state.warped.is_zero()
    }

    /// Moves the clock forward, waking every sleeper whose time has come.
    pub fn warp(&self, by: Duration) {
        self.inner.state.lock().warped += by;
        self.inner.moved.send_modify(|n| *n += 1);
    }

    /// Waits until [`Clock::now_ms`] reaches `deadline_ms`.
    pub async fn sleep_until_ms(&self, deadline_ms: u64) {
        let mut moved = self.inner.moved.subscribe();
        loop {
            let now = self.now_ms();
            if now >= deadline_ms {
                return;
            }
            if self.is_stopped() {
                let _ = moved.changed().await;
            } else {
                let nap = tokio::time::sleep(Duration::from_millis(deadline_ms - now));
                tokio::select! { _ = nap => {}, _ = moved.changed() => {} }
            }
        }
    }

    /// Waits until the clock is stopped or warped the next time.
    pub async fn moved(&self) {
        let _ = self.inner.moved.subscribe().changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopped_clock_moves_only_by_warp() {
        let c = Clock::new();
        assert!(c.is_real());
        c.stop();
        let t = c.now();
        std::thread::sleep(Duration::from_millis(3));
        assert_eq!(c.now(), t);
        c.warp(Duration::from_secs(5));
        assert_eq!(c.now(), t + Duration::from_secs(5));
        assert!(!c.is_real());
    }

    #[tokio::test]
    async fn sleepers_notice_a_stop() {
        let c = Clock::new();
        let deadline = c.now_ms() + 60;
        let sleeper = tokio::spawn({
            let c = c.clone();
            async move { c.sleep_until_ms(deadline).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        c.stop();
        tokio::time::sleep(Duration::from_millis(80)).await;
        assert!(!sleeper.is_finished(), "time stands still");
        c.warp(Duration::from_secs(1));
        sleeper.await.unwrap();
    }

    #[test]
    fn wall_time_is_not_warped() {
        let c = Clock::new();
        let before = c.wall_ms();
        c.warp(Duration::from_secs(100_000));
        assert!((0..60_000).contains(&(c.wall_ms() - before)));
    }
}
