//! When to connect, probe and hang up: the connection's life without the connection.
//!
//! The owner asks [`Reconnect::run`] what to do and reports what happened; all times are the owner's
//! clock in milliseconds. States and log lines are those of Open vSwitch, since operators see them in
//! `Controller.status` and in the log.
//!
//! ```text
//! VOID -> BACKOFF -> CONNECTING -> ACTIVE <-> IDLE
//!            ^------------+-----------+---------+   (RECONNECT: hang up at once)
//! ```

use std::fmt;
use tracing::{Level, debug, error, info, warn};

/// Least time a connection attempt or a back-off is given.
const MIN_MS: u32 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Disabled.
    Void,
    /// Waiting before the next attempt.
    Backoff,
    Connecting,
    /// Connected and heard from within the probe interval.
    Active,
    /// Connected; a probe is under way.
    Idle,
    /// Asked to hang up and start again.
    Reconnect,
    /// Passive, waiting for a peer.
    Listening,
}

impl State {
    /// The name shown in `Controller.status:state`.
    pub fn name(self) -> &'static str {
        match self {
            State::Void => "VOID",
            State::Backoff => "BACKOFF",
            State::Connecting => "CONNECTING",
            State::Active => "ACTIVE",
            State::Idle => "IDLE",
            State::Reconnect => "RECONNECT",
            State::Listening => "LISTENING",
        }
    }

    pub fn is_connected(self) -> bool {
        matches!(self, State::Active | State::Idle)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Under which module's name, and in whose words, events are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogModule {
    /// OVSDB connections: `reconnect`
    #[default]
    Reconnect,
    /// OpenFlow connections: `rconn`
    Rconn,
}

impl LogModule {
    fn log(self, level: Level, text: &str) {
        /// A target must be known when the program is compiled.
        macro_rules! log {
            ($target:literal) => {
                match level {
                    Level::ERROR => error!(target: $target, "{text}"),
                    Level::WARN => warn!(target: $target, "{text}"),
                    Level::INFO => info!(target: $target, "{text}"),
                    _ => debug!(target: $target, "{text}"),
                }
            };
        }
        match self {
            LogModule::Reconnect => log!("reconnect"),
            LogModule::Rconn => log!("rconn"),
        }
    }
}

/// What the owner must do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start an attempt, then report [`Reconnect::connecting`].
    Connect,
    /// Drop the connection or attempt, then report [`Reconnect::disconnected`].
    Disconnect,
    /// Send an echo request.
    Probe,
}

/// Times in milliseconds of the owner's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconnectStats {
    pub state: State,
    pub state_elapsed_ms: u64,
    pub backoff_ms: u32,
    pub since_connect_ms: Option<u64>,
    pub since_disconnect_ms: Option<u64>,
    pub total_connected_ms: u64,
    pub attempted_connections: u32,
    pub successful_connections: u32,
}

/// Back-off and inactivity state machine.
#[derive(Clone, Debug)]
pub struct Reconnect {
    name: String,
    min_backoff_ms: u32,
    max_backoff_ms: u32,
    probe_interval_ms: u32,
    passive: bool,
    quiet: bool,
    module: LogModule,
    state: State,
    entered_ms: u64,
    backoff_ms: u32,
    backoff_free_tries: u32,
    last_activity_ms: u64,
    last_connected_ms: Option<u64>,
    last_disconnected_ms: Option<u64>,
    total_connected_ms: u64,
    attempted: u32,
    successful: u32,
}

impl Reconnect {
    /// A disabled machine with back-off 1..8 s and probes after 5 s.
    pub fn new(name: impl Into<String>, now_ms: u64) -> Self {
        Reconnect {
            name: name.into(),
            min_backoff_ms: 1000,
            max_backoff_ms: 8000,
            probe_interval_ms: 5000,
            passive: false,
            quiet: false,
            module: LogModule::default(),
            state: State::Void,
            entered_ms: now_ms,
            backoff_ms: 0,
            backoff_free_tries: 0,
            last_activity_ms: now_ms,
            last_connected_ms: None,
            last_disconnected_ms: None,
            total_connected_ms: 0,
            attempted: 0,
            successful: 0,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn set_name(&mut self, name: impl Into<String>) {
        self.name = name.into();
    }

    /// Logs as another module, in its words.
    #[must_use]
    pub fn log_as(mut self, module: LogModule) -> Self {
        self.module = module;
        self
    }

    /// Logs ordinary events at debug level only.
    pub fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// Milliseconds; values under 1 s become 1 s, a maximum of 0 the default of 8 s.
    pub fn set_backoff(&mut self, min_ms: u32, max_ms: u32) {
        let max_ms = if max_ms == 0 { 8000 } else { max_ms };
        self.min_backoff_ms = min_ms.max(MIN_MS);
        self.max_backoff_ms = max_ms.max(self.min_backoff_ms);
        if self.state == State::Backoff {
            self.backoff_ms = self.backoff_ms.min(self.max_backoff_ms);
        }
    }

    pub fn max_backoff_ms(&self) -> u32 {
        self.max_backoff_ms
    }

    pub fn probe_interval_ms(&self) -> u32 {
        self.probe_interval_ms
    }

    /// Milliseconds, at least 1 s; 0 turns probes off.
    pub fn set_probe_interval(&mut self, ms: u32) {
        self.probe_interval_ms = if ms == 0 { 0 } else { ms.max(MIN_MS) };
    }

    /// A passive owner listens instead of connecting.
    pub fn set_passive(&mut self, passive: bool, now_ms: u64) {
        if self.passive == passive {
            return;
        }
        self.passive = passive;
        let stale = if passive {
            matches!(self.state, State::Connecting | State::Reconnect)
        } else {
            self.state == State::Listening
        };
        if stale {
            self.enter(State::Backoff, now_ms);
            self.backoff_ms = 0;
        }
    }

    /// The next `tries` failures are followed by an attempt at once: one for each further remote.
    pub fn set_backoff_free_tries(&mut self, tries: u32) {
        self.backoff_free_tries = tries;
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn is_enabled(&self) -> bool {
        self.state != State::Void
    }

    pub fn is_connected(&self) -> bool {
        self.state.is_connected()
    }

    pub fn enable(&mut self, now_ms: u64) {
        if self.state == State::Void {
            self.enter(State::Backoff, now_ms);
            self.backoff_ms = 0;
        }
    }

    pub fn disable(&mut self, now_ms: u64) {
        if self.state != State::Void {
            self.enter(State::Void, now_ms);
        }
    }

    /// Drops a present connection or attempt and starts again.
    pub fn force_reconnect(&mut self, now_ms: u64) {
        if self.is_connected() || self.state == State::Connecting {
            self.enter(State::Reconnect, now_ms);
        }
    }

    /// Ends a running back-off now.
    pub fn skip_backoff(&mut self) {
        if self.state == State::Backoff {
            self.backoff_ms = 0;
        }
    }

    pub fn connecting(&mut self, now_ms: u64) {
        if self.state != State::Connecting {
            if self.passive {
                self.note("listening...");
            } else if self.backoff_ms < self.max_backoff_ms {
                self.note("connecting...");
            }
            self.enter(State::Connecting, now_ms);
        }
    }

    pub fn listening(&mut self, now_ms: u64) {
        if self.state != State::Listening {
            self.note("listening...");
            self.enter(State::Listening, now_ms);
        }
    }

    pub fn connected(&mut self, now_ms: u64) {
        if !self.is_connected() {
            self.connecting(now_ms);
            self.note("connected");
            self.enter(State::Active, now_ms);
            self.last_connected_ms = Some(now_ms);
        }
    }

    /// The attempt failed. `error` as in [`Reconnect::disconnected`].
    pub fn connect_failed(&mut self, now_ms: u64, error: Option<&str>) {
        self.connecting(now_ms);
        self.disconnected(now_ms, error);
    }

    /// Something was received.
    pub fn activity(&mut self, now_ms: u64) {
        if self.state == State::Idle {
            self.enter(State::Active, now_ms);
        }
        self.last_activity_ms = now_ms;
    }

    /// The connection or attempt ended: `error` is its text, `None` an orderly close or a time-out.
    pub fn disconnected(&mut self, now_ms: u64, error: Option<&str>) {
        if matches!(self.state, State::Backoff | State::Void) {
            return;
        }
        self.log_disconnect(error);
        if self.is_connected() {
            self.last_disconnected_ms = Some(now_ms);
        }
        self.backoff_ms = self.next_backoff();
        self.enter(State::Backoff, now_ms);
    }

    /// A connection that lasted longer than the back-off earns the shortest one; failures double it.
    fn next_backoff(&mut self) -> u32 {
        let lasted = self.last_activity_ms.saturating_sub(self.last_connected_ms.unwrap_or(0));
        let worked = self.is_connected() && (self.passive || lasted >= u64::from(self.backoff_ms));
        if self.backoff_free_tries > 1 {
            self.backoff_free_tries -= 1;
            return 0;
        }
        if worked {
            return if self.passive { 0 } else { self.min_backoff_ms };
        }
        if self.backoff_ms < self.min_backoff_ms {
            return self.min_backoff_ms;
        }
        if self.backoff_ms < self.max_backoff_ms / 2 {
            let next = self.backoff_ms * 2;
            let verb = if self.passive { "trying to listen again" } else { "reconnect" };
            self.note(&format!("waiting {} seconds before {verb}", f64::from(next) / 1000.0));
            return next;
        }
        if self.backoff_ms < self.max_backoff_ms {
            let verb = match (self.module, self.passive) {
                (_, true) => "try to listen",
                (LogModule::Reconnect, false) => "reconnect",
                (LogModule::Rconn, false) => "retry connections",
            };
            let text = format!("continuing to {verb} in the background but suppressing further logging");
            self.log(Level::INFO, &text);
        }
        self.max_backoff_ms
    }

    fn log_disconnect(&self, error: Option<&str>) {
        let attempt = match (self.module, self.passive) {
            (_, true) => "listen attempt",
            (LogModule::Reconnect, false) => "connection attempt",
            (LogModule::Rconn, false) => "connection",
        };
        match (self.state, error) {
            (State::Active | State::Idle, Some(e)) => {
                self.log(Level::WARN, &format!("connection dropped ({e})"));
            }
            (State::Active | State::Idle, None) => self.note("connection closed by peer"),
            (State::Listening, Some(e)) => {
                self.log(Level::WARN, &format!("error listening for connections ({e})"));
            }
            (State::Listening, None) => self.note("error listening for connections"),
            // At the longest back-off the log would only repeat itself.
            _ if self.backoff_ms >= self.max_backoff_ms => {}
            (_, Some(e)) => self.log(Level::INFO, &format!("{attempt} failed ({e})")),
            (_, None) => self.note(&format!("{attempt} timed out")),
        }
    }

    fn note(&self, text: &str) {
        self.log(if self.quiet { Level::DEBUG } else { Level::INFO }, text);
    }

    fn log(&self, level: Level, text: &str) {
        self.module.log(level, &format!("{}: {text}", self.name));
    }

    fn enter(&mut self, state: State, now_ms: u64) {
        if self.state == State::Connecting {
            self.attempted = self.attempted.wrapping_add(1);
            if state == State::Active {
                self.successful = self.successful.wrapping_add(1);
            }
        }
        if self.is_connected() && !state.is_connected() {
            self.total_connected_ms += now_ms.saturating_sub(self.last_connected_ms.unwrap_or(now_ms));
        }
        self.log(Level::DEBUG, &format!("entering {state}"));
        self.state = state;
        self.entered_ms = now_ms;
    }

    /// When [`Reconnect::run`] wants to be called next; `None`: only after a report.
    pub fn deadline_ms(&self) -> Option<u64> {
        let probe = u64::from(self.probe_interval_ms);
        match self.state {
            State::Void | State::Listening => None,
            State::Backoff => Some(self.entered_ms + u64::from(self.backoff_ms)),
            State::Connecting => Some(self.entered_ms + u64::from(self.backoff_ms.max(MIN_MS))),
            State::Active | State::Idle if probe == 0 => None,
            State::Active => Some(self.last_activity_ms.max(self.entered_ms) + probe),
            State::Idle => Some(self.entered_ms + probe),
            State::Reconnect => Some(self.entered_ms),
        }
    }

    /// What to do at `now_ms`, if anything. Report all received data with [`Reconnect::activity`] first.
    pub fn run(&mut self, now_ms: u64) -> Option<Action> {
        if now_ms < self.deadline_ms()? {
            return None;
        }
        match self.state {
            State::Void | State::Listening => None,
            State::Backoff => Some(Action::Connect),
            State::Connecting | State::Reconnect => Some(Action::Disconnect),
            State::Active => {
                self.enter(State::Idle, now_ms);
                Some(Action::Probe)
            }
            State::Idle => {
                let waited = now_ms.saturating_sub(self.entered_ms) as f64 / 1000.0;
                let text = format!("no response to inactivity probe after {waited} seconds, disconnecting");
                self.log(Level::ERROR, &text);
                Some(Action::Disconnect)
            }
        }
    }

    pub fn stats(&self, now_ms: u64) -> ReconnectStats {
        let since = |t: Option<u64>| t.map(|t| now_ms.saturating_sub(t));
        let present = if self.is_connected() { since(self.last_connected_ms).unwrap_or(0) } else { 0 };
        ReconnectStats {
            state: self.state,
            state_elapsed_ms: now_ms.saturating_sub(self.entered_ms),
            backoff_ms: self.backoff_ms,
            since_connect_ms: since(self.last_connected_ms),
            since_disconnect_ms: since(self.last_disconnected_ms),
            total_connected_ms: self.total_connected_ms + present,
            attempted_connections: self.attempted,
            successful_connections: self.successful,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails every attempt and returns the waits between them, in seconds.
    fn waits(r: &mut Reconnect, now: &mut u64, n: usize) -> Vec<u64> {
        (0..n)
            .map(|_| {
                let start = *now;
                *now = r.deadline_ms().unwrap();
                assert_eq!(r.run(*now), Some(Action::Connect));
                r.connecting(*now);
                r.connect_failed(*now, Some("Connection refused"));
                (*now - start) / 1000
            })
            .collect()
    }

    #[test]
    fn backoff_doubles_to_the_maximum() {
        let (mut r, mut now) = (Reconnect::new("x", 0), 0);
        r.enable(0);
        assert_eq!(waits(&mut r, &mut now, 6), [0, 1, 2, 4, 8, 8]);
    }

    #[test]
    fn further_remotes_are_tried_at_once() {
        let (mut r, mut now) = (Reconnect::new("x", 0), 0);
        r.set_backoff_free_tries(3);
        r.enable(0);
        assert_eq!(waits(&mut r, &mut now, 5), [0, 0, 0, 1, 2]);
    }

    #[test]
    fn probe_then_disconnect() {
        let mut r = Reconnect::new("x", 0);
        r.enable(0);
        r.connected(10);
        r.activity(20);
        assert_eq!(r.run(5019), None);
        assert_eq!(r.run(5020), Some(Action::Probe));
        assert_eq!(r.state(), State::Idle);
        r.activity(6000);
        assert_eq!(r.state(), State::Active);
        assert_eq!(r.run(11_000), Some(Action::Probe));
        assert_eq!(r.run(16_000), Some(Action::Disconnect));
        r.disconnected(16_000, None);
        let s = r.stats(17_000);
        assert_eq!((s.state, s.backoff_ms, s.total_connected_ms), (State::Backoff, 1000, 15_990));
        assert_eq!((s.attempted_connections, s.successful_connections), (1, 1));
    }

    #[test]
    fn attempt_times_out_and_force_reconnect_hangs_up() {
        let mut r = Reconnect::new("x", 0);
        r.enable(0);
        r.connecting(0);
        assert_eq!(r.run(999), None);
        assert_eq!(r.run(1000), Some(Action::Disconnect));
        r.disconnected(1000, None);
        r.connected(2000);
        r.force_reconnect(2500);
        assert_eq!(r.run(2500), Some(Action::Disconnect));
    }
}
