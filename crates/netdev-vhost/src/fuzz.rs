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
use netdev::burst::{SMALL, all_places, places, plain_bytes};
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
/// Where the tables of a second ring are, beyond those of the first.
const SECOND: u64 = 0x3000;
/// Where the guest has its buffers, so that some lie across the border of the regions.
const BUFFERS: u64 = 0x6000;
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

/// Of a ring whose tables begin at `at`.
fn addresses(at: u64) -> RingAddresses {
    let user = USER + at;
    RingAddresses {
        descriptors: user + DESCRIPTORS,
        available: user + AVAILABLE,
        used: user + USED,
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

/// A ring, and where its tables begin.
struct Party {
    vring: Vring,
    at: u64,
    features: u64,
}

impl Party {
    fn new(c: &mut Choices<'_>, memory: &Arc<GuestMemory>, at: u64) -> Option<Self> {
        let layout = c.u8();
        let features = feature::OFFERED & !(c.u64() & !feature::INDIRECT);
        let tables = addresses(at);
        let ring = if layout & 1 != 0 {
            let size = (c.u8() & 0x7f).into();
            Ring::Packed(Packed::new(memory, size, &tables, c.u16().into(), features, None).ok()?)
        } else {
            Ring::Split(Split::new(memory, 1 << (layout >> 1 & 7), &tables, 0, features, None).ok()?)
        };
        let vring = Vring::new(ring, memory.clone(), None, None, features);
        vring.ring.set_kicks(false);
        Some(Party { vring, at, features })
    }

    /// Makes buffers available as a driver would: of several pieces, with headers that ask for something.
    fn offer(&self, c: &mut Choices<'_>, memory: &GuestMemory, is_written: bool) -> Option<()> {
        let size = self.vring.ring.size();
        let mut place = self.vring.ring.base();
        for _ in 0..=c.u8() % 4 {
            let n = u16::from(1 + c.u8() % 5).min(size);
            let head = match &self.vring.ring {
                Ring::Packed(_) => place as u16 & 0x7fff,
                Ring::Split(_) => {
                    let mut index = [0; 2];
                    memory.read(self.at + AVAILABLE + 2, &mut index).ok()?;
                    let index = u16::from_le_bytes(index);
                    let head = index.wrapping_mul(n) % size;
                    let entry = self.at + AVAILABLE + 4 + 2 * u64::from(index % size);
                    let _ = memory.write(entry, &head.to_le_bytes());
                    let _ = memory.write(self.at + AVAILABLE + 2, &index.wrapping_add(1).to_le_bytes());
                    head
                }
            };
            for i in 0..n {
                let (addr, len) = (BUFFERS + u64::from(c.u16() & 0x7fff), LENGTHS[usize::from(c.u8() % 8)]);
                if i == 0 && !is_written {
                    let _ = memory.write(addr, &header(c));
                }
                let flags = u16::from(i + 1 < n) | if is_written { 2 } else { 0 };
                let slot = (u32::from(head) + u32::from(i)) % u32::from(size);
                let (flags, id, next) = match &self.vring.ring {
                    Ring::Packed(_) => {
                        let wraps = u32::from(head) + u32::from(i) >= u32::from(size);
                        let lap = if (place & 0x8000 != 0) != wraps { 1 << 7 } else { 1 << 15 };
                        (0, head, flags | lap)
                    }
                    Ring::Split(_) => (flags, (slot as u16 + 1) % size, 0),
                };
                let words = match &self.vring.ring {
                    Ring::Packed(_) => u64::from(len) | u64::from(id) << 32 | u64::from(next) << 48,
                    Ring::Split(_) => u64::from(len) | u64::from(flags) << 32 | u64::from(id) << 48,
                };
                let at = self.at + DESCRIPTORS + 16 * u64::from(slot);
                let _ = memory.write(at, &addr.to_le_bytes());
                let _ = memory.write(at + 8, &words.to_le_bytes());
            }
            let behind = (place & 0x7fff) + u32::from(n);
            let wraps = behind >= u32::from(size);
            place = (behind % u32::from(size)) | ((place & 0x8000) ^ if wraps { 0x8000 } else { 0 });
        }
        Some(())
    }
}

/// Who negotiated this takes whatever is left to be done.
const TAKES_ALL: u64 = feature::GUEST_CSUM
    | feature::GUEST_TSO4
    | feature::GUEST_TSO6
    | feature::GUEST_ECN
    | feature::GUEST_USO4
    | feature::GUEST_USO6;
/// Lengths of pieces of buffers.
const LENGTHS: [u32; 8] = [0, 10, 12, 14, 78, 1514, 4096, 20_000];

/// A virtio-net header, mostly one that makes sense.
fn header(c: &mut Choices<'_>) -> [u8; 12] {
    let choice = c.u8();
    let (start, offset) = if choice & 0x40 != 0 { (c.u16(), c.u16()) } else { (34, 16) };
    let [s0, s1] = start.to_ne_bytes();
    let [o0, o1] = offset.to_ne_bytes();
    let kind = [0, 1, 5, 4, 0x81, 3, 0, 1][usize::from(choice >> 3 & 7)];
    let size = if choice & 0x80 != 0 { c.u8() } else { 200 };
    [choice & 3, kind, 0, 0, size, 0, s0, s1, o0, o1, 0, 0]
}

/// Two rings of either layout, between which frames go, whose guest writes what it likes between any two calls.
pub fn ring(data: &[u8]) {
    let mut c = Choices(data);
    let Some(memory) = memory() else { return };
    let Some(mut from) = Party::new(&mut c, &memory, 0) else { return };
    let Some(mut to) = Party::new(&mut c, &memory, SECOND) else { return };
    let mut batch = Batch::new();
    for _ in 0..STEPS_MAX {
        if c.0.is_empty() {
            break;
        }
        let choice = c.u8();
        let done = match choice % 8 {
            0 => from.offer(&mut c, &memory, false),
            1 => to.offer(&mut c, &memory, true),
            2 => lend(&mut c, &memory, &mut from.vring, Some(&mut to)),
            _ if choice & 0x80 != 0 => step(&mut c, &memory, &mut to.vring, SECOND, &mut batch),
            _ => step(&mut c, &memory, &mut from.vring, 0, &mut batch),
        };
        if done.is_none() {
            break;
        }
        batch.clear();
    }
}

/// The guest or the device does something. `None` when the guest was caught: the port stops using the ring.
fn step(
    c: &mut Choices<'_>,
    memory: &GuestMemory,
    vring: &mut Vring,
    tables: u64,
    batch: &mut Batch,
) -> Option<()> {
    let size = u64::from(vring.ring.size());
    match c.u8() % 8 {
        // A descriptor as split rings have it, then one as packed rings have it.
        0 => {
            let at = tables + DESCRIPTORS + u64::from(c.u8()) % size * 16;
            let rest = u64::from(c.length()) | u64::from(c.u8() & 7) << 32 | (u64::from(c.u8()) % size) << 48;
            let _ = memory.write(at, &c.address().to_le_bytes());
            let _ = memory.write(at + 8, &rest.to_le_bytes());
        }
        1 => {
            let at = tables + DESCRIPTORS + u64::from(c.u8()) % size * 16;
            let lap = if c.u8() & 1 != 0 { 1 << 7 } else { 1 << 15 };
            let flags = u64::from(c.u8() & 7) | lap;
            let rest = u64::from(c.length()) | u64::from(c.u16()) << 32 | flags << 48;
            let _ = memory.write(at, &c.address().to_le_bytes());
            let _ = memory.write(at + 8, &rest.to_le_bytes());
        }
        // More is available in a split ring.
        2 => {
            let mut index = [0; 2];
            memory.read(tables + AVAILABLE + 2, &mut index).ok()?;
            let index = u16::from_le_bytes(index).wrapping_add(u16::from(c.u8()) % (size as u16 + 2));
            let _ = memory.write(tables + AVAILABLE + 2, &index.to_le_bytes());
        }
        3 => {
            let at = tables + AVAILABLE + 4 + 2 * (u64::from(c.u8()) % size);
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
        6 => return lend(c, memory, vring, None),
        _ => {
            let frames: Vec<Packet> = (0..=c.u8() % 4).map(|_| frame(c)).collect();
            let sent = vring.transmit(&frames, &mut 0).ok()?;
            assert!(sent <= frames.len(), "more was sent than there was");
            vring.finish();
        }
    }
    Some(())
}

/// Puts some bytes in front of frames, or takes some off.
fn move_fronts(c: &mut Choices<'_>, frames: &mut Frames) {
    let (is_growth, by) = (c.u8() & 1 == 0, [u16::from(c.u8()) % (SMALL as u16 + 1); BATCH_LEN]);
    let before = frames.lens().to_vec();
    if is_growth {
        let mut grown: netdev::burst::Frames<'_> = std::array::from_fn(|_| &mut [][..]);
        let bits = frames.grow(&by, &mut grown);
        grown.iter_mut().for_each(|frame| frame.fill(0xdd));
        for place in places(bits) {
            assert_eq!(
                frames.lens().get(place),
                before.get(place).map(|len| len + u32::from(by[0])).as_ref()
            );
            assert!(frames.head(place).iter().all(|b| *b == 0xdd), "the change was lost");
        }
    } else if frames.can_shrink(by[0].into()) {
        frames.shrink(&by);
        assert_eq!(frames.lens().len(), before.len());
    }
}

/// Changes the heads of frames.
fn change_heads(c: &mut Choices<'_>, frames: &mut Frames) -> Option<()> {
    let wanted = u32::from_le_bytes([c.u8(), c.u8(), 0, 0]);
    let mut changed: netdev::burst::Frames<'_> = std::array::from_fn(|_| &mut [][..]);
    let bits = frames.edit(wanted, &mut changed);
    let lens = changed.each_ref().map(|frame| frame.len());
    changed.iter_mut().for_each(|frame| frame.fill(0xee));
    assert_eq!(bits & !wanted, 0, "others were changed");
    for place in places(bits) {
        let front = frames.take(place)?.data().get(..lens[place])?.iter().all(|b| *b == 0xee);
        assert!(front, "the change was lost");
    }
    Some(())
}

/// A burst that stays with the guest, who goes on meanwhile: some of it goes to a guest, some is looked at, some is
/// forgotten, and the ring that it came from may stop.
fn lend(c: &mut Choices<'_>, memory: &GuestMemory, vring: &mut Vring, to: Option<&mut Party>) -> Option<()> {
    let mut frames = Frames::default();
    let result = vring.receive_frames(&mut frames, &mut RxCount::default());
    let (at, n) = (c.address(), c.u8() % 48);
    let _ = memory.write(at, &c.bytes(n.into()));
    let all: Vec<u8> = (0..frames.len() as u8).filter(|_| c.u8() & 1 == 0).collect();
    let mut sent = Some(());
    let choice = c.u8();
    if choice & 8 != 0 {
        vring.stop();
    }
    if choice & 32 != 0 {
        move_fronts(c, &mut frames);
    }
    if choice & 64 != 0 {
        let every = all_places(frames.len());
        assert_eq!(frames.verify(every) & !every, 0, "there is no such place");
    }
    match choice % 4 {
        0 => {
            let mut heads: Heads<'_> = [&[]; BATCH_LEN];
            frames.heads(&mut heads);
            assert!(heads.iter().all(|head| head.len() <= pool::FRAME_MAX + SMALL));
        }
        1 if choice & 4 != 0 => {
            let by = [c.u16() % 200; BATCH_LEN];
            let mut grown: netdev::burst::Frames<'_> = std::array::from_fn(|_| &mut [][..]);
            let bits = frames.grow(&by, &mut grown);
            assert!(bits == 0 || by[0] > 0);
            grown.iter_mut().for_each(|frame| frame.fill(0xee));
            assert_eq!(frames.lens().len(), frames.len());
            places(bits)
                .for_each(|place| assert!(frames.take(place).is_some() && !frames.are_lent(1 << place)));
        }
        1 if choice & 16 != 0 => change_heads(c, &mut frames)?,
        1 => {
            for place in all {
                let was_lent = frames.are_lent(1 << place);
                let unfinished = frames.unfinished() & (1 << place) != 0;
                let taken = frames.take(place.into())?;
                let is_plain = plain_bytes(&taken).len() == taken.len();
                assert!(!was_lent || is_plain != unfinished, "what is shown is not what is there");
                assert!(frames.take(place.into()).is_none(), "a frame twice");
                frames.put(place.into(), taken).ok()?;
            }
        }
        _ => {
            let bits = all.iter().map(|place| 1 << place).sum();
            let vring = match to {
                Some(to) => {
                    let takes = frames.unfinished_at(bits).all(|offload| to.vring.takes(offload));
                    assert!(takes || to.features & TAKES_ALL != TAKES_ALL);
                    &mut to.vring
                }
                None => vring,
            };
            match vring.transmit_frames(&frames, &all, &mut 0) {
                Ok(n) => assert!(n <= all.len(), "more was sent than there was"),
                Err(_) => sent = None,
            }
            vring.finish();
        }
    }
    result.ok().and(sent)
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
            let a = addresses(0);
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
            if step(c, &memory, vring, 0, &mut batch).is_none() {
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
