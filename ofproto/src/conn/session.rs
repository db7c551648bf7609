//! What one connection has agreed on with the switch.

use super::link::LinkHandle;
use super::monitor::Monitors;
use super::pacer::Pacer;
use super::{Origin, UpEvent};
use crate::handle::bundles::Bundles;
use crate::handle::flow_stats::FlowDump;
use crate::ids::{ConnId, OfPort};
use bytes::Bytes;
use openflow::msg::async_config::{AsyncConfig, AsyncMsg};
use openflow::msg::error_msg;
use openflow::msg::nx::PacketInFormat;
use openflow::msg::packet_in::reason;
use openflow::msg::role::Role;
use openflow::multipart::MultipartAssembler;
use openflow::{OfError, Protocol, Version, identify};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// `miss_send_len` of a controller that has not set it (OpenFlow 1.0, 5.3.2).
pub const DEFAULT_MISS_SEND_LEN: u16 = 128;
/// Reasons of packet-ins that were one, "action", before OpenFlow 1.4.
const ACTION_REASONS: u32 = 1 << 3 | 1 << 4 | 1 << 5;
const REASON_ACTION: u32 = 1;
const REASON_INVALID_TTL: u32 = 2;

/// `Controller.type`: who is meant to control the switch, and who only uses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConnKind {
    Primary,
    /// Gets asynchronous messages only once it has set a `miss_send_len`.
    Service,
}

/// Settings of connections that come through one row of the Controller table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnSettings {
    pub kind: ConnKind,
    /// `Controller.enable_async_messages`.
    pub enable_async: bool,
    /// Packet-ins per second, 0 for no limit.
    pub rate_limit: u32,
    /// Packets, 0 for a quarter of the rate.
    pub burst_limit: u32,
    /// `controller-queue-size`: packet-ins that may wait in our output.
    pub queue_size: usize,
}

/// A connection.
#[derive(Debug)]
pub struct Conn {
    pub id: ConnId,
    pub link: LinkHandle,
    pub origin: Origin,
    /// As the log names it.
    pub name: String,
    pub kind: ConnKind,
    pub version: Version,
    pub protocol: Protocol,
    pub role: Role,
    pub packet_in_format: PacketInFormat,
    pub miss_send_len: u16,
    pub controller_id: u16,
    /// What was asked for; `None` for the default.
    pub async_config: Option<AsyncConfig>,
    pub enable_async: bool,
    /// For packets that an action sent, and for misses.
    pub pacers: [Option<Pacer>; 2],
    pub queue_size: usize,
    pub assembler: MultipartAssembler,
    pub bundles: Bundles,
    pub monitors: Monitors,
    pub mods: ModLog,
    /// The reply that is being written.
    pub dump: Option<FlowDump>,
    /// Messages held back because the peer does not read our replies.
    pub inbox: VecDeque<Bytes>,
}

impl Conn {
    pub fn new(up: UpEvent, settings: &ConnSettings, now_ms: u64) -> Self {
        let primary = settings.kind == ConnKind::Primary;
        let mut conn = Conn {
            id: up.id,
            link: up.link,
            origin: up.origin,
            name: up.peer,
            kind: settings.kind,
            version: up.version,
            protocol: Protocol::initial(up.version),
            role: Role::Equal,
            packet_in_format: PacketInFormat::Standard,
            miss_send_len: if primary { DEFAULT_MISS_SEND_LEN } else { 0 },
            controller_id: 0,
            async_config: None,
            enable_async: settings.enable_async,
            pacers: [None, None],
            queue_size: settings.queue_size,
            assembler: MultipartAssembler::default(),
            bundles: Bundles::default(),
            monitors: Monitors::default(),
            mods: ModLog::default(),
            dump: None,
            inbox: VecDeque::new(),
        };
        conn.apply_settings(settings, now_ms);
        conn
    }

    /// Takes over what can change while connected.
    pub fn apply_settings(&mut self, settings: &ConnSettings, now_ms: u64) {
        self.queue_size = settings.queue_size;
        self.enable_async = settings.enable_async;
        for pacer in &mut self.pacers {
            match (settings.rate_limit, pacer.as_mut()) {
                (0, _) => *pacer = None,
                (rate, Some(p)) => p.set_limits(rate, settings.burst_limit),
                (rate, None) => *pacer = Some(Pacer::new(rate, settings.burst_limit, now_ms)),
            }
        }
    }

    pub fn is_secondary(&self) -> bool {
        self.role == Role::Secondary
    }

    /// The error with which a secondary controller's changes are answered.
    pub fn check_may_write(&self) -> Result<(), OfError> {
        if self.is_secondary() { Err(OfError::OfpbrcIsSecondary) } else { Ok(()) }
    }

    /// The asynchronous messages that go here.
    pub fn async_config(&self) -> AsyncConfig {
        match self.async_config {
            Some(config) => config,
            None if self.enable_async => AsyncConfig::initial(self.version),
            None => AsyncConfig::default(),
        }
    }

    pub fn set_async_config(&mut self, mut config: AsyncConfig) {
        if self.version < Version::Of14 {
            for masks in [&mut config.primary, &mut config.secondary] {
                let packet_in = &mut masks[AsyncMsg::PacketIn as usize];
                if *packet_in & 1 << REASON_ACTION != 0 {
                    *packet_in |= ACTION_REASONS;
                }
            }
        }
        self.async_config = Some(config);
    }

    /// Whether a packet with an invalid TTL goes here (`OFPC_INVALID_TTL_TO_CONTROLLER`).
    pub fn wants_invalid_ttl(&self) -> bool {
        self.async_config().mask(AsyncMsg::PacketIn, true) & 1 << REASON_INVALID_TTL != 0
    }

    pub fn set_wants_invalid_ttl(&mut self, wants: bool) {
        let mut config = self.async_config();
        let packet_in = &mut config.primary[AsyncMsg::PacketIn as usize];
        *packet_in = *packet_in & !(1 << REASON_INVALID_TTL) | u32::from(wants) << REASON_INVALID_TTL;
        self.set_async_config(config);
    }

    /// Whether an asynchronous message with this reason goes here.
    pub fn receives(&self, msg: AsyncMsg, reason: u32) -> bool {
        if self.origin == Origin::Snoop || self.kind == ConnKind::Service && self.miss_send_len == 0 {
            return false;
        }
        reason < 32 && self.async_config().mask(msg, !self.is_secondary()) & 1 << reason != 0
    }

    /// Whether packets that no rule matches should go to controllers because of this connection.
    pub fn wants_misses(&self) -> bool {
        let receives = self.kind == ConnKind::Primary || self.miss_send_len != 0;
        self.origin != Origin::Snoop && receives && self.controller_id == 0 && self.version < Version::Of13
    }

    pub fn reply(&self, message: Vec<u8>) {
        self.link.send(message);
    }

    pub fn reply_all(&self, messages: Vec<Vec<u8>>) {
        messages.into_iter().for_each(|m| self.reply(m));
    }

    pub fn send_error(&self, error: OfError, request: &[u8]) {
        let kind = identify(request).map_or("invalid", |m| m.form.name());
        tracing::info!(target: "connmgr", "{}: sending {error} error reply to {kind} message", self.name);
        self.reply(error_msg::encode_reply(error, request));
    }

    /// Sends a packet-in, now or when its turn comes.
    pub fn send_packet_in(&mut self, why: u8, port: OfPort, message: Bytes, now_ms: u64) {
        let misses = [reason::NO_MATCH, reason::EXPLICIT_MISS, reason::IMPLICIT_MISS];
        let is_miss = usize::from(misses.contains(&why));
        let ready = match self.pacers.get_mut(is_miss).and_then(Option::as_mut) {
            Some(pacer) => pacer.submit(port, message, now_ms),
            None => Some(message),
        };
        if let Some(message) = ready {
            self.pass_packet_in(message);
        }
    }

    fn pass_packet_in(&self, message: Bytes) {
        if self.link.packet_ins_stalled() >= self.queue_size {
            tracing::info!(target: "connmgr", "{}: dropping packet-in due to queue overflow", self.name);
            coverage::counter::rconn_overflow.inc();
            return;
        }
        self.link.send_packet_in(message);
    }

    /// Answers requests that were begun and not finished in time.
    pub fn expire_requests(&mut self, now_ms: u64) {
        while let Some(error) = self.assembler.expire(now_ms) {
            self.reply(error);
        }
        for first in self.bundles.expire(now_ms) {
            self.send_error(OfError::OfpbfcTimeout, &first);
        }
    }

    /// Sends the packet-ins whose turn has come.
    pub fn run_pacers(&mut self, now_ms: u64) {
        let ready: Vec<_> = self.pacers.iter_mut().flatten().flat_map(|p| p.run(now_ms)).collect();
        ready.into_iter().for_each(|m| self.pass_packet_in(m));
    }
}

/// Flow-mods that the log has not told of yet.
#[derive(Debug, Default)]
pub struct ModLog {
    adds: u64,
    deletes: u64,
    modifies: u64,
    first_ms: u64,
    last_ms: u64,
    report_at_ms: Option<u64>,
    backoff_ms: u64,
}

/// Kinds of flow-mods, for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModKind {
    Add,
    Delete,
    Modify,
}

impl ModLog {
    pub fn note(&mut self, kind: ModKind, now_ms: u64) {
        match kind {
            ModKind::Add => self.adds += 1,
            ModKind::Delete => self.deletes += 1,
            ModKind::Modify => self.modifies += 1,
        }
        if self.report_at_ms.is_none() {
            let at = (now_ms + 10_000).max(self.backoff_ms);
            self.first_ms = now_ms;
            self.report_at_ms = Some(at);
            self.backoff_ms = at + 60_000;
        }
        self.last_ms = now_ms;
    }

    pub fn deadline_ms(&self) -> Option<u64> {
        self.report_at_ms
    }

    /// The line for the log, if it is due, or if there is something to tell and `force` is set.
    pub fn report(&mut self, now_ms: u64, force: bool) -> Option<String> {
        let at = self.report_at_ms?;
        if now_ms < at && !force {
            return None;
        }
        self.report_at_ms = None;
        let ago = now_ms.saturating_sub(self.first_ms) / 1000;
        let interval = self.last_ms.saturating_sub(self.first_ms) / 1000;
        let when = if interval == ago {
            format!("in the last {ago} s")
        } else if interval != 0 {
            format!("in the {interval} s starting {ago} s ago")
        } else {
            format!("{ago} s ago")
        };
        let parts = [(self.adds, "adds"), (self.deletes, "deletes"), (self.modifies, "modifications")];
        let total: u64 = parts.iter().map(|(n, _)| n).sum();
        let parts: Vec<_> =
            parts.iter().filter(|(n, _)| *n != 0).map(|(n, what)| format!("{n} {what}")).collect();
        (self.adds, self.deletes, self.modifies) = (0, 0, 0);
        Some(format!("{total} flow_mods {when} ({})", parts.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_mods_are_reported_in_one_line() {
        let mut log = ModLog::default();
        log.note(ModKind::Add, 1_000);
        log.note(ModKind::Add, 3_000);
        log.note(ModKind::Delete, 3_500);
        assert_eq!(log.report(10_999, false), None);
        let line = log.report(11_000, false).unwrap();
        assert_eq!(line, "3 flow_mods in the 2 s starting 10 s ago (2 adds, 1 deletes)");
        log.note(ModKind::Modify, 12_000);
        assert_eq!(log.deadline_ms(), Some(71_000), "no more than once a minute");
        assert_eq!(log.report(12_000, true).unwrap(), "1 flow_mods in the last 0 s (1 modifications)");
    }
}
