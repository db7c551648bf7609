//! Fragments of IP packets, held back until the packet is whole.
//!
//! Connection tracking sees the whole packet; what then travels on are the fragments, with the packet's
//! verdict and its translation written into each. Sizes stay what they were, so that path MTU discovery does
//! not notice.

use crate::key::Family;
use crate::request::PacketCt;
use flow::{U128, ct_state};
use packet::checksum::{finish, sum, update_bytes};
use packet::proto::{header_len, ip_proto};
use packet::{NO_OFFSET, Packet};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Fragments that wait, unless set otherwise, and the most that can be set.
pub const NFRAG_MAX: u32 = 1000;
pub const NFRAG_BOUND: u32 = 5000;
/// Least length of a fragment that is not the last, unless set otherwise, by family; and the least of that.
pub const MIN_FRAG: [u32; 2] = [1200, 1280];
pub const MIN_FRAG_BOUND: u32 = 400;
/// How long a packet may take to become whole, and how much longer its fragments may then wait for another
/// packet to go along with, in milliseconds.
const EXPIRES_MS: u64 = 15_000;
const PURGED_MS: u64 = 10_000;
/// Length of an IP packet.
const IP_MAX: usize = 65_535;

/// A packet with its metadata, as the datapath has it.
pub trait Carrier: Clone {
    fn packet(&self) -> &Packet;
    fn packet_mut(&mut self) -> &mut Packet;
    fn recirc_id(&self) -> u32;
    /// Puts connection tracking's word for the packet into its metadata.
    fn set_ct(&mut self, ct: &PacketCt);
}

/// Counters of one family.
#[derive(Debug, Default)]
pub struct FragCounters {
    pub accepted: AtomicU64,
    pub completed_sent: AtomicU64,
    pub expired_sent: AtomicU64,
    pub too_small: AtomicU64,
    pub overlap: AtomicU64,
    pub purged: AtomicU64,
}

#[derive(Debug)]
struct FamilyState {
    enabled: AtomicBool,
    min_frag: AtomicU32,
    counters: FragCounters,
}

/// Where a fragment belongs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct ListKey {
    src: (u64, u64),
    dst: (u64, u64),
    id: u32,
    recirc_id: u32,
    zone: u16,
    is_v6: bool,
    proto: u8,
}

/// What a fragment's headers say.
#[derive(Clone, Copy, Debug)]
struct Part {
    key: ListKey,
    /// First byte of the payload in the whole one, and the one after the last.
    start: usize,
    end: usize,
    is_last: bool,
    /// Where the payload starts in the frame.
    payload_at: usize,
    /// Where IPv6's fragment header is.
    header_at: usize,
}

struct List<T> {
    parts: Vec<(Part, T)>,
    expires: u64,
    /// Put together once, in vain.
    failed: bool,
}

impl<T> List<T> {
    fn state(&self) -> &'static str {
        let has_first = self.parts.iter().any(|(p, _)| p.start == 0);
        let has_last = self.parts.iter().any(|(p, _)| p.is_last);
        match (self.failed, has_first, has_last) {
            (true, ..) => "reassemble fail",
            (_, true, true) => "first/last frag",
            (_, true, false) => "first frag",
            (_, false, true) => "last frag",
            _ => "other frag",
        }
    }
}

/// What became of a packet that was offered.
pub enum Offered<T> {
    /// It is no fragment, or none that can be dealt with here: it goes on as it is.
    Back(T),
    /// It is no good; `ct_state` must say so.
    Invalid(T),
    /// Others are missing.
    Held,
    Whole(Whole<T>),
}

/// A packet put together.
pub struct Whole<T> {
    pub carrier: T,
    parts: Vec<(Part, T)>,
}

/// Puts fragments together.
pub struct Ipf<T> {
    families: [FamilyState; 2],
    nfrag_max: AtomicU32,
    nfrag: AtomicU32,
    lists: Mutex<HashMap<ListKey, List<T>>>,
    /// Fragments that found no room in the batch of their last one.
    ready: Mutex<VecDeque<(ListKey, T)>>,
    ready_len: AtomicU32,
}

/// What `dpctl/ipf-get-status` shows of a family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FamilyStatus {
    pub enabled: bool,
    pub min_frag: u32,
    pub accepted: u64,
    pub completed_sent: u64,
    pub expired_sent: u64,
    pub too_small: u64,
    pub overlap: u64,
    pub purged: u64,
}

impl<T> Default for Ipf<T> {
    fn default() -> Self {
        let family = |min: u32| FamilyState {
            enabled: AtomicBool::new(true),
            min_frag: AtomicU32::new(min),
            counters: FragCounters::default(),
        };
        Ipf {
            families: MIN_FRAG.map(family),
            nfrag_max: AtomicU32::new(NFRAG_MAX),
            nfrag: AtomicU32::new(0),
            lists: Mutex::default(),
            ready: Mutex::default(),
            ready_len: AtomicU32::new(0),
        }
    }
}

/// Settings and state of reassembly, whatever carries the packets.
pub trait Fragments {
    fn set_enabled(&self, family: Family, on: bool);
    /// False if `min` is below [`MIN_FRAG_BOUND`].
    fn set_min_frag(&self, family: Family, min: u32) -> bool;
    /// False if `max` is above [`NFRAG_BOUND`].
    fn set_nfrag_max(&self, max: u32) -> bool;
    /// Most fragments that may wait, and those that do.
    fn nfrag(&self) -> (u32, u32);
    fn status(&self, family: Family) -> FamilyStatus;
    /// A line for every packet that is not whole yet, as `dpctl/ipf-get-status -m` prints it.
    fn lists(&self) -> Vec<String>;
}

impl<T: Carrier + Send> Fragments for Ipf<T> {
    fn set_enabled(&self, family: Family, on: bool) {
        self.family(family).enabled.store(on, Relaxed);
    }

    fn set_min_frag(&self, family: Family, min: u32) -> bool {
        if min < MIN_FRAG_BOUND {
            return false;
        }
        self.family(family).min_frag.store(min, Relaxed);
        true
    }

    fn set_nfrag_max(&self, max: u32) -> bool {
        if max > NFRAG_BOUND {
            return false;
        }
        self.nfrag_max.store(max, Relaxed);
        true
    }

    fn nfrag(&self) -> (u32, u32) {
        (self.nfrag_max.load(Relaxed), self.nfrag.load(Relaxed))
    }

    fn status(&self, family: Family) -> FamilyStatus {
        let f = self.family(family);
        let c = &f.counters;
        FamilyStatus {
            enabled: f.enabled.load(Relaxed),
            min_frag: f.min_frag.load(Relaxed),
            accepted: c.accepted.load(Relaxed),
            completed_sent: c.completed_sent.load(Relaxed),
            expired_sent: c.expired_sent.load(Relaxed),
            too_small: c.too_small.load(Relaxed),
            overlap: c.overlap.load(Relaxed),
            purged: c.purged.load(Relaxed),
        }
    }

    fn lists(&self) -> Vec<String> {
        let lists = self.lists.lock();
        let line = |(k, l): (&ListKey, &List<T>)| {
            let address = |(hi, lo): (u64, u64)| match k.is_v6 {
                true => std::net::Ipv6Addr::from(u128::from(U128 { hi, lo })).to_string(),
                false => std::net::Ipv4Addr::from(lo as u32).to_string(),
            };
            format!(
                "(src={},dst={},recirc_id={},ip_id={},dl_type={:#x},zone={},nw_proto={},num_fragments={},state={})",
                address(k.src),
                address(k.dst),
                k.recirc_id,
                k.id,
                if k.is_v6 { 0x86dd } else { 0x800 },
                k.zone,
                k.proto,
                l.parts.len(),
                l.state()
            )
        };
        lists.iter().map(line).collect()
    }
}

impl<T: Carrier> Ipf<T> {
    fn family(&self, family: Family) -> &FamilyState {
        &self.families[usize::from(family == Family::V6)]
    }

    /// Whether anything may have to be done for a batch that has no fragments itself.
    pub fn is_idle(&self) -> bool {
        self.nfrag.load(Relaxed) == 0 && self.ready_len.load(Relaxed) == 0
    }

    /// Takes a packet if it is a fragment. `now` is in milliseconds.
    pub fn offer(&self, item: T, family: Family, zone: u16, now: u64) -> Offered<T> {
        let state = self.family(family);
        if !state.enabled.load(Relaxed) || !is_fragment(item.packet(), family) {
            return Offered::Back(item);
        }
        let Some(part) = read(item.packet(), family, zone, item.recirc_id()) else {
            return Offered::Invalid(item);
        };
        let min = state.min_frag.load(Relaxed) as usize;
        if !part.is_last && network_len(item.packet()) < min {
            state.counters.too_small.fetch_add(1, Relaxed);
            return Offered::Invalid(item);
        }
        if self.nfrag.load(Relaxed) >= self.nfrag_max.load(Relaxed) {
            return Offered::Back(item);
        }
        let mut lists = self.lists.lock();
        let fresh = || List { parts: Vec::new(), expires: now + EXPIRES_MS, failed: false };
        let list = lists.entry(part.key).or_insert_with(fresh);
        if list.failed {
            return Offered::Back(item);
        }
        if list.parts.iter().any(|(p, _)| part.start < p.end && p.start < part.end) {
            state.counters.overlap.fetch_add(1, Relaxed);
            return Offered::Invalid(item);
        }
        self.nfrag.fetch_add(1, Relaxed);
        state.counters.accepted.fetch_add(1, Relaxed);
        list.parts.push((part, item));
        if !is_complete(&mut list.parts) {
            return Offered::Held;
        }
        let Some(carrier) = assemble(&list.parts) else {
            list.failed = true;
            return Offered::Held;
        };
        match lists.remove(&part.key) {
            Some(list) => Offered::Whole(Whole { carrier, parts: list.parts }),
            None => Offered::Held,
        }
    }

    /// The fragments of a whole packet, each with the packet's verdict and translation.
    pub fn take_apart(&self, whole: Whole<T>, ct: &PacketCt) -> Vec<T> {
        let Whole { carrier, mut parts } = whole;
        let whole = carrier.packet();
        for (i, (part, item)) in parts.iter_mut().enumerate() {
            copy_addresses(whole, item.packet_mut(), part.key.is_v6);
            if i == 0 {
                copy_transport(whole, item.packet_mut(), part.payload_at);
            }
            item.set_ct(ct);
        }
        let n = parts.len() as u32;
        self.nfrag.fetch_sub(n, Relaxed);
        if let Some((part, _)) = parts.first() {
            self.families[usize::from(part.key.is_v6)].counters.completed_sent.fetch_add(n.into(), Relaxed);
        }
        parts.into_iter().map(|(_, item)| item).collect()
    }

    /// Keeps fragments that found no room for the next batch of `zone` that has.
    pub fn keep(&self, items: impl IntoIterator<Item = T>, family: Family, zone: u16) {
        let mut ready = self.ready.lock();
        for item in items {
            if let Some(part) = read(item.packet(), family, zone, item.recirc_id()) {
                ready.push_back((part.key, item));
            }
        }
        self.ready_len.store(ready.len() as u32, Relaxed);
    }

    /// Fragments that may go along with a batch: those that found no room before, and one packet's that did
    /// not become whole in time, with true (they are invalid).
    pub fn due(&self, recirc_id: u32, family: Family, zone: u16, room: usize, now: u64) -> Vec<(T, bool)> {
        let is_here = |k: &ListKey| (k.recirc_id, k.zone, k.is_v6) == (recirc_id, zone, family == Family::V6);
        let mut out = Vec::new();
        let mut ready = self.ready.lock();
        while out.len() < room
            && let Some(at) = ready.iter().position(|(k, _)| is_here(k))
            && let Some((_, item)) = ready.remove(at)
        {
            out.push((item, false));
        }
        self.ready_len.store(ready.len() as u32, Relaxed);
        drop(ready);
        let mut lists = self.lists.lock();
        let fits = |l: &List<T>| l.expires < now && out.len() + l.parts.len() <= room;
        let Some(key) = lists.iter().find(|(k, l)| is_here(k) && fits(l)).map(|(k, _)| *k) else {
            return out;
        };
        let Some(list) = lists.remove(&key) else { return out };
        let n = list.parts.len() as u32;
        self.nfrag.fetch_sub(n, Relaxed);
        self.family(family).counters.expired_sent.fetch_add(n.into(), Relaxed);
        out.extend(list.parts.into_iter().map(|(_, item)| (item, true)));
        out
    }

    /// Gives up packets that nothing came along for. Returns their fragments.
    pub fn purge(&self, now: u64) -> Vec<T> {
        if self.is_idle() {
            return Vec::new();
        }
        let mut lists = self.lists.lock();
        let gone: Vec<_> = lists.extract_if(|_, l| l.expires + PURGED_MS <= now).collect();
        let mut out = Vec::new();
        for (key, list) in gone {
            let n = list.parts.len() as u32;
            self.nfrag.fetch_sub(n, Relaxed);
            self.families[usize::from(key.is_v6)].counters.purged.fetch_add(n.into(), Relaxed);
            out.extend(list.parts.into_iter().map(|(_, item)| item));
        }
        out
    }
}

/// Connection tracking's word for a fragment that is no good.
pub fn invalid(zone: u16) -> PacketCt {
    let mut ct = PacketCt::default();
    (ct.meta.state, ct.meta.zone) = (ct_state::INV | ct_state::TRK, zone);
    ct
}

fn network(p: &Packet) -> &[u8] {
    let end = p.len().saturating_sub(usize::from(p.l2_pad));
    if p.l3_ofs == NO_OFFSET { &[] } else { p.data().get(usize::from(p.l3_ofs)..end).unwrap_or(&[]) }
}

fn network_len(p: &Packet) -> usize {
    network(p).len()
}

fn be16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*b.get(at..)?.first_chunk()?))
}

fn pair(b: &[u8], at: usize) -> Option<(u64, u64)> {
    let a: U128 = u128::from_be_bytes(*b.get(at..)?.first_chunk()?).into();
    Some((a.hi, a.lo))
}

/// Where IPv6's fragment header is, and the type of what is behind it.
fn fragment_header(h: &[u8]) -> Option<usize> {
    let (mut proto, mut at) = (*h.get(6)?, header_len::IPV6);
    while proto != ip_proto::FRAGMENT {
        if !ip_proto::is_ipv6_extension(proto) || proto == ip_proto::AH {
            return None;
        }
        let ext = h.get(at..)?.first_chunk::<8>()?;
        proto = ext[0];
        at += (usize::from(ext[1]) + 1) * 8;
    }
    h.get(at..at + 8).map(|_| at)
}

/// Whether a packet is a part of another.
pub fn is_fragment(p: &Packet, family: Family) -> bool {
    let h = network(p);
    match family {
        Family::V4 => be16(h, 6).is_some_and(|f| f & 0x3fff != 0),
        Family::V6 => fragment_header(h).and_then(|at| be16(h, at + 2)).is_some_and(|f| f & 0xfff9 != 0),
    }
}

/// Reads a fragment's headers. `None` if they contradict each other.
fn read(p: &Packet, family: Family, zone: u16, recirc_id: u32) -> Option<Part> {
    let h = network(p);
    let l3 = usize::from(p.l3_ofs);
    let (src, dst, id, proto, offset, more, payload, header_at) = match family {
        Family::V4 => {
            let len = usize::from(h.first()? & 0xf) * 4;
            let is_sound = len >= header_len::IPV4 && usize::from(be16(h, 2)?) == h.len();
            if !is_sound || finish(sum(h.get(..len)?)) != 0 {
                return None;
            }
            let word = |at| Some((0, u64::from(u32::from_be_bytes(*h.get(at..)?.first_chunk()?))));
            let flags = be16(h, 6)?;
            let more = flags & 0x2000 != 0;
            (
                word(12)?,
                word(16)?,
                be16(h, 4)?.into(),
                *h.get(9)?,
                usize::from(flags & 0x1fff) * 8,
                more,
                len,
                0,
            )
        }
        Family::V6 => {
            let at = fragment_header(h)?;
            if usize::from(be16(h, 4)?) + header_len::IPV6 != h.len() {
                return None;
            }
            let flags = be16(h, at + 2)?;
            let id = u32::from_be_bytes(*h.get(at + 4..)?.first_chunk()?);
            (pair(h, 8)?, pair(h, 24)?, id, 0, usize::from(flags & 0xfff8), flags & 1 != 0, at + 8, at)
        }
    };
    let len = h.len().checked_sub(payload)?;
    // All but the last carry whole units.
    if len == 0 || (more && len % 8 != 0) || offset + len > IP_MAX {
        return None;
    }
    let key = ListKey { src, dst, id, recirc_id, zone, is_v6: family == Family::V6, proto };
    let (start, end) = (offset, offset + len);
    Some(Part { key, start, end, is_last: !more, payload_at: l3 + payload, header_at: l3 + header_at })
}

/// Sorts the parts and says whether none is missing.
fn is_complete<T>(parts: &mut [(Part, T)]) -> bool {
    parts.sort_by_key(|(p, _)| p.start);
    let adjoin = parts.windows(2).all(|w| matches!(w, [(a, _), (b, _)] if a.end == b.start && !a.is_last));
    let is_first = parts.first().is_some_and(|(p, _)| p.start == 0);
    adjoin && is_first && parts.last().is_some_and(|(p, _)| p.is_last)
}

/// Puts sorted parts together; `None` if that is too long.
fn assemble<T: Carrier>(parts: &[(Part, T)]) -> Option<T> {
    let ((first, carrier), rest) = parts.split_first()?;
    let mut carrier = carrier.clone();
    let p = carrier.packet_mut();
    p.set_len(first.payload_at + (first.end - first.start));
    p.l2_pad = 0;
    for (part, item) in rest {
        let len = part.end - part.start;
        let bytes = item.packet().data().get(part.payload_at..part.payload_at + len)?;
        let at = p.len();
        p.push_back(len);
        p.data_mut().get_mut(at..)?.copy_from_slice(bytes);
    }
    let l3 = usize::from(p.l3_ofs);
    let total = p.len().checked_sub(l3).filter(|n| *n <= IP_MAX)?;
    let header = p.data_mut().get_mut(l3..first.payload_at)?;
    if first.key.is_v6 {
        let payload = u16::try_from(total - header_len::IPV6).ok()?;
        header.get_mut(4..6)?.copy_from_slice(&payload.to_be_bytes());
        let at = first.header_at.checked_sub(l3)?;
        header.get_mut(at + 2..at + 4)?.fill(0);
    } else {
        header.get_mut(2..4)?.copy_from_slice(&u16::try_from(total).ok()?.to_be_bytes());
        header.get_mut(6..8)?.fill(0);
        header.get_mut(10..12)?.fill(0);
        let s = finish(sum(header));
        header.get_mut(10..12)?.copy_from_slice(&s.to_be_bytes());
    }
    p.l4_ofs = u16::try_from(first.payload_at).ok()?;
    Some(carrier)
}

fn copy_addresses(whole: &Packet, p: &mut Packet, is_v6: bool) {
    let range = if is_v6 { 8..40 } else { 12..20 };
    let Some(new) = network(whole).get(range.clone()) else { return };
    let l3 = usize::from(p.l3_ofs);
    let Some(header) = p.data_mut().get_mut(l3..) else { return };
    let Some(field) = header.get_mut(range) else { return };
    let old = field.to_vec();
    field.copy_from_slice(new);
    if !is_v6 && let Some(f) = header.get_mut(10..12).and_then(|f| f.first_chunk_mut::<2>()) {
        *f = update_bytes(u16::from_be_bytes(*f), &old, new).to_be_bytes();
    }
}

/// The first fragment has the transport header: ports and checksum.
fn copy_transport(whole: &Packet, p: &mut Packet, payload_at: usize) {
    let end = p.len().saturating_sub(usize::from(p.l2_pad));
    let Some(new) = whole.l4_bytes().get(..end.saturating_sub(payload_at)) else { return };
    if let Some(old) = p.data_mut().get_mut(payload_at..end) {
        old.copy_from_slice(new);
    }
}

#[cfg(test)]
mod tests;
