//! A megaflow: a masked key, what to do, and what passed.

use crate::counter::Counter;
use crate::edit::Edit;
use crate::fan::Fan;
use crate::key::Lanes;
use crate::lane::Tally;
use dpif::{Action, Actions, DpFlow, FlowStats, PortNo, Ufid};
use flow::{Flow, Mask};
use packet::tunnel::Template;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The mask that many megaflows share.
#[derive(Debug)]
pub(crate) struct SharedMask {
    pub mask: Arc<Mask>,
    pub lanes: Lanes,
}

#[derive(Debug)]
pub(crate) struct Megaflow {
    pub ufid: Ufid,
    /// Of the packet that it was made for; bits outside the mask do not matter.
    pub key: Arc<Flow>,
    pub mask: Arc<SharedMask>,
    pub actions: Arc<Actions>,
    pub stats: Arc<MegaflowStats>,
    /// What it does, if it is to put an outer header on and send.
    pub push: Option<Box<Push>>,
    /// What it does, if it is to change headers and send.
    pub edit: Option<Box<Edit>>,
    /// What it does, if packets are sent to several ports as they came, metered, or dropped.
    pub fan: Option<Box<Fan>>,
    /// No longer in the table: caches must not use it any more.
    pub dead: AtomicBool,
}

/// An outer header that is ready for packets, and where they go with it.
#[derive(Debug)]
pub(crate) struct Push {
    pub tunnel_port: PortNo,
    pub out: PortNo,
    pub template: Template,
}

impl Push {
    /// `None` if the actions are others, or the header is none of those that are handled a burst at a time.
    pub fn of(actions: &[Action]) -> Option<Box<Self>> {
        let [Action::TunnelPush(push), Action::Output(out)] = actions else { return None };
        let template = Template::new(&push.header)?;
        Some(Box::new(Push { tunnel_port: push.tunnel_port, out: *out, template }))
    }
}

impl Megaflow {
    #[inline]
    pub fn matches(&self, key: &Flow) -> bool {
        self.mask.lanes.agree(&self.key, key)
    }

    #[inline]
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub fn describe(&self, pmd: Option<u32>) -> DpFlow {
        DpFlow {
            ufid: self.ufid,
            key: Arc::clone(&self.key),
            mask: Arc::clone(&self.mask.mask),
            actions: Arc::clone(&self.actions),
            stats: self.stats.get(),
            pmd,
        }
    }
}

/// Counters of a megaflow; they stay when its actions change. Usually one thread adds, but a handler may
/// catch up with packets that missed before the megaflow was there.
#[derive(Debug)]
pub(crate) struct MegaflowStats {
    packets: AtomicU64,
    bytes: AtomicU64,
    used_ms: AtomicU64,
    tcp_flags: AtomicU64,
    /// Beside the others: what the thread counted whose table it is.
    own_packets: Counter,
    own_bytes: Counter,
}

const NEVER: u64 = u64::MAX;

impl Default for MegaflowStats {
    fn default() -> Self {
        Self::from(FlowStats::default())
    }
}

impl From<FlowStats> for MegaflowStats {
    fn from(s: FlowStats) -> Self {
        MegaflowStats {
            packets: AtomicU64::new(s.packets),
            bytes: AtomicU64::new(s.bytes),
            used_ms: AtomicU64::new(s.used_ms.unwrap_or(NEVER)),
            tcp_flags: AtomicU64::new(u64::from(s.tcp_flags)),
            own_packets: Counter::default(),
            own_bytes: Counter::default(),
        }
    }
}

impl MegaflowStats {
    #[inline]
    pub fn add(&self, packets: u64, bytes: u64, tcp_flags: u16, now_ms: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.used_ms.store(now_ms, Ordering::Relaxed);
        let flags = u64::from(tcp_flags);
        if self.tcp_flags.load(Ordering::Relaxed) & flags != flags {
            self.tcp_flags.fetch_or(flags, Ordering::Relaxed);
        }
    }

    /// As [`MegaflowStats::add`], by the thread whose table the megaflow is in: without a locked instruction.
    #[inline]
    pub fn add_as_owner(&self, packets: u64, bytes: u64, tcp_flags: u16, now_ms: u64) {
        self.own_packets.add(packets);
        self.own_bytes.add(bytes);
        self.used_ms.store(now_ms, Ordering::Relaxed);
        let flags = u64::from(tcp_flags);
        if self.tcp_flags.load(Ordering::Relaxed) & flags != flags {
            self.tcp_flags.fetch_or(flags, Ordering::Relaxed);
        }
    }

    /// Counts as one of the above.
    #[inline]
    pub fn count(&self, packets: u64, bytes: u64, tcp_flags: u16, tally: Tally) {
        if tally.is_owner {
            self.add_as_owner(packets, bytes, tcp_flags, tally.now_ms);
        } else {
            self.add(packets, bytes, tcp_flags, tally.now_ms);
        }
    }

    pub fn get(&self) -> FlowStats {
        let used_ms = self.used_ms.load(Ordering::Relaxed);
        FlowStats {
            packets: self.packets.load(Ordering::Relaxed) + self.own_packets.get(),
            bytes: self.bytes.load(Ordering::Relaxed) + self.own_bytes.get(),
            used_ms: (used_ms != NEVER).then_some(used_ms),
            tcp_flags: self.tcp_flags.load(Ordering::Relaxed) as u16,
        }
    }
}
