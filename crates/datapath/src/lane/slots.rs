//! Megaflows as the lane knows them.

use super::NONE;
use super::shapes::{Shape, Union, Wanted};
use crate::PORTS_MAX;
use crate::branch::Branch;
use crate::megaflow::{Megaflow, MegaflowStats};
use crate::trail::Tracks;
use dpif::Action;
use flow::Tunnel;
use hashbrown::HashMap;
use std::sync::Arc;

/// Megaflows that are remembered at a time.
pub(super) const SLOTS_MAX: usize = 1 << 18;
/// Room for them that is there from the start; beyond it, memory is asked for.
const SLOTS_READY: usize = 1 << 16;
/// Different masks among them.
pub(super) const MASKS_MAX: usize = 1 << 12;
/// Turns that are taken to find a slot to give up. There are more slots than packets in a batch.
const TURNS: usize = 2 * packet::BATCH_LEN + 1;

/// `out` of a slot whose megaflow does more than output.
pub(super) const ELSEWHERE: u32 = u32::MAX;
/// `out` of a slot whose megaflow tracks packets before it does more.
pub(super) const TRACKED: u32 = u32::MAX - 1;
/// `out` of slots whose megaflows put an outer header on and send, and take it off.
pub(super) const PUSHED: u32 = u32::MAX - 2;
pub(super) const POPPED: u32 = u32::MAX - 3;
/// `out` of a slot whose megaflow changes headers and sends.
pub(super) const EDITED: u32 = u32::MAX - 4;
/// `out` of a slot whose megaflow sends packets as they came to any number of ports but one.
pub(super) const FANNED: u32 = u32::MAX - 5;
/// `out` of a slot whose megaflow hashes packets and has them go round. All of these are no ports.
pub(super) const BRANCHED: u32 = u32::MAX - 6;
/// `in_port` of a slot without a megaflow.
const NOWHERE: u32 = u32::MAX;

/// Where packets come from that a slot is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From<'a> {
    /// The port of the megaflow.
    Port,
    /// A tunnel's outer header with this number, and what it says. Ports and numbers share what counts if they are
    /// the same modulo [`PORTS_MAX`]; no lane has both.
    Tunnel(u32, &'a Tunnel),
    /// The number of a port of input and the second number, to go round with.
    Branch(u32, u32),
}

/// A megaflow; of the common shape, in a cache line.
#[repr(align(64))]
pub(super) struct Slot<const N: usize> {
    value: [u64; N],
    in_port: u32,
    pub out: u32,
    mask: u32,
    /// The number of deaths in the table when the megaflow was last seen alive.
    checked: u32,
    pub stats: Arc<MegaflowStats>,
}

const _: () = assert!(size_of::<Slot<5>>() == 64);

struct SlotMask<const N: usize> {
    words: [u64; N],
    /// Slots that have it.
    users: u32,
}

pub(super) struct Slots<S: Shape<N>, const N: usize> {
    slots: Vec<Slot<N>>,
    /// The megaflows of the slots.
    flows: Vec<Option<Arc<Megaflow>>>,
    free: Vec<u32>,
    masks: Vec<SlotMask<N>>,
    free_masks: Vec<u32>,
    /// By input port, what the masks of its slots ask for.
    unions: Vec<Union<S, N>>,
    /// The same anew: of the slots that `hand` has met, and of newer ones.
    next_unions: Vec<[u64; N]>,
    /// Slots by the address of their megaflow, their port of input, and the kind of their packets.
    known: HashMap<(usize, u32, u16), u32>,
    hand: usize,
    /// Changes when a union does.
    version: u32,
    /// The union of a port without slots.
    nothing: Union<S, N>,
    /// Stands in where there is no megaflow.
    nobody: Arc<MegaflowStats>,
}

fn unite<const N: usize>(all: &mut [u64; N], mask: &[u64; N]) {
    all.iter_mut().zip(mask).for_each(|(all, m)| *all |= m);
}

impl<S: Shape<N>, const N: usize> Slots<S, N> {
    pub fn new() -> Self {
        Slots {
            slots: Vec::with_capacity(SLOTS_READY),
            flows: Vec::with_capacity(SLOTS_READY),
            free: Vec::with_capacity(SLOTS_READY),
            masks: Vec::with_capacity(MASKS_MAX),
            free_masks: Vec::with_capacity(MASKS_MAX),
            unions: Vec::new(),
            next_unions: Vec::new(),
            known: HashMap::with_capacity(SLOTS_READY),
            hand: 0,
            version: 0,
            nothing: Union::default(),
            nobody: Arc::default(),
        }
    }

    /// The bits that count of a packet that came in by `in_port`: at least those of the masks of the port's slots.
    #[inline(always)]
    pub fn union(&self, in_port: u32) -> &Union<S, N> {
        self.unions.get(in_port as usize % PORTS_MAX).unwrap_or(&self.nothing)
    }

    /// A number that changes when some union does.
    #[inline(always)]
    pub fn version(&self) -> u32 {
        self.version
    }

    #[inline(always)]
    pub fn get(&self, at: u32) -> Option<&Slot<N>> {
        self.slots.get(at as usize)
    }

    pub fn flow(&self, at: u32) -> Option<&Arc<Megaflow>> {
        self.flows.get(at as usize)?.as_ref()
    }

    /// Whether a slot's megaflow is alive and matches.
    #[inline(always)]
    pub fn fits(&mut self, at: u32, in_port: u32, w: &[u64; N], deaths: u32) -> bool {
        let Some(slot) = self.slots.get(at as usize) else { return false };
        let Some(mask) = self.masks.get(slot.mask as usize) else { return false };
        let differs = (0..N).fold(0, |d, i| d | ((w[i] & mask.words[i]) ^ slot.value[i]));
        if differs != 0 || slot.in_port != in_port {
            return false;
        }
        slot.checked == deaths || self.is_alive(at, deaths)
    }

    #[cold]
    fn is_alive(&mut self, at: u32, deaths: u32) -> bool {
        let is_alive = self.flow(at).is_some_and(|f| !f.is_dead());
        if let Some(slot) = self.slots.get_mut(at as usize).filter(|_| is_alive) {
            slot.checked = deaths;
        }
        is_alive
    }

    /// The slot of a packet's megaflow, a new one if need be, for which one that `is_needed` is not given up; [`NONE`] if
    /// there is no room.
    pub fn of(
        &mut self,
        flow: &Arc<Megaflow>,
        from: From<'_>,
        w: &[u64; N],
        deaths: u32,
        is_needed: impl Fn(u32) -> bool,
    ) -> u32 {
        let in_port = match from {
            From::Port => flow.key.in_port,
            From::Tunnel(number, _) | From::Branch(number, _) => number,
        };
        let kind = S::kind(w);
        let known = (Arc::as_ptr(flow) as usize, in_port, kind);
        if let Some(at) = self.known.get(&known) {
            return *at;
        }
        let (key, mask) = (&flow.key, &flow.mask.mask);
        let wanted = match from {
            From::Port => S::wanted(key, mask, None, kind),
            From::Tunnel(_, tunnel) => S::wanted(key, mask, Some(tunnel), kind),
            From::Branch(_, recirc_id) => Wanted::of_branch::<S>(key, mask, recirc_id, kind),
        };
        let Some(wanted) = wanted else { return NONE };
        let Some(at) = self.free_slot(is_needed) else { return NONE };
        let Some(mask) = self.mask(&wanted.mask) else {
            self.free.push(at);
            return NONE;
        };
        let out = match flow.actions.as_slice() {
            [Action::Output(port)] => port.0,
            _ if flow.edit.is_some() => EDITED,
            _ if flow.fan.is_some() => FANNED,
            _ if !S::HAS_WAYS => ELSEWHERE,
            [Action::TunnelPop(_)] => POPPED,
            _ if flow.push.is_some() => PUSHED,
            actions if Branch::of(actions).is_some() => BRANCHED,
            actions if Tracks::of(actions).is_some() => TRACKED,
            _ => ELSEWHERE,
        };
        let (value, stats) = (wanted.value, Arc::clone(&flow.stats));
        if let Some(slot) = self.slots.get_mut(at as usize) {
            // Whether it lives is looked at when it is found next.
            *slot = Slot { value, in_port, out, mask, checked: deaths.wrapping_sub(1), stats };
        }
        if let Some(place) = self.flows.get_mut(at as usize) {
            *place = Some(Arc::clone(flow));
        }
        self.known.insert(known, at);
        self.unite(in_port, &wanted.mask);
        at
    }

    /// Makes the bits of a mask count.
    fn unite(&mut self, in_port: u32, mask: &[u64; N]) {
        let port = in_port as usize % PORTS_MAX;
        if self.unions.len() <= port {
            self.unions.resize_with(port + 1, Union::default);
            self.next_unions.resize(port + 1, [0; N]);
        }
        unite(&mut self.next_unions[port], mask);
        let union = &mut self.unions[port];
        let mut words = union.words;
        unite(&mut words, mask);
        if words != union.words {
            *union = Union::new(words);
            self.version = self.version.wrapping_add(1);
        }
    }

    fn free_slot(&mut self, is_needed: impl Fn(u32) -> bool) -> Option<u32> {
        if let Some(at) = self.free.pop() {
            return Some(at);
        }
        if self.slots.len() < SLOTS_MAX {
            let stats = Arc::clone(&self.nobody);
            let (value, in_port, out) = ([0; N], NOWHERE, ELSEWHERE);
            self.slots.push(Slot { value, in_port, out, mask: 0, checked: 0, stats });
            self.flows.push(None);
            return Some((self.slots.len() - 1) as u32);
        }
        for _ in 0..TURNS {
            let at = self.turn();
            if !is_needed(at) {
                self.forget(at);
                return Some(at);
            }
        }
        None
    }

    /// The number of a mask; `None` if there are too many.
    fn mask(&mut self, words: &[u64; N]) -> Option<u32> {
        if let Some(at) = self.masks.iter().position(|m| m.users > 0 && m.words == *words) {
            self.masks[at].users += 1;
            return Some(at as u32);
        }
        let new = SlotMask { words: *words, users: 1 };
        if let Some(at) = self.free_masks.pop() {
            self.masks[at as usize] = new;
            return Some(at);
        }
        if self.masks.len() >= MASKS_MAX {
            return None;
        }
        self.masks.push(new);
        Some((self.masks.len() - 1) as u32)
    }

    /// Moves the hand on. When it has been everywhere, only what it met counts still.
    fn turn(&mut self) -> u32 {
        self.hand += 1;
        if self.hand >= self.slots.len() {
            self.hand = 0;
            for (union, next) in self.unions.iter_mut().zip(&mut self.next_unions) {
                let words = std::mem::replace(next, [0; N]);
                if words != union.words {
                    *union = Union::new(words);
                    self.version = self.version.wrapping_add(1);
                }
            }
        }
        let met = self.slots.get(self.hand).filter(|s| s.in_port != NOWHERE);
        let met = met.and_then(|s| Some((s.in_port as usize % PORTS_MAX, self.masks.get(s.mask as usize)?)));
        if let Some((port, mask)) = met
            && let Some(union) = self.next_unions.get_mut(port)
        {
            unite(union, &mask.words);
        }
        self.hand as u32
    }

    /// Lets go of a slot's megaflow.
    fn forget(&mut self, at: u32) {
        let Some(flow) = self.flows.get_mut(at as usize).and_then(Option::take) else { return };
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        self.known.remove(&(Arc::as_ptr(&flow) as usize, slot.in_port, S::kind(&slot.value)));
        (slot.in_port, slot.stats) = (NOWHERE, Arc::clone(&self.nobody));
        if let Some(mask) = self.masks.get_mut(slot.mask as usize) {
            mask.users -= 1;
            if mask.users == 0 {
                self.free_masks.push(slot.mask);
            }
        }
    }

    /// Lets go of dead megaflows in a few slots. Between batches.
    pub fn sweep(&mut self) {
        for _ in 0..self.slots.len().min(16) {
            let at = self.turn();
            if self.flow(at).is_some_and(|f| f.is_dead()) {
                self.forget(at);
                self.free.push(at);
            }
        }
    }

    pub fn clear(&mut self) {
        self.slots.clear();
        self.flows.clear();
        self.free.clear();
        self.masks.clear();
        self.free_masks.clear();
        self.unions.clear();
        self.next_unions.clear();
        self.version = self.version.wrapping_add(1);
        self.known.clear();
    }

    #[cfg(test)]
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.slots.len(), self.known.len(), self.free.len())
    }
}
