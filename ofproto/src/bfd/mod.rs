//! Bidirectional forwarding detection on ports (RFC 5880, RFC 5881; `Interface.bfd`).
//!
//! [`session`] is the protocol, without a clock or a socket; [`Bfd`] is a session that translation, handlers and
//! the monitor thread share; [`crate::monitor`] is the thread that keeps sessions going.

pub mod session;
pub mod settings;
pub mod show;
#[cfg(test)]
mod tests;
pub mod wire;

use flow::{EthAddr, Flow, Mask};
use packet::Packet;
use parking_lot::Mutex;
use session::Session;
use settings::Settings;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The port's counter of received packets.
pub type RxPackets = Box<dyn Fn() -> u64 + Send + Sync>;

/// A session of a port.
pub struct Bfd {
    session: Mutex<Session>,
    rx_packets: RxPackets,
    /// As last judged, for those who may not wait.
    forwarding: AtomicBool,
    /// Counts changes of what the database shows.
    changes: AtomicU64,
}

/// What became of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// The database is to show something else.
    pub changed: bool,
    /// The port became usable, or unusable.
    pub flipped: bool,
}

impl std::fmt::Debug for Bfd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bfd").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Bfd {
    pub fn new(name: &str, settings: Settings, seed: u64, rx_packets: RxPackets) -> Self {
        let session = Mutex::new(Session::new(name, settings, seed));
        Bfd { session, rx_packets, forwarding: AtomicBool::new(false), changes: AtomicU64::new(1) }
    }

    /// Does something with the session, which is given the port's counter of received packets if it needs it.
    pub fn with<T>(&self, now_ms: u64, f: impl FnOnce(&mut Session, u64) -> T) -> (T, News) {
        let mut session = self.session.lock();
        let rx_packets = if session.settings.decay_min_rx_ms > 0 { (self.rx_packets)() } else { 0 };
        let result = f(&mut session, rx_packets);
        let is = session.judge(now_ms);
        let changed = session.take_changed();
        self.changes.fetch_add(u64::from(changed), Relaxed);
        (result, News { changed, flipped: self.forwarding.swap(is, Relaxed) != is })
    }

    /// Counts changes of what the database shows.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// Looks at the session.
    pub fn look<T>(&self, f: impl FnOnce(&Session) -> T) -> T {
        f(&self.session.lock())
    }

    pub fn is_forwarding(&self) -> bool {
        self.forwarding.load(Relaxed)
    }

    /// Whether a packet belongs to the session; what was looked at for that is added to `mask`.
    pub fn takes(&self, flow: &Flow, mask: &mut Mask) -> bool {
        let session = self.session.lock();
        let settings = &session.settings;
        if let Some(mac) = settings.remote_dst_mac {
            mask.dl_dst = EthAddr::BROADCAST;
            if mac != flow.dl_dst {
                return false;
            }
        }
        if flow.dl_type != 0x0800 {
            return false;
        }
        mask.nw_proto = 0xff;
        if flow.nw_proto != 17 || flow.nw_frag & flow::NW_FRAG_LATER != 0 {
            return false;
        }
        mask.tp_dst = 0xffff;
        if flow.tp_dst != wire::PORT || !settings.is_for(Ipv4Addr::from_bits(flow.nw_dst)) {
            return false;
        }
        if settings.ip_src.to_bits() == flow.nw_dst {
            mask.nw_dst = u32::MAX;
        }
        if settings.check_tnl_key {
            mask.tunnel.id = u64::MAX;
            return flow.tunnel.id == 0;
        }
        true
    }

    /// Packets of others came in by the port. The monitor thread sees what that changes.
    pub fn saw_data(&self, now_ms: u64) {
        self.session.lock().saw_data(now_ms);
    }

    /// Takes in a packet of the session.
    pub fn receive(&self, packet: &Packet, ttl: u8, now_ms: u64) -> News {
        let payload = packet.l4_bytes().get(8..).unwrap_or_default();
        self.with(now_ms, |session, rx| session.receive(payload, ttl, now_ms, rx)).1
    }
}
