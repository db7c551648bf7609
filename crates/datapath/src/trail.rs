//! The trails of tracked packets: every look at the megaflows and every connection on a packet's way, remembered.
//!
//! A packet of an established connection goes round at least once: a megaflow sends it through `ct`, another decides what
//! to do with it in the state that it now has. All of that follows from the packet's own bytes (the [`Words`] of its
//! shape), from the connections that it belongs to, and from what these say of it. A trail holds the megaflows and
//! the connections' places of one direction of a connection, found by the bytes; every step still shows the packet to its
//! connection, and the trail is followed only as long as the connection answers as before. Where it does not, the
//! packet goes on from there like any other, and the trail is forgotten. A megaflow that is gone ends its trails too.

use crate::cpu::prefetch;
use crate::lane::Words;
use crate::megaflow::Megaflow;
use arrayvec::ArrayVec;
use conntrack::{PacketCt, Place, Request, Told};
use dpif::{Action, Ct, PortNo, SetKey};
use flow::ct_state;
use std::sync::Arc;

/// Connections on one trail.
pub(crate) const STEPS_MAX: usize = 4;
/// Trails of a thread.
const TRAILS_MAX: usize = 1 << 16;
/// Signatures in a bucket, which is a cache line.
const WAYS: usize = 8;
const BUCKETS: usize = TRAILS_MAX / WAYS * 2;
/// Of so many packets without a trail, one makes one.
const LEARN_ONE_IN: u32 = 4;
const FLAGS: u64 = 0xffff << 32;

/// What connection tracking said, as far as megaflows see it and it may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Said {
    pub told: Told,
    pub place: Place,
}

impl Said {
    pub fn new(ct: &PacketCt, place: Place) -> Self {
        let (state, mark, label) = (ct.meta.state, ct.meta.mark, ct.meta.label);
        Said { told: Told { state, mark, label }, place }
    }

    /// Whether committing the connection anew changes nothing of it: it is there, and has the mark and label that it is to get.
    fn has_what_is_committed(&self, ct: &Ct) -> bool {
        let Told { mark, label, .. } = self.told;
        Request::of(ct).is_plain()
            && ct.mark.as_ref().is_none_or(|m| (mark ^ m.key) & m.mask == 0)
            && ct.label.as_ref().is_none_or(|m| {
                ((label.hi ^ m.key.hi) & m.mask.hi) | ((label.lo ^ m.key.lo) & m.mask.lo) == 0
            })
    }
}

/// A megaflow that tracks the packet, and what comes of it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub flow: Arc<Megaflow>,
    pub said: Said,
    /// Where the connection is in memory, to ask for it.
    pub address: usize,
}

impl Step {
    pub fn zone(&self) -> u16 {
        Tracks::of(&self.flow.actions).map_or(0, |t| t.ct.zone)
    }
}

#[derive(Debug)]
pub(crate) struct Trail {
    words: Words,
    in_port: u32,
    /// Whether some megaflow asked for TCP flags, which change within a connection.
    is_about_flags: bool,
    pub steps: ArrayVec<Step, STEPS_MAX>,
    /// The megaflow behind the last step.
    pub last: Arc<Megaflow>,
    /// Whether its actions see what connection tracking said.
    pub shows_ct: bool,
    /// The port that packets leave by if nothing is done on the way but to show them to their connections.
    pub out: Option<PortNo>,
}

impl Trail {
    pub fn new(in_port: u32, words: Words, steps: ArrayVec<Step, STEPS_MAX>, last: &Arc<Megaflow>) -> Self {
        let asks = |f: &Megaflow| f.mask.mask.tcp_flags != 0;
        let is_about_flags = asks(last) || steps.iter().any(|s| asks(&s.flow));
        let shows_ct = !last.actions.iter().all(is_blind);
        let out = last_out(&last.actions, steps.last()).filter(|_| are_plain(&steps));
        Trail { words, in_port, is_about_flags, steps, last: Arc::clone(last), shows_ct, out }
    }

    fn is_of(&self, in_port: u32, w: &Words) -> bool {
        let flags = if self.is_about_flags { 0 } else { FLAGS };
        let same = (0..4).fold(0, |d, i| d | (self.words[i] ^ w[i]));
        same | ((self.words[4] ^ w[4]) & !flags) == 0 && self.in_port == in_port
    }

    pub fn is_dead(&self) -> bool {
        self.last.is_dead() || self.steps.iter().any(|s| s.flow.is_dead())
    }
}

/// The port that packets leave by after their last step if nothing else comes of the actions. (A connection that nobody has
/// answered yet stays new, and what lets it in commits it with each packet.)
fn last_out(actions: &[Action], step: Option<&Step>) -> Option<PortNo> {
    match actions {
        [Action::Output(port)] => Some(*port),
        [Action::Ct(ct), Action::Output(port)] => {
            let is_nothing = |s: &Step| s.zone() == ct.zone && s.said.has_what_is_committed(ct);
            step.is_some_and(is_nothing).then_some(*port)
        }
        _ => None,
    }
}

/// Whether packets are only shown to their connections, each of which they meet without the state of another.
fn are_plain(steps: &[Step]) -> bool {
    const TIES: u32 = ct_state::REL | ct_state::SNAT | ct_state::DNAT;
    let zones = || steps.iter().filter_map(|s| Tracks::of(&s.flow.actions)).map(|t| t.ct.zone);
    let is_plain = |s: &Step| {
        let tracks = Tracks::of(&s.flow.actions).filter(|t| t.edits.is_empty());
        let asks_nothing = |ct: &Ct| Request::of(ct).is_plain() && ct.mark.is_none() && ct.label.is_none();
        tracks.is_some_and(|t| asks_nothing(t.ct)) && s.said.told.state & TIES == 0
    };
    steps.iter().all(is_plain) && zones().zip(zones().skip(1)).all(|(a, b)| a != b)
}

/// Whether an action does the same whatever connection tracking said of the packet, and ends nothing.
fn is_blind(action: &Action) -> bool {
    matches!(action, Action::Output(_) | Action::Trunc(_)) || is_edit(action)
}

/// Whether an action changes headers or plain metadata, the same in every packet of one shape.
fn is_edit(action: &Action) -> bool {
    match action {
        Action::Set(SetKey::Tunnel(_)) => false,
        Action::Set(_) | Action::PushVlan { .. } | Action::PopVlan | Action::CtClear => true,
        _ => false,
    }
}

/// Actions that change headers, then track, then go round.
pub(crate) struct Tracks<'a> {
    pub edits: &'a [Action],
    pub ct: &'a Ct,
    pub recirc_id: u32,
}

impl<'a> Tracks<'a> {
    /// `None` if the actions are others.
    pub fn of(actions: &'a [Action]) -> Option<Self> {
        match actions {
            [edits @ .., Action::Ct(ct), Action::Recirc(recirc_id)] if edits.iter().all(is_edit) => {
                Some(Tracks { edits, ct, recirc_id: *recirc_id })
            }
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bucket([u64; WAYS]);

/// What one thread remembers of tracked packets.
pub(crate) struct Trails {
    seed: [u64; 4],
    /// Upper half of a signature, and one more than the place of its trail. None until there is a trail.
    buckets: Vec<Bucket>,
    trails: Vec<Option<Trail>>,
    free: Vec<u32>,
    hand: usize,
    unknown: u32,
}

impl Trails {
    pub fn new(basis: u64) -> Self {
        let number = |n: u64| (basis ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) | 1;
        Trails {
            seed: [number(5), number(6), number(7), number(8)],
            buckets: Vec::new(),
            trails: Vec::new(),
            free: Vec::new(),
            hand: 0,
            unknown: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.trails.is_empty()
    }

    #[inline(always)]
    fn signature(&self, in_port: u32, w: &Words) -> u64 {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product as u64) ^ ((product >> 64) as u64)
        };
        let [s0, s1, s2, s3] = self.seed;
        let link = fold(w[0] ^ s0, w[1] ^ s1 ^ u64::from(in_port).wrapping_mul(s2));
        let network = fold(w[3] ^ s2, w[2] ^ (w[4] & !FLAGS).rotate_left(13) ^ s3);
        fold(link ^ s3, network ^ s0)
    }

    /// The place of the trail of a packet that has just come in by `in_port`.
    #[inline]
    pub fn find(&self, in_port: u32, w: &Words) -> Option<u32> {
        self.find_signed(self.signature(in_port, w), in_port, w)
    }

    /// The signature of a packet, whose bucket is asked for.
    #[inline]
    pub fn sign(&self, in_port: u32, w: &Words) -> u64 {
        let signature = self.signature(in_port, w);
        if let Some(bucket) = self.buckets.get(signature as usize % BUCKETS) {
            prefetch(bucket);
        }
        signature
    }

    /// Asks for the trail that a signature leads to first.
    #[inline]
    pub fn ask(&self, signature: u64) {
        let Some(bucket) = self.buckets.get(signature as usize % BUCKETS) else { return };
        let first = bucket.0.iter().find(|entry| **entry >> 32 == signature >> 32);
        if let Some(trail) = first.and_then(|entry| self.get((*entry as u32).wrapping_sub(1))) {
            prefetch(&trail.words);
            prefetch(&trail.steps);
        }
    }

    /// The place of the trail of a packet with this signature.
    #[inline]
    pub fn find_signed(&self, signature: u64, in_port: u32, w: &Words) -> Option<u32> {
        let bucket = self.buckets.get(signature as usize % BUCKETS)?;
        let tag = signature >> 32;
        for entry in bucket.0 {
            if entry >> 32 == tag && entry as u32 != 0 {
                let at = entry as u32 - 1;
                if self.get(at).is_some_and(|t| t.is_of(in_port, w)) {
                    return Some(at);
                }
            }
        }
        None
    }

    #[inline]
    pub fn get(&self, at: u32) -> Option<&Trail> {
        self.trails.get(at as usize)?.as_ref()
    }

    /// Whether a packet that had no trail makes one.
    pub fn is_chosen(&mut self) -> bool {
        self.unknown = self.unknown.wrapping_add(1);
        self.unknown.is_multiple_of(LEARN_ONE_IN)
    }

    pub fn remember(&mut self, trail: Trail) {
        if self.buckets.is_empty() {
            self.buckets = vec![Bucket([0; WAYS]); BUCKETS];
        }
        let signature = self.signature(trail.in_port, &trail.words);
        let at = match self.free.pop() {
            Some(at) => at,
            None if self.trails.len() < TRAILS_MAX => {
                self.trails.push(None);
                (self.trails.len() - 1) as u32
            }
            None => self.step_hand() as u32,
        };
        if let Some(place) = self.trails.get_mut(at as usize) {
            *place = Some(trail);
        }
        let Some(bucket) = self.buckets.get_mut(signature as usize % BUCKETS) else { return };
        let tag = signature >> 32;
        let free = bucket.0.iter().position(|e| *e == 0 || e >> 32 == tag);
        bucket.0[free.unwrap_or((signature >> 29) as usize % WAYS)] = tag << 32 | u64::from(at + 1);
    }

    pub fn forget(&mut self, at: u32) {
        if let Some(trail) = self.trails.get_mut(at as usize)
            && trail.take().is_some()
        {
            self.free.push(at);
        }
    }

    fn step_hand(&mut self) -> usize {
        self.hand = (self.hand + 1) % self.trails.len().max(1);
        self.hand
    }

    /// Lets go of dead megaflows in a few trails.
    pub fn sweep(&mut self) {
        for _ in 0..self.trails.len().min(32) {
            let at = self.step_hand() as u32;
            if self.get(at).is_some_and(Trail::is_dead) {
                self.forget(at);
            }
        }
    }
}
