//! One BFD session (RFC 5880, section 6.8): bytes and time come in as arguments.

use super::settings::Settings;
use super::wire::{self, Addresses, Diagnostic, Flags, Message, State};
use flow::EthAddr;
use serde::{Deserialize, Serialize};

/// A session that is not up sends no faster (RFC 5880, section 6.8.3), in milliseconds.
const SLOW_TX_MS: u64 = 1_000;
/// Decay and reception of data are judged over no less than this, in milliseconds.
const JUDGE_MS: u64 = 2_000;
/// Control packets must come at least once in so many intervals while data keeps a session's port forwarding.
const DATA_INTERVALS: u64 = 100;

/// An order of the operator that stands above the session's own judgement (`bfd/set-forwarding`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Override {
    #[default]
    None,
    Forwarding(bool),
}

/// What the other side last said. Intervals in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Remote {
    pub state: State,
    pub diagnostic: Diagnostic,
    pub flags: Flags,
    pub discriminator: u32,
    pub min_rx_ms: u64,
    pub min_tx_ms: u64,
    pub multiplier: u8,
}

impl Remote {
    /// Nothing is known of it. The multiplier stays, as nobody asks for it before the next message.
    fn unknown(multiplier: u8) -> Self {
        Remote { state: State::Down, min_rx_ms: 1, multiplier, ..Remote::default() }
    }
}

/// Intervals being negotiated by a poll sequence, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Intervals {
    tx_ms: u64,
    rx_ms: u64,
}

/// Slowing down reception while there is no data (`decay_min_rx`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Decay {
    is_on: bool,
    /// Control packets received since the last judgement.
    controls: u64,
    /// The port's counter then.
    rx_packets: u64,
    due_ms: u64,
}

/// A session. Moments are milliseconds of the clock.
#[derive(Debug)]
pub struct Session {
    pub name: String,
    pub settings: Settings,
    pub state: State,
    pub diagnostic: Diagnostic,
    pub flags: Flags,
    pub discriminator: u32,
    pub remote: Remote,
    pub flap_count: u64,
    /// In force.
    min_tx_ms: u64,
    pub min_rx_ms: u64,
    polled: Intervals,
    pub last_tx_ms: u64,
    /// 0 for at once.
    pub next_tx_ms: u64,
    /// When the other side counts as gone.
    pub detect_ms: u64,
    udp_src: u16,
    order: Override,
    was_forwarding: bool,
    /// Data came in until at least then.
    data_until_ms: u64,
    /// Without a control packet until then, data counts for nothing.
    control_due_ms: u64,
    decay: Decay,
    jitter: u32,
    changed: bool,
}

/// A session as the next process needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSession {
    pub name: String,
    pub state: State,
    pub diagnostic: Diagnostic,
    pub discriminator: u32,
    pub remote_state: State,
    pub remote_diagnostic: Diagnostic,
    pub remote_discriminator: u32,
    pub remote_min_rx_ms: u64,
    pub remote_min_tx_ms: u64,
    pub remote_multiplier: u8,
    pub min_tx_ms: u64,
    pub min_rx_ms: u64,
    pub udp_src: u16,
    pub flap_count: u64,
    /// From the moment of saving.
    pub detect_in_ms: u64,
}

impl Session {
    /// A session that is down. `seed` makes discriminator, source port and jitter differ from others'.
    pub fn new(name: &str, settings: Settings, seed: u64) -> Self {
        let (min_tx_ms, min_rx_ms) = (settings.min_tx_ms, settings.min_rx_ms);
        let diagnostic =
            if settings.cpath_down { Diagnostic::CONCATENATED_PATH_DOWN } else { Diagnostic::NONE };
        Session {
            name: name.to_owned(),
            settings,
            state: State::Down,
            diagnostic,
            flags: Flags::empty(),
            discriminator: (seed as u32).max(1),
            remote: Remote::unknown(0),
            flap_count: 0,
            min_tx_ms,
            min_rx_ms,
            polled: Intervals::default(),
            last_tx_ms: 0,
            next_tx_ms: 0,
            detect_ms: 0,
            // RFC 5881, section 4: 49152 to 65535.
            udp_src: 49_152 + (seed >> 32) as u16 % 16_384,
            order: Override::None,
            was_forwarding: false,
            data_until_ms: 0,
            control_due_ms: 0,
            decay: Decay::default(),
            jitter: (seed >> 16) as u32 | 1,
            changed: true,
        }
    }

    /// Takes over other settings. `rx_packets` is the port's counter.
    pub fn configure(&mut self, new: Settings, now_ms: u64, rx_packets: u64) {
        let old = std::mem::replace(&mut self.settings, new);
        let new = &self.settings;
        let (tx_differs, rx_differs) = (old.min_tx_ms != new.min_tx_ms, old.min_rx_ms != new.min_rx_ms);
        // Sending slower and listening for less waits until the other side agrees.
        let at_once = self.state != State::Up;
        let free = !self.in_poll();
        if tx_differs && (at_once || free && new.min_tx_ms < self.min_tx_ms) {
            self.min_tx_ms = new.min_tx_ms;
        }
        if rx_differs && (at_once || free && new.min_rx_ms > self.min_rx_ms) {
            self.min_rx_ms = new.min_rx_ms;
        }
        let decay_differs = old.decay_min_rx_ms != new.decay_min_rx_ms || rx_differs;
        let cpath_differs = old.cpath_down != new.cpath_down;
        let data_differs = old.forwarding_if_rx != new.forwarding_if_rx || old.multiplier != new.multiplier;
        let on_data = new.forwarding_if_rx && self.state == State::Up;
        if decay_differs {
            self.restart_decay(false, now_ms, rx_packets);
        }
        if cpath_differs {
            self.set_state(self.state, Diagnostic::NONE, now_ms, rx_packets);
        }
        if data_differs {
            self.data_until_ms = if on_data { self.data_deadline(now_ms) } else { 0 };
        }
        if tx_differs || rx_differs || decay_differs || cpath_differs {
            self.poll();
        }
    }

    /// Does what time asks for.
    pub fn run(&mut self, now_ms: u64, rx_packets: u64) {
        if self.state > State::Down && now_ms >= self.detect_ms {
            self.set_state(State::Down, Diagnostic::EXPIRED, now_ms, rx_packets);
        }
        self.judge(now_ms);
        let decayed = self.decay.is_on;
        let may_decay = self.state == State::Up && self.settings.decay_min_rx_ms > 0;
        if may_decay && now_ms >= self.decay.due_ms {
            // Counters lag behind: twice as many as the control packets still count as silence.
            let data = rx_packets.saturating_sub(self.decay.rx_packets);
            let is_silent = data <= 2 * self.decay.controls.max(1);
            self.restart_decay(is_silent, now_ms, rx_packets);
        }
        let settled = self.min_tx_ms == self.settings.min_tx_ms
            && (self.min_rx_ms == self.settings.min_rx_ms || self.min_rx_ms == self.settings.decay_min_rx_ms)
            && self.decay.is_on == decayed;
        if !settled {
            self.poll();
        }
    }

    /// When [`Session::run`] and [`Session::transmit`] are due.
    pub fn due_ms(&self) -> u64 {
        if self.flags.contains(Flags::FINAL) {
            return 0;
        }
        let detect_ms = if self.state > State::Down { self.detect_ms } else { u64::MAX };
        self.next_tx_ms.min(detect_ms)
    }

    /// The frame to send now, if one is due. `port` is the port's own address.
    pub fn transmit(&mut self, now_ms: u64, port: EthAddr) -> Option<Vec<u8>> {
        if !self.flags.contains(Flags::FINAL) && now_ms < self.next_tx_ms {
            return None;
        }
        let interval = self.tx_interval_ms();
        let late_ms = now_ms.saturating_sub(self.next_tx_ms);
        if self.next_tx_ms != 0 && late_ms > interval * 3 / 2 {
            let name = &self.name;
            let what =
                format!("long delay of {late_ms}ms (expected {interval}ms) sending BFD control message");
            tracing::info!(target: "bfd", "{name}: {what}");
        }
        let intervals = if self.in_poll() {
            self.polled
        } else {
            Intervals { tx_ms: self.slow_or_min_tx_ms(), rx_ms: self.min_rx_ms }
        };
        let us = |ms: u64| u32::try_from(ms * 1000).unwrap_or(u32::MAX);
        let message = Message {
            diagnostic: self.diagnostic,
            state: self.state,
            flags: self.flags,
            multiplier: self.settings.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            min_tx_us: us(intervals.tx_ms),
            min_rx_us: us(intervals.rx_ms),
        };
        self.flags -= Flags::FINAL;
        self.last_tx_ms = now_ms;
        self.set_next_tx();
        let addresses = Addresses {
            eth_src: self.settings.local_src_mac.unwrap_or(port),
            eth_dst: self.settings.local_dst_mac.unwrap_or(wire::DESTINATION),
            ip_src: self.settings.ip_src,
            ip_dst: self.settings.ip_dst,
            udp_src: self.udp_src,
        };
        Some(wire::frame(&addresses, &message))
    }

    /// Takes in the UDP payload of a packet for this session.
    pub fn receive(&mut self, payload: &[u8], ttl: u8, now_ms: u64, rx_packets: u64) {
        self.decay.controls += 1;
        self.judge(now_ms);
        // Only a direct neighbour can send 255 (RFC 5881, section 5).
        if ttl == 255 {
            match Message::decode(payload) {
                Ok(m) if m.your_discriminator != 0 && m.your_discriminator != self.discriminator => {
                    tracing::warn!(target: "bfd", "{}: Incorrect your_disc.", self.name);
                }
                Ok(message) => self.accept(&message, now_ms, rx_packets),
                Err(why) => tracing::warn!(target: "bfd", "{}: {why}.", self.name),
            }
        }
        self.judge(now_ms);
    }

    fn accept(&mut self, m: &Message, now_ms: u64, rx_packets: u64) {
        self.changed |= self.remote.state != m.state;
        if m.flags.contains(Flags::FINAL) && self.in_poll() {
            (self.min_tx_ms, self.min_rx_ms) = (self.polled.tx_ms, self.polled.rx_ms);
            self.flags -= Flags::POLL;
            tracing::info!(target: "bfd", "{}: Poll sequence terminated.", self.name);
        }
        if m.flags.contains(Flags::POLL) {
            self.flags -= Flags::POLL;
            self.flags |= Flags::FINAL;
        }
        if self.remote.multiplier != m.multiplier {
            let (name, old, new) = (&self.name, self.remote.multiplier, m.multiplier);
            tracing::info!(target: "bfd", "Interface {name} remote mult value {old} changed to {new}");
        }
        let ms = |us: u32| u64::from(us / 1000).max(1);
        let rx_differs = self.remote.min_rx_ms != ms(m.min_rx_us);
        self.remote = Remote {
            state: m.state,
            diagnostic: m.diagnostic,
            flags: m.flags,
            discriminator: m.my_discriminator,
            min_rx_ms: ms(m.min_rx_us),
            min_tx_ms: ms(m.min_tx_us),
            multiplier: m.multiplier,
        };
        if rx_differs && self.next_tx_ms != 0 {
            self.set_next_tx();
        }
        self.detect_ms = now_ms + self.rx_interval_ms() * u64::from(m.multiplier);
        let (state, diagnostic) = match (self.state, m.state) {
            (State::AdminDown, _) => return,
            (State::Down, State::AdminDown) => (State::Down, self.diagnostic),
            (_, State::AdminDown) | (State::Up, State::Down) => (State::Down, Diagnostic::REMOTE_DOWN),
            (State::Down, State::Down) => (State::Init, self.diagnostic),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                (State::Up, self.diagnostic)
            }
            (same, _) => (same, self.diagnostic),
        };
        self.set_state(state, diagnostic, now_ms, rx_packets);
        if self.settings.forwarding_if_rx {
            self.control_due_ms = now_ms + DATA_INTERVALS * self.settings.min_rx_ms;
        }
    }

    /// Packets of others came in through the port.
    pub fn saw_data(&mut self, now_ms: u64) {
        if self.settings.forwarding_if_rx {
            self.judge(now_ms);
            self.data_until_ms = self.data_deadline(now_ms);
            self.judge(now_ms);
        }
    }

    /// Lets an operator decide.
    pub fn set_override(&mut self, order: Override) {
        self.order = order;
        self.changed = true;
    }

    /// Whether the port may be used.
    pub fn is_forwarding(&self, now_ms: u64) -> bool {
        match self.order {
            Override::Forwarding(is) => is,
            Override::None => self.deserves_forwarding(now_ms),
        }
    }

    fn deserves_forwarding(&self, now_ms: u64) -> bool {
        let on_data =
            self.settings.forwarding_if_rx && self.data_until_ms > now_ms && self.control_due_ms > now_ms;
        (self.state == State::Up || on_data) && !self.remote.diagnostic.is_path_down()
    }

    /// As [`Session::is_forwarding`]; counts flaps.
    pub fn judge(&mut self, now_ms: u64) -> bool {
        if let Override::Forwarding(is) = self.order {
            return is;
        }
        let is = self.deserves_forwarding(now_ms);
        if std::mem::replace(&mut self.was_forwarding, is) != is {
            self.flap_count += 1;
            self.changed = true;
        }
        is
    }

    /// Whether anything that the database shows has changed since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub fn save(&self, now_ms: u64) -> SavedSession {
        SavedSession {
            name: self.name.clone(),
            state: self.state,
            diagnostic: self.diagnostic,
            discriminator: self.discriminator,
            remote_state: self.remote.state,
            remote_diagnostic: self.remote.diagnostic,
            remote_discriminator: self.remote.discriminator,
            remote_min_rx_ms: self.remote.min_rx_ms,
            remote_min_tx_ms: self.remote.min_tx_ms,
            remote_multiplier: self.remote.multiplier,
            min_tx_ms: self.min_tx_ms,
            min_rx_ms: self.min_rx_ms,
            udp_src: self.udp_src,
            flap_count: self.flap_count,
            detect_in_ms: self.detect_ms.saturating_sub(now_ms),
        }
    }

    /// Goes on where a former process's session was.
    pub fn restore(&mut self, saved: &SavedSession, now_ms: u64) {
        self.state = saved.state;
        self.diagnostic = saved.diagnostic;
        self.discriminator = saved.discriminator.max(1);
        self.remote = Remote {
            state: saved.remote_state,
            diagnostic: saved.remote_diagnostic,
            flags: Flags::empty(),
            discriminator: saved.remote_discriminator,
            min_rx_ms: saved.remote_min_rx_ms,
            min_tx_ms: saved.remote_min_tx_ms,
            multiplier: saved.remote_multiplier,
        };
        (self.min_tx_ms, self.min_rx_ms) = (saved.min_tx_ms, saved.min_rx_ms);
        self.udp_src = saved.udp_src;
        self.flap_count = saved.flap_count;
        self.detect_ms = now_ms + saved.detect_in_ms;
        self.was_forwarding = self.state == State::Up;
        self.changed = true;
    }

    fn set_state(&mut self, state: State, diagnostic: Diagnostic, now_ms: u64, rx_packets: u64) {
        let diagnostic =
            if self.settings.cpath_down { Diagnostic::CONCATENATED_PATH_DOWN } else { diagnostic };
        if (self.state, self.diagnostic) == (state, diagnostic) {
            return;
        }
        tracing::info!(
            target: "bfd",
            "{}: BFD state change: {}->{} \"{}\"->\"{}\".\n{}",
            self.name,
            self.state.name(),
            state.name(),
            self.diagnostic.name(),
            diagnostic.name(),
            super::show::details(self, now_ms)
        );
        (self.state, self.diagnostic) = (state, diagnostic);
        if state <= State::Down {
            self.remote = Remote::unknown(self.remote.multiplier);
            if std::mem::take(&mut self.decay.is_on) {
                self.min_rx_ms = self.settings.min_rx_ms;
            }
        }
        if state == State::Up && self.settings.decay_min_rx_ms > 0 {
            self.restart_decay(self.decay.is_on, now_ms, rx_packets);
        }
        self.changed = true;
    }

    fn restart_decay(&mut self, is_on: bool, now_ms: u64, rx_packets: u64) {
        let due_ms = now_ms + self.settings.decay_min_rx_ms.max(JUDGE_MS);
        self.decay = Decay { is_on, controls: 0, rx_packets, due_ms };
    }

    fn data_deadline(&self, now_ms: u64) -> u64 {
        now_ms + (self.rx_interval_ms() * u64::from(self.settings.multiplier)).max(JUDGE_MS)
    }

    fn in_poll(&self) -> bool {
        self.flags.contains(Flags::POLL)
    }

    /// Begins to negotiate the configured intervals.
    fn poll(&mut self) {
        if self.state > State::Down && !self.flags.intersects(Flags::POLL | Flags::FINAL) {
            let rx_ms =
                if self.decay.is_on { self.settings.decay_min_rx_ms } else { self.settings.min_rx_ms };
            self.polled = Intervals { tx_ms: self.settings.min_tx_ms, rx_ms };
            self.flags |= Flags::POLL;
            self.next_tx_ms = 0;
            tracing::info!(target: "bfd", "{}: Initiating poll sequence", self.name);
        }
    }

    /// What we say that we want to send at.
    pub fn slow_or_min_tx_ms(&self) -> u64 {
        if self.state == State::Up { self.min_tx_ms } else { self.min_tx_ms.max(SLOW_TX_MS) }
    }

    pub fn tx_interval_ms(&self) -> u64 {
        self.slow_or_min_tx_ms().max(self.remote.min_rx_ms)
    }

    pub fn rx_interval_ms(&self) -> u64 {
        self.min_rx_ms.max(self.remote.min_tx_ms)
    }

    /// RFC 5880, section 6.8.7: up to a quarter earlier, and at least a tenth if one loss is enough.
    fn set_next_tx(&mut self) {
        let interval = self.tx_interval_ms();
        self.jitter = self.jitter.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let random = u64::from(self.jitter >> 16);
        let percent = if self.settings.multiplier == 1 { 10 + random % 16 } else { random % 26 };
        self.next_tx_ms = self.last_tx_ms + interval - interval * percent / 100;
    }
}
