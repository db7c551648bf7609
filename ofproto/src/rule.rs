//! A flow table entry.
//!
//! A [`Rule`] never changes: a flow-mod that modifies puts a new one in its place that shares the old
//! one's [`Counters`], so translations and megaflows that still hold the old one credit the right entry.

use flow::{Match, MiniMatch};
use openflow::action::Action;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

bitflags::bitflags! {
    /// Flow-mod flags that a rule keeps (`OFPFF_*`, OpenFlow 1.3's numbering), and our own above bit 8.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RuleFlags: u16 {
        const SEND_FLOW_REM = 1 << 0;
        /// Only kept to be shown.
        const CHECK_OVERLAP = 1 << 1;
        /// Only kept to be shown.
        const RESET_COUNTS = 1 << 2;
        const NO_PACKET_COUNTS = 1 << 3;
        const NO_BYTE_COUNTS = 1 << 4;
        /// Made by the switch itself; controllers neither see nor change it.
        const HIDDEN = 1 << 9;
        /// Only `ovs-ofctl`-style internal users may change it.
        const NO_READONLY = 1 << 10;
    }
}

/// What has passed through a rule. Packets, bytes, and when it was last used (milliseconds).
#[derive(Debug, Default)]
pub struct Counters {
    packets: AtomicU64,
    bytes: AtomicU64,
    used_ms: AtomicU64,
}

/// A copy of [`Counters`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

impl Counters {
    pub fn new(used_ms: u64) -> Self {
        Counters { used_ms: used_ms.into(), ..Counters::default() }
    }

    pub fn credit(&self, by: Count, used_ms: u64) {
        self.packets.fetch_add(by.packets, Relaxed);
        self.bytes.fetch_add(by.bytes, Relaxed);
        self.used_ms.fetch_max(used_ms, Relaxed);
    }

    pub fn count(&self) -> Count {
        Count { packets: self.packets.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }

    pub fn used_ms(&self) -> u64 {
        self.used_ms.load(Relaxed)
    }

    /// The rule was modified: idle time starts anew.
    pub fn touch(&self, now_ms: u64) {
        self.used_ms.fetch_max(now_ms, Relaxed);
    }
}

#[derive(Debug)]
pub struct Rule {
    pub table: u8,
    pub priority: u16,
    pub matching: MiniMatch,
    pub cookie: u64,
    pub actions: Box<[Action]>,
    /// Seconds; 0 for none.
    pub idle_timeout_s: u16,
    /// Seconds; 0 for none.
    pub hard_timeout_s: u16,
    pub importance: u16,
    pub flags: RuleFlags,
    /// Where the rule stands among those of its switch: later ones were put in later. Wraps.
    pub place: u32,
    pub created_ms: u64,
    /// When it was last added, modified or learned again: the hard timeout counts from here.
    pub modified_ms: AtomicU64,
    pub counters: Arc<Counters>,
}

impl Rule {
    /// A rule that the switch makes for itself: hidden from controllers.
    pub fn internal(table: u8, matching: &Match, priority: u16, actions: Vec<Action>) -> Self {
        Rule {
            table,
            priority,
            matching: MiniMatch::from(matching),
            cookie: 0,
            actions: actions.into(),
            idle_timeout_s: 0,
            hard_timeout_s: 0,
            importance: 0,
            flags: RuleFlags::HIDDEN,
            place: 0,
            created_ms: 0,
            modified_ms: AtomicU64::new(0),
            counters: Arc::default(),
        }
    }

    pub fn modified_ms(&self) -> u64 {
        self.modified_ms.load(Relaxed)
    }

    pub fn is_hidden(&self) -> bool {
        self.flags.contains(RuleFlags::HIDDEN)
    }

    pub fn has_timeout(&self) -> bool {
        self.idle_timeout_s != 0 || self.hard_timeout_s != 0
    }

    /// When the hard or idle timeout strikes, in milliseconds, as things stand.
    pub fn expires_ms(&self) -> Option<u64> {
        let hard = (self.hard_timeout_s != 0)
            .then(|| self.modified_ms.load(Relaxed) + u64::from(self.hard_timeout_s) * 1000);
        let idle = (self.idle_timeout_s != 0)
            .then(|| self.counters.used_ms() + u64::from(self.idle_timeout_s) * 1000);
        hard.into_iter().chain(idle).min()
    }

    /// Whether any action outputs to `port` (the `out_port` filter of flow-mods and statistics).
    pub fn outputs_to(&self, port: crate::ids::OfPort) -> bool {
        openflow::action::output_to_port(&self.actions, port)
    }

    /// Whether any action sends to `group` (the `out_group` filter).
    pub fn outputs_to_group(&self, group: u32) -> bool {
        openflow::action::output_to_group(&self.actions, group)
    }
}
