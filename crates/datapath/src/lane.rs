//! The short way: the common packet, straight from its bytes to its megaflow.
//!
//! A packet of the common shape (untagged IPv4 without options or fragments, TCP or UDP) is five words of its
//! own bytes. Of these, only the bits count that some megaflow of the input port looks at (their *union*): packets
//! that agree in them go the same way. A run of such packets is looked up once. A signature of the bits that count
//! leads, through a bucket that is one cache line, to a slot; a slot is a megaflow with its mask and key turned into
//! the same five words. What a slot says is checked against the packet, bit for bit of the megaflow's mask, so
//! that a wrong or old signature costs time and never sends a packet the wrong way.
//!
//! The union grows when a megaflow is met that looks at more, which makes other signatures of the packets of that port.

mod shape;
mod shapes;
mod signatures;
mod slots;
pub(crate) mod wide;

use crate::cpu::{Alike, prefetch};
use crate::key::Seed;
use crate::megaflow::Megaflow;
use arrayvec::ArrayVec;
use dpif::PortNo;
use flow::Tunnel;
use netdev::burst::all_places;
use packet::BATCH_LEN;
pub(crate) use shape::{Common, Words, flags_of, set_offsets, words, words_of};
pub(crate) use shapes::Shape;
use shapes::{Template, differ};
pub(crate) use signatures::NONE;
use signatures::Signatures;
use slots::{BRANCHED, EDITED, ELSEWHERE, FANNED, From, POPPED, PUSHED, Slots, TRACKED};
use std::sync::Arc;
pub(crate) use wide::Wide;

/// Packets of a batch, one after the other but for odd ones, that agree in all that counts.
pub(crate) struct Run<const N: usize> {
    /// Of its first packet.
    words: [u64; N],
    signature: u64,
    pub sum: Sum,
    /// [`NONE`] if its megaflow is not remembered.
    pub slot: u32,
}

/// The packets of a run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sum {
    /// In the batch.
    pub places: u32,
    pub packets: u32,
    pub bytes: u32,
    tcp_flags: u16,
}

impl<const N: usize> Run<N> {
    #[inline(always)]
    fn new(words: [u64; N], signature: u64) -> Self {
        Run { words, signature, sum: Sum::default(), slot: NONE }
    }

    pub fn tcp_flags(&self) -> u16 {
        self.sum.tcp_flags
    }
}

impl Sum {
    /// Adds packets that are alike, of which the first is at `place`.
    #[inline(always)]
    fn add(&mut self, place: usize, found: Alike) {
        self.places |= all_places(found.frames).checked_shl(place as u32).unwrap_or(0);
        self.packets += found.frames as u32;
        self.bytes += found.bytes;
        self.tcp_flags |= found.flags;
    }
}

#[inline(always)]
fn end<const N: usize>(runs: &mut ArrayVec<Run<N>, BATCH_LEN>, sum: Sum) {
    if let Some(run) = runs.last_mut() {
        run.sum = sum;
    }
}

/// Runs in a batch up to which the next one is expected to have trains.
const TRAINS_MIN: usize = BATCH_LEN / 2;

/// What a look at a batch found.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// Places of packets that are not of the shape.
    pub odd: u32,
    /// Places of packets whose megaflow is not remembered.
    pub unknown: u32,
    /// Of all packets but the odd ones.
    pub bytes: u64,
}

/// What a packet's megaflow does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// More than output.
    Elsewhere,
    /// It tracks packets, and counts only those that have no trail.
    Tracked,
    /// It puts an outer header on, and sends.
    Push,
    /// It takes the outer header off.
    Pop,
    /// It changes headers, and sends.
    Edit,
    /// It hashes packets and has them go round.
    Branch,
    /// It sends packets as they came, to any number of ports but one.
    Fan,
    Out(PortNo),
}

/// Who counts what passed, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub now_ms: u64,
    /// Whether the megaflows are of the thread's own table.
    pub is_owner: bool,
}

/// The last run of the batch before: the next one often goes on with it.
struct Last<S: Shape<N>, const N: usize> {
    /// Of its first packet, if `has_head`: to compare others with.
    head: S::Head,
    has_head: bool,
    words: [u64; N],
    signature: u64,
    in_port: u32,
    /// Of the unions then.
    version: u32,
    slot: u32,
}

impl<S: Shape<N>, const N: usize> Last<S, N> {
    const NONE: Self = Last {
        head: S::NO_HEAD,
        has_head: false,
        words: [0; N],
        signature: 0,
        in_port: 0,
        version: 0,
        slot: NONE,
    };
}

/// What one thread remembers of packets of the common shape.
pub(crate) type Lane = ShapeLane<Common, 5>;
/// What it remembers of others.
pub(crate) type WideLane = ShapeLane<Wide, { wide::WORDS }>;

/// What one thread remembers of packets of a shape.
pub(crate) struct ShapeLane<S: Shape<N>, const N: usize> {
    seed: [u64; 4],
    signatures: Signatures,
    slots: Slots<S, N>,
    runs: ArrayVec<Run<N>, BATCH_LEN>,
    /// See [`Lane::only_way`].
    only: Option<Way>,
    /// Lengths of packets by place, if [`Lane::note_lens`] was told.
    lens: [u32; BATCH_LEN],
    last: Last<S, N>,
    /// Slots that were found for packets of this batch one by one.
    singles: ArrayVec<u32, BATCH_LEN>,
}

impl<S: Shape<N>, const N: usize> ShapeLane<S, N> {
    pub fn new(seed: Seed) -> Self {
        let basis = seed.basis();
        let number = |n: u64| (basis ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) | 1;
        ShapeLane {
            seed: [number(1), number(2), number(3), number(4)],
            signatures: Signatures::new(),
            slots: Slots::new(),
            runs: ArrayVec::new(),
            only: None,
            lens: [0; BATCH_LEN],
            last: Last::NONE,
            singles: ArrayVec::new(),
        }
    }

    /// Looks at a batch: sorts its packets into runs and finds their slots. `deaths` tells when megaflows of the
    /// thread's table have died.
    #[inline]
    pub fn look(&mut self, in_port: u32, heads: &[&[u8]], deaths: u32) -> Seen {
        let have_trains = self.runs.len() <= TRAINS_MIN;
        let seen = match have_trains {
            true => self.sort(in_port, heads),
            false => self.sort_singles(in_port, heads),
        };
        self.find_slots(in_port, seen, deaths)
    }

    /// As [`ShapeLane::look`], at packets that are given as places, words and lengths.
    #[inline]
    pub fn look_at_words(
        &mut self,
        in_port: u32,
        packets: impl Iterator<Item = (usize, [u64; N], u32)>,
        deaths: u32,
    ) -> Seen {
        let bytes = self.gather(in_port, packets);
        self.find_slots(in_port, Seen { odd: 0, unknown: 0, bytes }, deaths)
    }

    /// Finds the slots of the runs that have none.
    #[inline(always)]
    fn find_slots(&mut self, in_port: u32, mut seen: Seen, deaths: u32) -> Seen {
        for run in self.runs.iter_mut().filter(|run| run.slot == NONE) {
            run.slot = self.signatures.first(run.signature);
            if let Some(slot) = self.slots.get(run.slot) {
                prefetch(slot);
            }
        }
        // Bits that all have, and that some have: the same if all go the same way.
        let (mut all, mut any) = (u32::MAX, 0);
        for run in &mut self.runs {
            if !self.slots.fits(run.slot, in_port, &run.words, deaths) {
                let mut others = self.signatures.all(run.signature);
                run.slot =
                    others.find(|at| self.slots.fits(*at, in_port, &run.words, deaths)).unwrap_or(NONE);
            }
            let out = match self.slots.get(run.slot) {
                Some(slot) => {
                    prefetch(&*slot.stats);
                    slot.out
                }
                None => {
                    seen.unknown |= run.sum.places;
                    ELSEWHERE
                }
            };
            (all, any) = (all & out, any | out);
        }
        self.only = (all == any).then(|| way(any));
        self.last.slot = self.runs.last().map_or(NONE, |run| run.slot);
        seen
    }

    /// Makes the runs of a batch that is expected to have trains: most packets are compared with the first of their run
    /// alone.
    #[inline(always)]
    fn sort(&mut self, in_port: u32, heads: &[&[u8]]) -> Seen {
        let ShapeLane { seed, signatures, slots, runs, last, singles, .. } = self;
        let (union, version) = (slots.union(in_port), slots.version());
        singles.clear();
        if (last.in_port, last.version) != (in_port, version) {
            (last.in_port, last.version, last.slot, last.has_head) = (in_port, version, NONE, false);
        }
        // Of the last run; written to it when it ends.
        let mut sum = Sum::default();
        if last.has_head {
            sum.add(0, S::template_again(&last.head, union).admits(heads));
        }
        let place = sum.packets as usize;
        if let ([run], true) = (&mut runs[..], place > 0 && place == heads.len()) {
            // All goes on as all of the batch before did. (What was just written in pieces is better not read as a whole.)
            (run.sum, run.slot) = (sum, last.slot);
            return Seen { odd: 0, unknown: 0, bytes: sum.bytes.into() };
        }
        runs.clear();
        if place > 0 {
            runs.push(Run { slot: last.slot, sum, ..Run::new(last.words, last.signature) });
        }
        let first = last.head;
        let mut template = if runs.is_empty() { S::Template::NONE } else { S::template_again(&first, union) };
        let mut odd = 0;
        // Of the last run's first packet.
        let (mut first_words, mut place) = (last.words, place);
        while let Some((head, others)) = heads.get(place..).and_then(<[_]>::split_first) {
            let Some(w) = S::words(head) else {
                odd |= 1 << place;
                place += 1;
                continue;
            };
            if runs.is_empty() || differ(&w, &first_words, &union.words) {
                first_words = w;
                end(runs, sum);
                sum = Sum::default();
                let signature = S::signature(seed, in_port, &w, &union.words);
                signatures.prefetch(signature);
                // A batch has no more runs than packets.
                let _ = runs.try_push(Run::new(w, signature));
                template = S::template(head, union);
            }
            sum.add(place, Alike { frames: 1, bytes: head.len() as u32, flags: S::flags(&w) });
            place += 1;
            let found = template.admits(others);
            sum.add(place, found);
            place += found.frames;
        }
        end(runs, sum);
        let head = template.head();
        last.has_head = head.is_some();
        if let (Some(head), Some(run)) = (head, runs.last()) {
            (last.words, last.signature, last.head) = (run.words, run.signature, head);
        }
        let bytes = runs.iter().map(|run| u64::from(run.sum.bytes)).sum();
        Seen { odd, unknown: 0, bytes }
    }

    /// As [`Lane::sort`], of a batch that is not expected to have trains: signatures are what packets are compared by first.
    #[inline(always)]
    fn sort_singles(&mut self, in_port: u32, heads: &[&[u8]]) -> Seen {
        let mut odd = 0;
        let packets = heads.iter().enumerate().filter_map(|(place, head)| match S::words(head) {
            Some(w) => Some((place, w, head.len() as u32)),
            None => {
                odd |= 1 << place;
                None
            }
        });
        let bytes = self.gather(in_port, packets);
        Seen { odd, unknown: 0, bytes }
    }

    /// Makes runs of packets; returns how many bytes they have.
    #[inline(always)]
    fn gather(&mut self, in_port: u32, packets: impl Iterator<Item = (usize, [u64; N], u32)>) -> u64 {
        let ShapeLane { seed, signatures, slots, runs, last, singles, .. } = self;
        let (seed, union) = (*seed, slots.union(in_port).words);
        runs.clear();
        singles.clear();
        last.has_head = false;
        let (mut bytes, mut before) = (0, 0);
        for (place, w, len) in packets {
            bytes += u64::from(len);
            let one = Alike { frames: 1, bytes: len, flags: S::flags(&w) };
            let signature = S::signature(&seed, in_port, &w, &union);
            if signature == before
                && let Some(run) = runs.last_mut()
                && !differ(&w, &run.words, &union)
            {
                run.sum.add(place, one);
                continue;
            }
            before = signature;
            signatures.prefetch(signature);
            let sum = Sum { places: 1 << place, packets: 1, bytes: len, tcp_flags: one.flags };
            // A batch has no more runs than packets.
            let _ = runs.try_push(Run { sum, ..Run::new(w, signature) });
        }
        bytes
    }

    /// Has no runs of the batch at hand.
    pub fn look_away(&mut self) {
        self.runs.clear();
        self.singles.clear();
        self.only = None;
    }

    /// Takes down what [`Lane::bytes`] adds up; most batches need nobody to.
    pub fn note_lens(&mut self, heads: &[&[u8]]) {
        self.lens.iter_mut().zip(heads).for_each(|(len, head)| *len = head.len() as u32);
    }

    /// What was taken down.
    pub fn lens(&self) -> &[u32; BATCH_LEN] {
        &self.lens
    }

    /// Bytes of the packets at these places.
    pub fn bytes(&self, places: u32) -> u64 {
        netdev::burst::places(places).filter_map(|p| self.lens.get(p)).map(|len| u64::from(*len)).sum()
    }

    /// The slot for one packet; [`NONE`] if its megaflow is not remembered.
    pub fn find(&mut self, in_port: u32, w: &[u64; N], deaths: u32) -> u32 {
        let signature = S::signature(&self.seed, in_port, w, &self.slots.union(in_port).words);
        let mut all = self.signatures.all(signature);
        all.find(|at| self.slots.fits(*at, in_port, w, deaths)).unwrap_or(NONE)
    }

    pub fn runs(&self) -> &[Run<N>] {
        &self.runs
    }

    pub fn flow(&self, at: u32) -> Option<&Arc<Megaflow>> {
        self.slots.flow(at)
    }

    /// What the megaflow of a slot does.
    #[inline]
    pub fn way(&self, at: u32) -> Option<Way> {
        Some(way(self.slots.get(at)?.out))
    }

    /// What is done with all runs of the batch, if it is the same.
    #[inline]
    pub fn only_way(&self) -> Option<Way> {
        self.only
    }

    /// Counts a packet of no run for a slot, which stays until the next batch. Returns whether it is counted.
    pub fn count_one(&mut self, at: u32, bytes: u64, w: &[u64; N], tally: Tally) -> bool {
        let Some(slot) = self.slots.get(at) else { return false };
        let counts = slot.out != TRACKED;
        if counts {
            slot.stats.count(1, bytes, S::flags(w), tally);
        }
        if !self.singles.contains(&at) {
            let _ = self.singles.try_push(at);
        }
        counts
    }

    /// Gives the megaflows what passed in the batch's runs.
    #[inline]
    pub fn credit(&self, tally: Tally) {
        for run in &self.runs {
            if let Some(slot) = self.slots.get(run.slot).filter(|s| s.out != TRACKED) {
                let sum = run.sum;
                slot.stats.count(sum.packets.into(), sum.bytes.into(), sum.tcp_flags, tally);
            }
        }
    }

    /// Gives them to those megaflows that only output.
    pub fn credit_outs(&self, tally: Tally) {
        for run in &self.runs {
            if let Some(slot) = self.slots.get(run.slot).filter(|s| matches!(way(s.out), Way::Out(_))) {
                let sum = run.sum;
                slot.stats.count(sum.packets.into(), sum.bytes.into(), sum.tcp_flags, tally);
            }
        }
    }

    /// Remembers the megaflow of a packet and, if `keeps`, the packet's signature. [`NONE`] if there is no room.
    pub fn learn(
        &mut self,
        in_port: u32,
        w: &[u64; N],
        flow: &Arc<Megaflow>,
        deaths: u32,
        keeps: bool,
    ) -> u32 {
        self.learn_from(From::Port, in_port, w, flow, deaths, keeps)
    }

    /// As [`Lane::learn`], of a packet out of the tunnel with this number, which stands for a port.
    pub fn learn_inside(
        &mut self,
        number: u32,
        tunnel: &Tunnel,
        w: &[u64; N],
        flow: &Arc<Megaflow>,
        deaths: u32,
    ) {
        self.learn_from(From::Tunnel(number, tunnel), number, w, flow, deaths, true);
    }

    /// As [`Lane::learn`], of a packet that goes round with `recirc_id`, which `number` stands for together with where it came
    /// in. Its hash is among its words.
    pub fn learn_branch(
        &mut self,
        number: u32,
        recirc_id: u32,
        w: &[u64; N],
        flow: &Arc<Megaflow>,
        deaths: u32,
        keeps: bool,
    ) {
        self.learn_from(From::Branch(number, recirc_id), number, w, flow, deaths, keeps);
    }

    fn learn_from(
        &mut self,
        from: From<'_>,
        in_port: u32,
        w: &[u64; N],
        flow: &Arc<Megaflow>,
        deaths: u32,
        keeps: bool,
    ) -> u32 {
        let is_needed = |at| self.singles.contains(&at) || self.runs.iter().any(|r| r.slot == at);
        let at = self.slots.of(flow, from, w, deaths, is_needed);
        if at != NONE && keeps {
            // Of what counts by now.
            let signature = S::signature(&self.seed, in_port, w, &self.slots.union(in_port).words);
            self.signatures.put(signature, at);
        }
        at
    }

    /// Lets go of dead megaflows in a few slots, and of old evictions. Once a millisecond, between batches.
    pub fn sweep(&mut self) {
        self.signatures.age();
        self.slots.sweep();
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.signatures.clear();
        self.slots.clear();
        self.runs.clear();
        self.only = None;
        self.singles.clear();
    }
}

#[inline(always)]
fn way(out: u32) -> Way {
    match out {
        ELSEWHERE => Way::Elsewhere,
        TRACKED => Way::Tracked,
        PUSHED => Way::Push,
        POPPED => Way::Pop,
        EDITED => Way::Edit,
        FANNED => Way::Fan,
        BRANCHED => Way::Branch,
        port => Way::Out(PortNo(port)),
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
pub(crate) mod tests;
