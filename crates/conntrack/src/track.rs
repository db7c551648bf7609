//! The tracker: the table, and a packet's way through it.

use crate::conn::{Conn, ConnRef, Helper};
use crate::control::nap;
use crate::errand::Board;
use crate::expect::{Expectation, Expectations};
use crate::extract::{Extracted, extract};
use crate::ftp;
use crate::key::{Family, Key};
use crate::nat::NatAction;
use crate::proto::Verdict;
use crate::request::{Cached, PacketCt, Place, Request, merge32, merge128};
use crate::shard::{Found, Shard};
use crate::stock::{Hint, Stock};
use crate::timeout::{Timeout, TimeoutPolicy};
use crate::zone::Zones;
use flow::{U128, ct_state};
use packet::{CtMeta, CtTuple, Packet};
use parking_lot::RwLock;
use spin::mutex::SpinMutex;
use spin::relax::RelaxStrategy;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Parts of the table.
pub const SHARDS: usize = 1024;
/// Connections that a dump or a sweep looks at while it holds a part's lock, where no thread polls.
pub const SLICE: u32 = 128;

const NATTED: u32 = ct_state::SNAT | ct_state::DNAT;

#[cfg(test)]
thread_local! {
    /// How often this thread took a part's lock.
    pub(crate) static PARTS_LOCKED: Cell<u64> = const { Cell::new(0) };
}

/// Turns in waiting for a part's lock after which a thread sleeps: whoever holds it may want this very core.
const TURNS: u32 = 1_024;

thread_local! {
    static WAITED: Cell<u32> = const { Cell::new(0) };
}

/// How to wait for a part's lock, which is held for some tens of nanoseconds. It is let go of by a plain store, which is
/// half of what it costs a packet, and nobody sleeps on it.
pub(crate) struct Waiting;

impl RelaxStrategy for Waiting {
    fn relax() {
        let turns = WAITED.get().wrapping_add(1);
        WAITED.set(turns);
        match turns % TURNS {
            0 => nap(),
            _ => std::hint::spin_loop(),
        }
    }
}

pub(crate) type Lock<T> = SpinMutex<T, Waiting>;

/// A part of the table on cache lines of its own. Of its first line a packet of a known connection needs the lock and where
/// connections are; a new one needs the second and the third as well.
#[derive(Default)]
#[repr(C, align(128))]
struct Part {
    hint: Hint,
    shard: Lock<Shard>,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections refused because there were too many.
    pub full: AtomicU64,
    /// Connections refused because no translation was free.
    pub nat_exhausted: AtomicU64,
    /// Packets that could not be read, had a wrong checksum, or no port.
    pub unreadable: AtomicU64,
    /// Packets outside their connection's window, or with impossible flags.
    pub invalid: AtomicU64,
    /// Expectations that found no room.
    pub expectations_refused: AtomicU64,
}

/// A connection tracker.
pub struct Conntrack {
    parts: Box<[Part]>,
    pub(crate) zones: Zones,
    pub(crate) basis: u64,
    pub(crate) random: AtomicU64,
    pub(crate) check_seq: AtomicBool,
    pub(crate) policies: RwLock<BTreeMap<u32, TimeoutPolicy>>,
    pub(crate) expectations: Expectations,
    pub(crate) sweep_at: AtomicU32,
    pub(crate) stock: Stock,
    pub(crate) board: Board,
    pub counters: Counters,
}

/// A packet on its way through the tracker.
pub(crate) struct Pass<'a, 'r> {
    pub p: &'a mut Packet,
    pub ct: &'a mut PacketCt,
    pub request: &'a Request<'r>,
    pub packet: Extracted,
    /// The helper whose control connection the packet belongs to, if its connection has one.
    pub control: Option<Helper>,
    pub now: u64,
}

/// What was found out about a packet while its connection was at hand.
struct Known {
    verdict: Option<Verdict>,
    conn: ConnRef,
    is_reply: bool,
    nat: Option<NatAction>,
    helper: Option<Helper>,
}

enum Outcome {
    Known(Known),
    /// The packet begins a connection in place of this one.
    Replace(ConnRef),
}

const _: () = assert!(
    offset_of!(Part, shard) + size_of::<Lock<Vec<Conn>>>() == 64,
    "the first line ends with the chunks"
);

impl Conntrack {
    /// An empty tracker. `basis` is random, so that nobody outside can tell who shares a bucket.
    pub fn new(basis: u64) -> Self {
        Conntrack {
            parts: (0..SHARDS).map(|_| Part::default()).collect(),
            zones: Zones::new(),
            basis,
            random: AtomicU64::new(basis | 1),
            check_seq: AtomicBool::new(true),
            policies: RwLock::default(),
            expectations: Expectations::default(),
            sweep_at: AtomicU32::new(0),
            stock: Stock::new(),
            board: Board::new(),
            counters: Counters::default(),
        }
    }

    #[inline]
    pub(crate) fn part(&self, shard: u32) -> &Lock<Shard> {
        #[cfg(test)]
        PARTS_LOCKED.set(PARTS_LOCKED.get() + 1);
        &self.parts[shard as usize % SHARDS].shard
    }

    pub(crate) fn hint(&self, shard: u32) -> &Hint {
        &self.parts[shard as usize % SHARDS].hint
    }

    /// Puts a connection into a part that the caller has locked, where its key is not. Gives slot and serial number.
    #[inline]
    pub(crate) fn put(&self, shard: u32, part: &mut Shard, conn: Conn) -> (u32, u32) {
        let place = part.insert(conn, &self.stock);
        let hint = self.hint(shard);
        hint.set_index(part.index.place());
        hint.set_next(part.next_address());
        hint.set_slots(part.slots());
        if part.index.is_full_now()
            && let Some(wanted) = part.index.wanted()
        {
            self.stock.note_full(shard, wanted);
        }
        place
    }

    /// Part and hash of a key.
    #[inline]
    pub(crate) fn locate(&self, key: &Key) -> (u32, u32) {
        let hash = key.hash(self.basis);
        ((hash >> 32) as u32 % SHARDS as u32, hash as u32)
    }

    #[inline]
    pub(crate) fn is_alive(&self, conn: &Conn, now: u64) -> bool {
        now < conn.expires && self.zones.is_current(conn.key.zone, conn.zone_generation)
    }

    /// Runs `f` on the living connection that `key` finds, with whether the key is that of its replies and
    /// whether an alias led there.
    pub(crate) fn with_key<R>(
        &self,
        key: &Key,
        now: u64,
        f: impl FnOnce(&mut Conn, ConnRef, bool, bool) -> R,
    ) -> Option<R> {
        let (shard, hash) = self.locate(key);
        let mut part = self.part(shard).lock();
        match part.find(hash, key)? {
            Found::Here { slot, is_reply } => {
                let conn = part.get_mut(slot).filter(|c| self.is_alive(c, now))?;
                let r = ConnRef { shard, slot, serial: conn.serial };
                Some(f(conn, r, is_reply, false))
            }
            Found::Alias { target, .. } => {
                drop(part);
                self.with_ref(target, now, |conn| f(conn, target, true, true))
            }
        }
    }

    #[inline]
    pub(crate) fn with_ref<R>(&self, r: ConnRef, now: u64, f: impl FnOnce(&mut Conn) -> R) -> Option<R> {
        let mut part = self.part(r.shard).lock();
        part.at_mut(r).filter(|c| self.is_alive(c, now)).map(f)
    }

    #[inline]
    pub(crate) fn timeout(&self, policy: u32, timeout: Timeout) -> u64 {
        if policy != 0
            && let Some(p) = self.policies.read().get(&policy)
        {
            return p.ms(timeout);
        }
        TimeoutPolicy::DEFAULT.ms(timeout)
    }

    /// Sends a packet through the tracker. Its header offsets must be set. `now` is in milliseconds.
    pub fn process(
        &self,
        p: &mut Packet,
        family: Family,
        ct: &mut PacketCt,
        request: &Request<'_>,
        now: u64,
    ) {
        self.process_at(p, family, ct, request, now, None);
    }

    /// As [`Conntrack::process`], of a packet of which `place` says where its connection was when a packet with the
    /// same key went through the same steps. Gives the place to say so next time, if there will be one.
    pub fn process_at(
        &self,
        p: &mut Packet,
        family: Family,
        ct: &mut PacketCt,
        request: &Request<'_>,
        now: u64,
        place: Option<Place>,
    ) -> Option<Place> {
        if ct.meta.state == ct_state::INV {
            // A fragment that was not fit to be put together.
            reject(ct, request.zone);
            return None;
        }
        if let Some(cached) = ct.cached
            && !request.force
            && request.control(cached.proto, cached.sport, cached.dport).is_none()
            && self.process_again(p, ct, request, cached, now)
        {
            return Some(Place { conn: cached.conn, is_reply: cached.is_reply });
        }
        let Some(packet) = extract(p, family, request.zone) else {
            self.counters.unreadable.fetch_add(1, Relaxed);
            reject(ct, request.zone);
            return None;
        };
        let key = &packet.key;
        let control = request.control(key.proto, key.sport, key.dport);
        self.process_extracted(&mut Pass { p, ct, request, packet, control, now }, place)
    }

    /// The packet has been through this zone already: its connection is known and up to date.
    fn process_again(
        &self,
        p: &mut Packet,
        ct: &mut PacketCt,
        request: &Request<'_>,
        cached: Cached,
        now: u64,
    ) -> bool {
        let nat = self.with_ref(cached.conn, now, |conn| {
            if conn.key.zone != request.zone {
                return None;
            }
            (ct.meta.mark, ct.meta.label) = (conn.mark, conn.label);
            set_marks(conn, &mut ct.meta, request);
            Some(request.nat.and_then(|_| conn.nat_action(cached.is_reply)))
        });
        let Some(Some(nat)) = nat else { return false };
        if request.nat.is_some() {
            translate(p, ct, nat, request.zone, cached.is_related);
            ct.cached = None;
        }
        ct.meta.zone = request.zone;
        true
    }

    fn process_extracted(&self, pass: &mut Pass<'_, '_>, place: Option<Place>) -> Option<Place> {
        if pass.ct.meta.state != 0 && pass.ct.meta.zone != pass.request.zone {
            pass.ct.meta.state = 0;
        }
        let at_place = place.and_then(|place| self.update_at(pass, place));
        match at_place.or_else(|| self.find_and_update(pass)) {
            Some(Outcome::Known(known)) if known.verdict != Some(Verdict::Anew) => {
                self.finish(pass, &known);
                let Known { conn, is_reply, .. } = known;
                let is_plain = !pass.request.force && !pass.packet.is_related && pass.control.is_none();
                is_plain.then_some(Place { conn, is_reply })
            }
            Some(Outcome::Known(Known { conn, .. }) | Outcome::Replace(conn)) => {
                self.remove(conn);
                self.begin(pass);
                None
            }
            None if pass.packet.is_related => {
                // An error about a connection that is not there.
                pass.ct.meta.state = ct_state::INV;
                finish_unknown(pass, None);
                None
            }
            None => {
                self.begin(pass);
                None
            }
        }
    }

    /// Shows the packet to the connection at `place`, if that is still there.
    fn update_at(&self, pass: &mut Pass<'_, '_>, place: Place) -> Option<Outcome> {
        let Place { conn, is_reply } = place;
        let known = self.with_ref(conn, pass.now, |c| self.update(c, conn, is_reply, pass));
        known.map(Outcome::Known)
    }

    /// Finds the connection and shows it the packet.
    fn find_and_update(&self, pass: &mut Pass<'_, '_>) -> Option<Outcome> {
        // What was translated before is found by the key it has now, seen from the other end.
        let natted = pass.ct.meta.state & NATTED != 0;
        let key = if natted { pass.packet.key.reversed() } else { pass.packet.key };
        let found = self.with_key(&key, pass.now, |conn, r, is_reply, by_alias| {
            let is_reply = is_reply != natted;
            if pass.request.force && is_reply && !by_alias {
                return Outcome::Replace(r);
            }
            Outcome::Known(self.update(conn, r, is_reply, pass))
        });
        if found.is_none() && natted {
            coverage::counter::conntrack_lookup_natted_miss.inc();
        }
        if found.is_some() || !natted || pass.request.nat.is_some() {
            return found;
        }
        let original = Key::from_tuple(&pass.ct.meta.tuple, pass.packet.key.sport, pass.ct.meta.zone)?;
        self.with_key(&original, pass.now, |conn, r, _, _| Outcome::Known(self.update(conn, r, false, pass)))
    }

    /// Shows a connection one of its packets, and writes into the packet's metadata what it is.
    fn update(&self, conn: &mut Conn, conn_ref: ConnRef, is_reply: bool, pass: &mut Pass<'_, '_>) -> Known {
        let mut verdict = None;
        let state = &mut pass.ct.meta.state;
        if pass.packet.is_related {
            *state |= ct_state::REL | if is_reply { ct_state::RPL } else { 0 };
        } else {
            if conn.parent().is_some() {
                *state |= ct_state::REL;
            }
            let skew = ftp::Skew::of(conn, is_reply, pass);
            skew.apply_before(pass);
            let check_seq = self.check_seq.load(Relaxed);
            let (v, timeout) = conn.proto.update(is_reply, pass.packet.tcp.as_ref(), check_seq);
            if let Some(timeout) = timeout {
                conn.expires = pass.now + self.timeout(conn.policy(), timeout);
            }
            if v != Verdict::Anew {
                skew.apply_after(pass);
            }
            let state = &mut pass.ct.meta.state;
            match v {
                Verdict::Valid => {
                    *state = (*state | ct_state::EST) & !ct_state::NEW;
                    *state |= if is_reply { ct_state::RPL } else { 0 };
                }
                Verdict::ValidNew => *state |= ct_state::NEW,
                Verdict::Invalid => {
                    self.counters.invalid.fetch_add(1, Relaxed);
                    *state = ct_state::INV;
                }
                Verdict::Anew => {}
            }
            verdict = Some(v);
        }
        let nat = pass.request.nat.and_then(|_| conn.nat_action(is_reply));
        if verdict != Some(Verdict::Anew) {
            describe(conn, &mut pass.ct.meta);
            set_marks(conn, &mut pass.ct.meta, pass.request);
        }
        Known { verdict, conn: conn_ref, is_reply, nat, helper: conn.helper() }
    }

    fn finish(&self, pass: &mut Pass<'_, '_>, known: &Known) {
        if pass.request.nat.is_some() {
            translate(pass.p, pass.ct, known.nat, pass.request.zone, pass.packet.is_related);
        }
        pass.ct.meta.state |= ct_state::TRK;
        pass.ct.meta.zone = pass.request.zone;
        if let (Some(_), Some(control)) = (known.helper, pass.control) {
            self.help(pass, control, known.conn, known.is_reply);
        }
        let cached = Cached::new(known.conn, known.is_reply, pass.packet.is_related, &pass.packet.key);
        pass.ct.cached = pass.request.nat.is_none().then_some(cached);
    }
}

/// Mark, label and original tuple of a connection.
pub(crate) fn describe(conn: &Conn, meta: &mut CtMeta) {
    (meta.mark, meta.label) = (conn.mark, conn.label);
    meta.tuple = conn.parent().unwrap_or(&conn.key).to_tuple();
}

/// Sets mark and label as the action says. A data connection keeps those of its control connection.
pub(crate) fn set_marks(conn: &mut Conn, meta: &mut CtMeta, request: &Request<'_>) {
    if conn.parent().is_some() {
        return;
    }
    if let Some(mark) = &request.mark {
        conn.mark = merge32(meta.mark, mark);
        meta.mark = conn.mark;
    }
    if let Some(label) = &request.label {
        conn.label = merge128(meta.label, label);
        meta.label = conn.label;
    }
}

/// Translates, unless that was done in this zone already.
fn translate(p: &mut Packet, ct: &mut PacketCt, nat: Option<NatAction>, zone: u16, is_related: bool) {
    let Some(nat) = nat else { return };
    if ct.meta.state & NATTED != 0 && ct.meta.zone == zone {
        return;
    }
    ct.meta.state = (ct.meta.state & !NATTED) | nat.state_bit();
    nat.apply(p, is_related);
}

/// The packet is invalid.
fn reject(ct: &mut PacketCt, zone: u16) {
    ct.meta = CtMeta {
        state: ct_state::INV | ct_state::TRK,
        zone,
        mark: 0,
        label: U128::ZERO,
        tuple: CtTuple::None,
    };
    ct.cached = None;
}

/// Metadata of a packet without a connection.
pub(crate) fn finish_unknown(pass: &mut Pass<'_, '_>, expected: Option<&Expectation>) {
    let meta = &mut pass.ct.meta;
    meta.state |= ct_state::TRK;
    meta.zone = pass.request.zone;
    (meta.mark, meta.label) = expected.map_or((0, U128::ZERO), |e| (e.mark, e.label));
    meta.tuple = expected.map_or(pass.packet.key, |e| e.parent).to_tuple();
    pass.ct.cached = None;
}
