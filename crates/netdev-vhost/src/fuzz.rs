//! What the fuzz target runs: a guest and a front end that do anything at all. Nothing may panic, hang or grow.

use crate::mem::frames::Frames;
use crate::mem::{GuestMemory, Region, RegionSpec};
use crate::pool;
use crate::protocol::{Header, Request, RingAddresses, feature, protocol_feature};
use crate::ring::Ring;
use crate::ring::packed::Packed;
use crate::ring::split::Split;
use crate::session::{Rings, Session};
use crate::vring::{RxCount, Vring};
use netdev::{Burst, Heads};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use packet::{BATCH_LEN, Batch, Checksum, Gso, GsoKind, Packet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Bytes of guest memory, in two regions that meet.
const MEMORY: u64 = 1 << 16;
/// What the front end adds to guest addresses.
const USER: u64 = 0x7f00_0000_0000;
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const STEPS_MAX: usize = 400;

/// The input, from which every choice is taken; zeros when it is used up.
struct Choices<'d>(&'d [u8]);

impl Choices<'_> {
    fn u8(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }
    fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }
    fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }
    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.u8()).collect()
    }
    /// An address: mostly in guest memory, sometimes at its end, sometimes anywhere.
    fn address(&mut self) -> u64 {
        match self.u8() % 8 {
            0 => self.u64(),
            1 => MEMORY - u64::from(self.u8()),
            2 => MEMORY / 2 - u64::from(self.u8()),
            _ => self.u16().into(),
        }
    }
    fn length(&mut self) -> u32 {
        match self.u8() % 8 {
            0 => self.u32(),
            1 => 0,
            _ => (self.u16() % 4096).into(),
        }
    }
}

fn file(len: u64) -> Option<OwnedFd> {
    let fd = memfd_create(c"guest", MFdFlags::MFD_CLOEXEC).ok()?;
    ftruncate(&fd, len as i64).ok()?;
    Some(fd)
}

fn regions() -> [RegionSpec; 2] {
    [0, MEMORY / 2].map(|at| RegionSpec { guest: at, size: MEMORY / 2, user: USER + at, offset: at })
}

fn memory() -> Option<Arc<GuestMemory>> {
    let fd = file(MEMORY)?;
    let map = |spec| Some(Arc::new(Region::map(spec, fd.try_clone().ok()?).ok()?));
    let regions: Option<Vec<_>> = regions().into_iter().map(map).collect();
    GuestMemory::new(regions?).ok().map(Arc::new)
}

fn addresses() -> RingAddresses {
    RingAddresses {
        descriptors: USER + DESCRIPTORS,
        available: USER + AVAILABLE,
        used: USER + USED,
        log: None,
    }
}

/// A frame with offloads as the switch may have it.
fn frame(c: &mut Choices<'_>) -> Packet {
    let mut p = Packet::from_slice(&vec![c.u8(); 14 + usize::from(c.u16() % 4000)]);
    let kinds = [GsoKind::Tcp4, GsoKind::Tcp6, GsoKind::Udp];
    let choice = c.u8();
    if choice & 1 != 0 {
        p.offload.checksum = Checksum::Partial { start: c.u16(), offset: c.u16() };
    }
    if choice & 2 != 0 {
        let kind = kinds.get(usize::from(choice >> 2) % 3).copied().unwrap_or(GsoKind::Udp);
        p.offload.gso = Some(Gso { kind, size: c.u16(), ecn: choice & 16 != 0 });
    }
    p
}

/// One ring of either layout whose guest writes what it likes between any two calls.
pub fn ring(data: &[u8]) {
    let mut c = Choices(data);
    let Some(memory) = memory() else { return };
    let layout = c.u8();
    let features = feature::OFFERED & !(c.u64() & !feature::INDIRECT);
    let at = addresses();
    let made = if layout & 1 != 0 {
        Packed::new(&memory, (c.u8() & 0x7f).into(), &at, c.u16().into(), features, None).map(Ring::Packed)
    } else {
        Split::new(&memory, 1 << (layout >> 1 & 7), &at, 0, features, None).map(Ring::Split)
    };
    let Ok(ring) = made else { return };
    let mut vring = Vring::new(ring, memory.clone(), None, None, features);
    vring.ring.set_kicks(false);
    let mut batch = Batch::new();
    for _ in 0..STEPS_MAX {
        if c.0.is_empty() || step(&mut c, &memory, &mut vring, &mut batch).is_none() {
            break;
        }
        batch.clear();
    }
}

/// The guest or the device does something. `None` when the guest was caught: the port stops using the ring.
fn step(c: &mut Choices<'_>, memory: &GuestMemory, vring: &mut Vring, batch: &mut Batch) -> Option<()> {
    let size = u64::from(vring.ring.size());
    match c.u8() % 8 {
        // A descriptor as split rings have it, then one as packed rings have it.
        0 => {
            let at = DESCRIPTORS + u64::from(c.u8()) % size * 16;
            let rest = u64::from(c.length()) | u64::from(c.u8() & 7) << 32 | (u64::from(c.u8()) % size) << 48;
            let _ = memory.write(at, &c.address().to_le_bytes());
            let _ = memory.write(at + 8, &rest.to_le_bytes());
        }
        1 => {
            let at = DESCRIPTORS + u64::from(c.u8()) % size * 16;
            let lap = if c.u8() & 1 != 0 { 1 << 7 } else { 1 << 15 };
            let flags = u64::from(c.u8() & 7) | lap;
            let rest = u64::from(c.length()) | u64::from(c.u16()) << 32 | flags << 48;
            let _ = memory.write(at, &c.address().to_le_bytes());
            let _ = memory.write(at + 8, &rest.to_le_bytes());
        }
        // More is available in a split ring.
        2 => {
            let mut index = [0; 2];
            memory.read(AVAILABLE + 2, &mut index).ok()?;
            let index = u16::from_le_bytes(index).wrapping_add(u16::from(c.u8()) % (size as u16 + 2));
            let _ = memory.write(AVAILABLE + 2, &index.to_le_bytes());
        }
        3 => {
            let at = AVAILABLE + 4 + 2 * (u64::from(c.u8()) % size);
            let _ = memory.write(at, &u16::from(c.u8()).to_le_bytes());
        }
        // Anything anywhere: tables, events, indices.
        4 => {
            let (at, n) = (c.address(), c.u8() % 48);
            let bytes = c.bytes(n.into());
            let _ = memory.write(at, &bytes);
        }
        5 => {
            let result = vring.receive(batch, &mut RxCount::default());
            if c.u8() & 1 != 0 {
                let _ = vring.transmit(batch, &mut 0);
            }
            return result.ok();
        }
        6 => return lend(c, memory, vring),
        _ => {
            let frames: Vec<Packet> = (0..=c.u8() % 4).map(|_| frame(c)).collect();
            let sent = vring.transmit(&frames, &mut 0).ok()?;
            assert!(sent <= frames.len(), "more was sent than there was");
            vring.finish();
        }
    }
    Some(())
}

/// A burst that stays with the guest, who goes on meanwhile: some of it goes back to the guest, some is looked at,
/// some is forgotten.
fn lend(c: &mut Choices<'_>, memory: &GuestMemory, vring: &mut Vring) -> Option<()> {
    let mut frames = Frames::default();
    let result = vring.receive_frames(&mut frames, &mut RxCount::default());
    let (at, n) = (c.address(), c.u8() % 48);
    let _ = memory.write(at, &c.bytes(n.into()));
    let all: Vec<u8> = (0..frames.len() as u8).filter(|_| c.u8() & 1 != 0).collect();
    match c.u8() % 4 {
        0 => {
            let mut heads: Heads<'_> = [&[]; BATCH_LEN];
            frames.heads(&mut heads);
            assert!(heads.iter().all(|head| head.len() <= pool::FRAME_MAX));
        }
        1 => {
            for place in all {
                let taken = frames.take(place.into())?;
                assert!(frames.take(place.into()).is_none(), "a frame twice");
                frames.put(place.into(), taken).ok()?;
            }
        }
        2 => {
            let _ = vring.transmit_frames(&frames, &all, &mut 0);
        }
        _ => {}
    }
    result.ok()
}

/// The rings of a session, without threads.
#[derive(Default)]
struct Plain(Vec<Option<Box<Vring>>>);

impl Rings for Plain {
    fn start(&mut self, index: usize, ring: Box<Vring>) {
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.0.get_mut(index) {
            *slot = Some(ring);
        }
    }
    fn stop(&mut self, index: usize) -> Option<u32> {
        self.0.get_mut(index)?.take().map(|mut v| v.stop())
    }
    fn enable(&mut self, _: usize, _: bool) {}
    fn announce(&mut self, _: [u8; 6]) {}
}

/// A front end that says anything in any order, and a guest that writes anything.
pub fn messages(data: &[u8]) {
    let mut c = Choices(data);
    let mut rings = Plain::default();
    let mut session = Session::new("fuzz");
    let Some(guest) = memory() else { return };
    for _ in 0..STEPS_MAX {
        if c.0.is_empty() {
            break;
        }
        let Some((request, payload, fds)) = message(&mut c) else { return };
        let bytes = Header::request(request, &payload, c.u8() & 1 != 0);
        let header = bytes.first_chunk().and_then(|h| Header::parse(h).ok());
        let Some(header) = header else { return };
        if session.handle(header, &payload, fds, &mut rings).is_err() {
            session.reset(&mut rings);
            session = Session::new("fuzz");
        }
        run(&mut c, &mut rings);
    }
    session.reset(&mut rings);
    assert!(rings.0.iter().all(Option::is_none), "a ring outlives its session");
    drop(guest);
}

/// A message: mostly one that makes sense, for otherwise nothing ever runs.
fn message(c: &mut Choices<'_>) -> Option<(Request, Vec<u8>, Vec<OwnedFd>)> {
    let words = |words: &[u64]| words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<u8>>();
    let ring = u64::from(c.u8() % 5);
    let value = |value: u64| words(&[ring | value << 32]);
    Some(match c.u8() % 12 {
        0 => (Request::SetFeatures, words(&[feature::OFFERED & c.u64()]), vec![]),
        1 => (Request::SetProtocolFeatures, words(&[protocol_feature::OFFERED & c.u64()]), vec![]),
        2 | 3 => {
            let mut payload = words(&[2]);
            for r in regions() {
                payload.extend(words(&[r.guest, r.size, r.user, r.offset]));
            }
            let fd = file(MEMORY)?;
            (Request::SetMemTable, payload, vec![fd.try_clone().ok()?, fd])
        }
        4 => (Request::SetVringNum, value(1 << (c.u8() % 9)), vec![]),
        5 => (Request::SetVringBase, value(c.u16().into()), vec![]),
        6 | 7 => {
            let a = addresses();
            let near = u64::from(c.u8() & 0x11);
            let flags = u64::from(c.u8() & 1) << 32;
            let log = c.address();
            (
                Request::SetVringAddr,
                words(&[ring | flags, a.descriptors + near, a.used, a.available, log]),
                vec![],
            )
        }
        8 => (Request::SetVringKick, words(&[ring | 1 << 8]), vec![]),
        9 => (Request::SetVringEnable, value(c.u8().into()), vec![]),
        10 => {
            let size = u64::from(c.u16() % 64);
            (Request::SetLogBase, words(&[size, c.u16().into()]), vec![file(4096)?])
        }
        _ => {
            let all = Request::ALL;
            let request = all.get(usize::from(c.u8()) % all.len()).copied()?;
            let n = usize::from(c.u8()) % 80;
            let fds: Option<Vec<_>> = (0..c.u8() % 4).map(|i| file(u64::from(i) << 12)).collect();
            (request, c.bytes(n), fds?)
        }
    })
}

/// Lets all rings work.
fn run(c: &mut Choices<'_>, rings: &mut Plain) {
    for (i, slot) in rings.0.iter_mut().enumerate() {
        let Some(vring) = slot else { continue };
        let memory = vring.memory.clone();
        let mut batch = Batch::new();
        for _ in 0..c.u8() % 3 {
            if step(c, &memory, vring, &mut batch).is_none() {
                break;
            }
            batch.clear();
        }
        let _ = match i % 2 {
            1 => vring.receive(&mut batch, &mut RxCount::default()),
            _ => vring.transmit(&[frame(c)], &mut 0).map(drop),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn guests_and_front_ends_that_do_anything(data in prop::collection::vec(any::<u8>(), 0..600)) {
            super::ring(&data);
            super::messages(&data);
        }
    }
}
