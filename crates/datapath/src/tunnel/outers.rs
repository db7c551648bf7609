//! The outer headers that a thread knows, and the megaflows of what came inside of each.
//!
//! Most packets of a tunnel share their outer header but for lengths, checksums and source port
//! ([`packet::tunnel::Outer`]). Each such header has a number, which stands for a port of input in a lane of its own:
//! what a packet's megaflow is follows from that number and from the inner packet's words.

use crate::key::Seed;
use crate::lane::{Lane, Words};
use crate::megaflow::Megaflow;
use flow::Tunnel;
use packet::tunnel::{Outer, TunnelKind};
use std::sync::Arc;

/// Outer headers that a thread remembers; each has a few places.
pub(crate) const OUTERS_MAX: usize = 1 << 13;
const WAYS: usize = 2;
/// How often a place is used before everything is forgotten, since numbers would come again.
pub(super) const AGES: u32 = if cfg!(test) { 1 << 7 } else { 1 << 15 };

struct Known {
    /// The tunnel's port, and what it is.
    port: u32,
    kind: TunnelKind,
    number: u32,
    outer: Outer,
}

pub(crate) struct Outers {
    pub lane: Lane,
    places: Vec<Option<Box<Known>>>,
    /// How often each place was used.
    ages: Vec<u16>,
    /// The place that was found last.
    last: usize,
}

impl Outers {
    pub fn new() -> Self {
        let mut places = Vec::new();
        places.resize_with(OUTERS_MAX, || None);
        Outers { lane: Lane::new(Seed::get()), places, ages: vec![0; OUTERS_MAX], last: 0 }
    }

    /// The number and length of a frame's outer header; `None` if it is not known, or something is wrong with
    /// the frame.
    #[inline]
    pub fn find(&mut self, port: u32, kind: TunnelKind, frame: &[u8], trusted: bool) -> Option<(u32, u16)> {
        let is_it = |k: &Known| k.port == port && k.kind == kind && k.outer.is_of(frame, trusted);
        if let Some(Some(known)) = self.places.get(self.last)
            && is_it(known)
        {
            return Some((known.number, known.outer.len() as u16));
        }
        let first = first_place(Outer::hash(frame, kind)?);
        let mut places = (first..).zip(self.places.get(first..first + WAYS)?);
        let (at, known) = places.find_map(|(at, k)| Some((at, k.as_ref().filter(|k| is_it(k))?)))?;
        self.last = at;
        Some((known.number, known.outer.len() as u16))
    }

    /// Remembers the outer header of `frame`, whatever was in its place before; returns its number. The packet
    /// inside is of `packet_type`.
    fn number(
        &mut self,
        port: u32,
        kind: TunnelKind,
        frame: &[u8],
        packet_type: u32,
        t: &Tunnel,
    ) -> Option<u32> {
        if let Some((number, _)) = self.find(port, kind, frame, true) {
            return Some(number);
        }
        let outer = Outer::new(frame, kind, packet_type, t)?;
        let hash = Outer::hash(frame, kind)?;
        let first = first_place(hash);
        let free = (first..first + WAYS).find(|at| self.places.get(*at).is_some_and(Option::is_none));
        // Of two in use, a bit that the place does not depend on chooses.
        let at = free.unwrap_or(first + (hash & 1) as usize);
        if u32::from(*self.ages.get(at)?) + 1 >= AGES {
            self.clear();
        }
        let age = self.ages.get_mut(at)?;
        *age += 1;
        let number = at as u32 | u32::from(*age) << 16;
        *self.places.get_mut(at)? = Some(Box::new(Known { port, kind, number, outer }));
        Some(number)
    }

    /// Remembers the megaflow of a packet that came out of a tunnel.
    pub fn learn(&mut self, seen: &Seen, w: &Words, flow: &Arc<Megaflow>, deaths: u32) {
        let Seen { port, kind, frame, packet_type, tunnel } = seen;
        if let Some(number) = self.number(*port, *kind, frame, *packet_type, tunnel) {
            self.lane.learn_inside(number, &Tunnel { tp_src: 0, ..tunnel.clone() }, w, flow, deaths);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.lane.clear();
        self.places.fill_with(|| None);
        self.ages.fill(0);
    }
}

pub(super) fn first_place(hash: u64) -> usize {
    (hash >> 32) as usize % (OUTERS_MAX / WAYS) * WAYS
}

/// A packet that came out of a tunnel, as it was.
pub(crate) struct Seen {
    pub port: u32,
    pub kind: TunnelKind,
    /// With its outer header.
    pub frame: Vec<u8>,
    /// Of the packet inside.
    pub packet_type: u32,
    pub tunnel: Tunnel,
}
