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
mod signatures;
mod slots;

use crate::cpu::prefetch;
use crate::key::Seed;
use crate::megaflow::Megaflow;
use arrayvec::ArrayVec;
use dpif::PortNo;
use packet::BATCH_LEN;
use shape::{Words, differ, flags_of};
pub(crate) use shape::{set_offsets, words};
pub(crate) use signatures::NONE;
use signatures::Signatures;
use slots::{ELSEWHERE, Slots};
use std::sync::Arc;

/// Packets of a batch, one after the other but for odd ones, that agree in all that counts.
pub(crate) struct Run {
    /// Of its first packet.
    words: Words,
    signature: u64,
    /// Places in the batch.
    pub places: u32,
    pub packets: u32,
    bytes: u32,
    tcp_flags: u16,
    /// [`NONE`] if its megaflow is not remembered.
    pub slot: u32,
}

impl Run {
    #[inline(always)]
    fn new(words: Words) -> Self {
        Run { words, signature: 0, places: 0, packets: 0, bytes: 0, tcp_flags: 0, slot: NONE }
    }
}

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
    Out(PortNo),
}

/// Who counts what passed, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub now_ms: u64,
    /// Whether the megaflows are of the thread's own table.
    pub is_owner: bool,
}

/// What one thread remembers.
pub(crate) struct Lane {
    seed: [u64; 4],
    signatures: Signatures,
    slots: Slots,
    runs: ArrayVec<Run, BATCH_LEN>,
    /// Lengths of the packets of the shape, by place.
    lens: [u32; BATCH_LEN],
    /// Slots that were found for packets of this batch one by one.
    singles: ArrayVec<u32, BATCH_LEN>,
}

impl Lane {
    pub fn new(seed: Seed) -> Self {
        let basis = seed.basis();
        let number = |n: u64| (basis ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) | 1;
        Lane {
            seed: [number(1), number(2), number(3), number(4)],
            signatures: Signatures::new(),
            slots: Slots::new(),
            runs: ArrayVec::new(),
            lens: [0; BATCH_LEN],
            singles: ArrayVec::new(),
        }
    }

    /// Looks at a batch: sorts its packets into runs and finds their slots. `deaths` tells when megaflows of the
    /// thread's table have died.
    #[inline]
    pub fn look(&mut self, in_port: u32, heads: &[&[u8]], deaths: u32) -> Seen {
        let mut seen = self.sort(in_port, heads);
        for run in &mut self.runs {
            run.slot = self.signatures.first(run.signature);
            if let Some(slot) = self.slots.get(run.slot) {
                prefetch(slot);
            }
        }
        for run in &mut self.runs {
            if !self.slots.fits(run.slot, in_port, &run.words, deaths) {
                let mut others = self.signatures.all(run.signature);
                run.slot =
                    others.find(|at| self.slots.fits(*at, in_port, &run.words, deaths)).unwrap_or(NONE);
            }
            match self.slots.get(run.slot) {
                Some(slot) => prefetch(&*slot.stats),
                None => seen.unknown |= run.places,
            }
        }
        seen
    }

    /// Makes the runs of a batch.
    #[inline(always)]
    fn sort(&mut self, in_port: u32, heads: &[&[u8]]) -> Seen {
        self.runs.clear();
        self.singles.clear();
        let union = self.slots.union(in_port);
        let mut seen = Seen::default();
        let mut run = Run::new([0; 5]);
        for (place, (head, len)) in heads.iter().zip(&mut self.lens).enumerate() {
            let Some(w) = words(head) else {
                seen.odd |= 1 << place;
                continue;
            };
            *len = head.len() as u32;
            seen.bytes += head.len() as u64;
            if run.packets == 0 || differ(&w, &run.words, &union) {
                end(&mut self.runs, &self.signatures, &self.seed, run, in_port, &union);
                run = Run::new(w);
            }
            run.places |= 1 << place;
            run.packets += 1;
            run.bytes += head.len() as u32;
            run.tcp_flags |= flags_of(&w);
        }
        end(&mut self.runs, &self.signatures, &self.seed, run, in_port, &union);
        seen
    }

    /// Bytes of the packets of the shape at these places.
    pub fn bytes(&self, places: u32) -> u64 {
        netdev::burst::places(places).filter_map(|p| self.lens.get(p)).map(|len| u64::from(*len)).sum()
    }

    /// The slot for one packet; [`NONE`] if its megaflow is not remembered.
    pub fn find(&mut self, in_port: u32, w: &Words, deaths: u32) -> u32 {
        let signature = signature(&self.seed, in_port, w, &self.slots.union(in_port));
        let mut all = self.signatures.all(signature);
        all.find(|at| self.slots.fits(*at, in_port, w, deaths)).unwrap_or(NONE)
    }

    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub fn flow(&self, at: u32) -> Option<&Arc<Megaflow>> {
        self.slots.flow(at)
    }

    /// What the megaflow of a slot does.
    #[inline]
    pub fn way(&self, at: u32) -> Option<Way> {
        let out = self.slots.get(at)?.out;
        Some(if out == ELSEWHERE { Way::Elsewhere } else { Way::Out(PortNo(out)) })
    }

    /// The port that all runs of the batch leave by, if it is one and nothing else is to be done.
    #[inline]
    pub fn only_out(&self) -> Option<PortNo> {
        let out = |run: &Run| self.slots.get(run.slot).map_or(ELSEWHERE, |s| s.out);
        let first = out(self.runs.first()?);
        (first != ELSEWHERE && self.runs.iter().all(|r| out(r) == first)).then_some(PortNo(first))
    }

    /// Counts a packet of no run for a slot, which stays until the next batch.
    pub fn count_one(&mut self, at: u32, bytes: u64, w: &Words, tally: Tally) {
        let Some(slot) = self.slots.get(at) else { return };
        slot.stats.count(1, bytes, flags_of(w), tally);
        if !self.singles.contains(&at) {
            let _ = self.singles.try_push(at);
        }
    }

    /// Gives the megaflows what passed in the batch's runs.
    #[inline]
    pub fn credit(&self, tally: Tally) {
        for run in &self.runs {
            if let Some(slot) = self.slots.get(run.slot) {
                slot.stats.count(run.packets.into(), run.bytes.into(), run.tcp_flags, tally);
            }
        }
    }

    /// Remembers the megaflow of a packet and, if `keeps`, the packet's signature. [`NONE`] if there is no room.
    pub fn learn(&mut self, in_port: u32, w: &Words, flow: &Arc<Megaflow>, deaths: u32, keeps: bool) -> u32 {
        let is_needed = |at| self.singles.contains(&at) || self.runs.iter().any(|r| r.slot == at);
        let at = self.slots.of(flow, deaths, is_needed);
        if at != NONE && keeps {
            // Of what counts by now.
            let signature = signature(&self.seed, in_port, w, &self.slots.union(in_port));
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
        self.singles.clear();
    }
}

/// Ends a run, if it has packets.
#[inline(always)]
fn end(
    runs: &mut ArrayVec<Run, BATCH_LEN>,
    signatures: &Signatures,
    seed: &[u64; 4],
    mut run: Run,
    in_port: u32,
    union: &Words,
) {
    if run.packets == 0 {
        return;
    }
    run.signature = signature(seed, in_port, &run.words, union);
    signatures.prefetch(run.signature);
    // A batch has no more runs than packets.
    let _ = runs.try_push(run);
}

/// A hash of the bits that count.
#[inline(always)]
fn signature(seed: &[u64; 4], in_port: u32, w: &Words, union: &Words) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ ((product >> 64) as u64)
    };
    let w: Words = std::array::from_fn(|i| w[i] & union[i]);
    let [s0, s1, s2, s3] = *seed;
    let port = u64::from(in_port).wrapping_mul(s2);
    let link = fold(w[0] ^ s0, w[1] ^ s1 ^ port);
    let network = fold(w[3] ^ s2, w[2] ^ w[4].rotate_left(13) ^ s3);
    fold(link ^ s3, network ^ s0)
}

#[cfg(test)]
#[path = "lane_tests.rs"]
pub(crate) mod tests;
