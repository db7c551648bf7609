//! The `ct` action: fragments are put together, packets go through the connection tracker.

use crate::drops::DropCause;
use crate::item::{Item, Items};
use crate::key::Seed;
use crate::shared::Shared;
use crate::worker::Worker;
use conntrack::ipf::{self, Carrier, Ipf, Offered};
use conntrack::{Conntrack, Family, PacketCt, Request, SHARDS};
use dpif::Ct;
use packet::Packet;
use packet::proto::ethertype;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// What the threads of a datapath share for connection tracking.
pub(crate) struct Tracking {
    pub conntrack: Arc<Conntrack>,
    pub ipf: Ipf<Item>,
    /// Who takes connections away, and sets memory aside for new ones.
    sweeper: OnceLock<Thread>,
}

impl Tracking {
    pub fn new() -> Arc<Self> {
        let basis = Seed::get().basis();
        Arc::new(Tracking {
            conntrack: Arc::new(Conntrack::new(basis)),
            ipf: Ipf::default(),
            sweeper: OnceLock::new(),
        })
    }
}

impl Tracking {
    /// Wakes the sweeper if memory is to be set aside; more of it where threads poll.
    #[inline]
    pub fn see_to_stock(&self, is_polling: bool) {
        if is_polling {
            self.conntrack.expect_many();
        }
        if self.conntrack.wants_restock()
            && let Some(sweeper) = self.sweeper.get()
        {
            sweeper.unpark();
        }
    }
}

impl Carrier for Item {
    fn packet(&self) -> &Packet {
        &self.packet
    }
    fn packet_mut(&mut self) -> &mut Packet {
        &mut self.packet
    }
    fn recirc_id(&self) -> u32 {
        self.meta.recirc_id
    }
    fn set_ct(&mut self, ct: &PacketCt) {
        *self.meta.ct_mut() = *ct;
    }
}

/// The family of an IP packet.
fn family(p: &Packet) -> Option<Family> {
    match p.l3_type() {
        Some(ethertype::IPV4) => Some(Family::V4),
        Some(ethertype::IPV6) => Some(Family::V6),
        _ => None,
    }
}

impl Worker {
    /// Sends packets through the connection tracker; those that are no IP become invalid. Fragments come back
    /// when all of their packet are there.
    pub fn track(&self, ct: &Ct, items: &mut Items) {
        let tracking = &*self.tracking;
        tracking.see_to_stock(self.is_polling());
        let request = Request::of(ct);
        let now = self.now_ms;
        let is_fragment = |i: &Item| family(&i.packet).is_some_and(|f| ipf::is_fragment(&i.packet, f));
        if tracking.ipf.is_idle() && !items.iter().any(is_fragment) {
            for item in items {
                let family = family(&item.packet).unwrap_or_default();
                process(&tracking.conntrack, item, family, &request, now);
            }
            return;
        }
        let Some(first) = items.first() else { return };
        let (recirc_id, first_family) = (first.meta.recirc_id, family(&first.packet).unwrap_or_default());
        let mut back: Vec<Item> = Vec::new();
        for mut item in std::mem::take(items) {
            let family = family(&item.packet).unwrap_or_default();
            if ipf::is_fragment(&item.packet, family) {
                self.counters(item.meta.in_port).finished.add(1);
                back.extend(assemble(tracking, item, family, &request, now));
            } else {
                process(&tracking.conntrack, &mut item, family, &request, now);
                items.push(item);
            }
        }
        self.resume_fragments(tracking, items, back, (recirc_id, first_family, request.zone));
    }

    /// Lets fragments go on with a batch, as many as it has room for.
    fn resume_fragments(
        &self,
        tracking: &Tracking,
        items: &mut Items,
        mut back: Vec<Item>,
        (recirc_id, family, zone): (u32, Family, u16),
    ) {
        let late = back.split_off(back.len().min(items.remaining_capacity()));
        for item in back {
            self.counters(item.meta.in_port).reinjected.add(1);
            items.push(item);
        }
        tracking.ipf.keep(late, family, zone);
        let room = items.remaining_capacity();
        for (mut item, is_invalid) in tracking.ipf.due(recirc_id, family, zone, room, self.now_ms) {
            if is_invalid {
                item.set_ct(&ipf::invalid(zone));
            }
            self.counters(item.meta.in_port).reinjected.add(1);
            items.push(item);
        }
    }
}

fn process(conntrack: &Conntrack, item: &mut Item, family: Family, request: &Request<'_>, now: u64) {
    let Item { packet, meta } = item;
    conntrack.process(packet, family, meta.ct_mut(), request, now);
}

/// Takes in a fragment; gives what can go on.
fn assemble(tracking: &Tracking, item: Item, family: Family, request: &Request<'_>, now: u64) -> Vec<Item> {
    match tracking.ipf.offer(item, family, request.zone, now) {
        Offered::Held => Vec::new(),
        Offered::Back(mut item) => {
            process(&tracking.conntrack, &mut item, family, request, now);
            vec![item]
        }
        Offered::Invalid(mut item) => {
            item.set_ct(&ipf::invalid(request.zone));
            vec![item]
        }
        Offered::Whole(mut whole) => {
            process(&tracking.conntrack, &mut whole.carrier, family, request, now);
            let ct = whole.carrier.meta.ct.as_deref().copied().unwrap_or_default();
            tracking.ipf.take_apart(whole, &ct)
        }
    }
}

/// Between two looks of the sweeper, and how much of the table it looks at: all of it in 20 seconds.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
const SWEEP_PARTS: u32 = (SHARDS as u32).div_ceil(200);
/// While there is much to take away, and how much that is.
const SWEEP_SOON: Duration = Duration::from_millis(1);
const SWEEP_MANY: u32 = 64;
/// While there are no connections, and after how many looks that found nothing.
const SWEEP_SELDOM: Duration = Duration::from_secs(1);
const SWEEP_LOOKS: u32 = (SHARDS as u32).div_ceil(SWEEP_PARTS);

/// The thread that takes away what has expired or was flushed.
pub(crate) struct Sweeper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    pub fn start(shared: &Arc<Shared>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (weak, stopped) = (Arc::downgrade(shared), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("ct_clean".to_owned());
        let thread = thread.spawn(move || sweep(&weak, &stopped));
        match &thread {
            Ok(handle) => _ = shared.tracking.sweeper.set(handle.thread().clone()),
            Err(error) => tracing::error!("cannot start the connection tracker's sweeper: {error}"),
        }
        Sweeper { stop, thread: thread.ok() }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The last owner of the datapath may be this very thread.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// Until the next look, after one that took `removed` away; the last `in_vain` ones found an empty table.
fn pause(removed: u32, in_vain: u32) -> Duration {
    match removed {
        SWEEP_MANY.. => SWEEP_SOON,
        _ if in_vain > SWEEP_LOOKS => SWEEP_SELDOM,
        _ => SWEEP_EVERY,
    }
}

fn sweep(shared: &Weak<Shared>, stop: &AtomicBool) {
    let mut due = Instant::now();
    let mut in_vain = 0_u32;
    while !stop.load(Ordering::SeqCst) {
        let Some(shared) = shared.upgrade() else { return };
        shared.tracking.conntrack.restock();
        // Threads that make connections wake it often, and would have to serve a sweep each time.
        if Instant::now() >= due {
            let now = shared.clock.now_ms();
            let removed = shared.tracking.conntrack.sweep(SWEEP_PARTS, now);
            shared.purge_fragments(now);
            let has_any = removed > 0 || !shared.tracking.conntrack.is_empty();
            in_vain = if has_any { 0 } else { in_vain.saturating_add(1) };
            due = Instant::now() + pause(removed, in_vain);
        }
        drop(shared);
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
    }
}

impl Shared {
    fn purge_fragments(&self, now: u64) {
        let gone = self.tracking.ipf.purge(now);
        if gone.is_empty() {
            return;
        }
        let control = self.control.lock();
        for item in gone {
            let counters = control.worker.counters(item.meta.in_port);
            counters.reinjected.add(1);
            counters.lose(DropCause::FragmentExpired, 1);
        }
    }
}
