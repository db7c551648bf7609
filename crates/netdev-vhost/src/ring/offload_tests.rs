//! Frames with offloads and in many pieces, from guest to guest: lent ones arrive as those of which packets are made.

use super::tests::{BUFFERS, Driver, frame};
use super::*;
use crate::mem::frames::Frames;
use crate::protocol::feature;
use crate::vring::{RxCount, Vring};
use netdev::Burst as _;
use packet::{Batch, Offload, Packet};
use proptest::prelude::*;
use std::collections::VecDeque;

/// What asks for what: the header's `flags`, `gso_type`, `gso_size`, `csum_start`, `csum_offset`.
const HEADERS: [(u8, u8, u16, u16, u16); 13] = [
    (0, 0, 0, 0, 0),
    (1, 0, 0, 34, 16),
    (1, 1, 1448, 34, 16),
    (1, 0x81, 500, 34, 16),
    (1, 5, 1200, 34, 6),
    (2, 0, 0, 0, 0),
    (1, 4, 1428, 54, 16),
    (0, 1, 1448, 0, 0),
    // A checksum beyond most frames.
    (1, 0, 0, 1000, 16),
    (1, 1, 1444, 38, 16),
    (1, 4, 1424, 58, 16),
    // Not what the switch has a short way for.
    (1, 1, 1448, 46, 16),
    // What a frame that loses its tag has no longer.
    (1, 0, 0, 2, 0),
];
/// What is at a frame's Ethernet type: anything, TCP over IPv6, the same behind a tag.
const KINDS: [&[u8]; 3] =
    [&[], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 9, 6], &[0x81, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 9, 6]];

fn header((flags, gso_type, size, start, offset): (u8, u8, u16, u16, u16)) -> [u8; 12] {
    let [s0, s1] = size.to_ne_bytes();
    let [c0, c1] = start.to_ne_bytes();
    let [o0, o1] = offset.to_ne_bytes();
    [flags, gso_type, 0, 0, s0, s1, c0, c1, o0, o1, 0, 0]
}

/// A frame as its driver sends it.
#[derive(Clone, Debug)]
struct Shape {
    len: usize,
    cuts: Vec<u16>,
    indirect: bool,
    header: usize,
    kind: usize,
}

impl Shape {
    fn new(len: usize, cuts: &[u16], header: usize, kind: usize) -> Self {
        Shape { len, cuts: cuts.to_vec(), indirect: cuts.len() > 1, header, kind }
    }

    /// Its bytes.
    fn frame(&self, seed: u8) -> Vec<u8> {
        let mut bytes = frame(self.len, seed);
        // The length of a TCP header.
        bytes.iter_mut().skip(46).take(1).for_each(|b| *b = 0x80);
        bytes.iter_mut().skip(12).zip(KINDS[self.kind]).for_each(|(to, b)| *to = *b);
        bytes
    }
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let len = prop_oneof![14..100_usize, 60..3000_usize, Just(9014), Just(65_550)];
    let cuts = prop_oneof![
        Just(vec![]),
        Just(vec![12]),
        prop::collection::vec(0..1500_u16, 0..5),
        prop::collection::vec(1..40_u16, 60..70)
    ];
    let shape = (len, cuts, any::<bool>(), 0..HEADERS.len(), 0..KINDS.len());
    let shape = shape.prop_map(|(len, cuts, indirect, header, kind)| Shape {
        indirect: indirect || cuts.len() > 6,
        len,
        cuts,
        header,
        kind,
    });
    prop::collection::vec(shape, 1..12)
}

/// What a receiver's buffers are like: lengths of the parts of each.
fn room(kind: u8) -> (u64, &'static [&'static [u32]]) {
    const BIG: &[u32] = &[12, 16_384, 16_384, 16_384, 16_384, 100];
    const OFFLOADS: u64 = feature::GUEST_CSUM
        | feature::GUEST_TSO4
        | feature::GUEST_TSO6
        | feature::GUEST_ECN
        | feature::GUEST_USO4
        | feature::GUEST_USO6;
    match kind {
        0 => (OFFLOADS | feature::MRG_RXBUF, &[&[1536]]),
        1 => (OFFLOADS | feature::MRG_RXBUF, &[&[4096], &[200, 1000], &[30]]),
        2 => (OFFLOADS, &[BIG]),
        3 => (feature::GUEST_CSUM | feature::GUEST_TSO4, &[BIG]),
        _ => (feature::MRG_RXBUF, &[&[2048]]),
    }
}

/// Headers, without the number of buffers, and frames.
type Arrived = Vec<(Vec<u8>, Vec<u8>)>;

/// A guest that receives.
struct Receiver {
    driver: Driver,
    device: Vring,
    room: &'static [&'static [u32]],
    offered: VecDeque<(u16, Vec<(u64, u32)>)>,
    next: usize,
}

impl Receiver {
    fn new(kind: u8, is_packed: bool) -> Self {
        let (features, room) = room(kind);
        let size = if features & feature::MRG_RXBUF != 0 { 256 } else { 16 };
        let driver = Driver::new(size, is_packed, features | feature::VERSION_1);
        let device = driver.device();
        Receiver { driver, device, room, offered: VecDeque::new(), next: 0 }
    }

    fn offer(&mut self) {
        loop {
            let lens = self.room[self.next % self.room.len()];
            let parts: Vec<(u64, u32)> = lens.iter().map(|len| (self.driver.allocate(*len), *len)).collect();
            let Some(id) = self.driver.add(&parts, F_WRITE, lens.len() > 1) else { return };
            self.next += 1;
            self.offered.push_back((id, parts));
        }
    }

    /// Headers, without the number of buffers, and frames.
    fn arrived(&mut self) -> Arrived {
        let mut all = Arrived::new();
        let mut left = 0;
        for (id, written) in self.driver.used() {
            let (offered, parts) = self.offered.pop_front().expect("a buffer");
            assert_eq!(offered, id);
            let mut bytes = Vec::new();
            for (addr, len) in parts {
                let mut part = vec![0; len.min(written - bytes.len() as u32) as usize];
                self.driver.memory.read(addr, &mut part).expect("read");
                bytes.extend(part);
            }
            if left == 0 {
                left = u16::from_le_bytes([bytes[10], bytes[11]]);
                let body = bytes.split_off(12);
                bytes.truncate(10);
                all.push((bytes, body));
            } else {
                all.last_mut().expect("a frame").1.extend(bytes);
            }
            left -= 1;
        }
        assert_eq!(left, 0, "a frame's buffers are shown together");
        all
    }

    /// Sends `n` frames by `send`, which sends those from a place on.
    fn send(
        &mut self,
        n: usize,
        mut send: impl FnMut(&mut Vring, usize, &mut u32) -> usize,
    ) -> (Arrived, u32) {
        let (mut done, mut all, mut too_big) = (0, Vec::new(), 0);
        while done < n {
            self.offer();
            done += send(&mut self.device, done, &mut too_big);
            all.extend(self.arrived());
        }
        (all, too_big)
    }
}

/// A guest that sends.
struct Sender {
    driver: Driver,
    device: Vring,
}

impl Sender {
    fn new(is_packed: bool, in_order: bool) -> Self {
        let in_order = if in_order { feature::IN_ORDER } else { 0 };
        let driver = Driver::new(128, is_packed, feature::VERSION_1 | in_order);
        let device = driver.device();
        Sender { driver, device }
    }

    fn send(&mut self, shapes: &[Shape], seed: u8) {
        for (i, shape) in shapes.iter().enumerate() {
            let bytes = shape.frame(seed.wrapping_add(i as u8));
            let header = header(HEADERS[shape.header]);
            assert!(self.driver.send(header, &bytes, &shape.cuts, shape.indirect));
        }
    }
}

/// Puts 4 bytes in front of some lent frames, and takes as many off others; the twin does so with its packets.
fn move_fronts(frames: &mut Frames, twins: &mut Batch, [longer, shorter]: &[u32; 2]) {
    let mut by = [0; packet::BATCH_LEN];
    let mut grown: netdev::burst::Frames<'_> = std::array::from_fn(|_| &mut [][..]);
    let are_lent = |frames: &Frames, place: usize| frames.are_lent(1 << place);
    let places = |bits: u32| netdev::burst::places(bits & netdev::burst::all_places(twins.len()));
    let (longer, shorter): (Vec<usize>, Vec<usize>) = (
        places(*longer).filter(|place| are_lent(frames, *place)).collect(),
        places(*shorter & !longer).filter(|place| are_lent(frames, *place)).collect(),
    );
    longer.iter().for_each(|place| by[*place] = 4);
    assert_eq!(frames.grow(&by, &mut grown), longer.iter().map(|place| 1 << place).sum());
    for place in longer {
        let before = twins[place].data()[..14].to_vec();
        assert_eq!(grown[place][4..18], before);
        grown[place][..4].fill(0xaa);
        twins[place].push_front(4)[..4].fill(0xaa);
        forget_good(&mut twins[place]);
    }
    by = [0; packet::BATCH_LEN];
    shorter.iter().for_each(|place| by[*place] = 4);
    assert!(frames.can_shrink(4));
    frames.shrink(&by);
    for place in shorter {
        let is_lost = matches!(twins[place].offload.checksum, packet::Checksum::Partial { start: 0..4, .. });
        assert_eq!(are_lent(frames, place), !is_lost);
        twins[place].pull_front(4);
        forget_good(&mut twins[place]);
    }
}

/// Changes Ethernet addresses, of frames with which something is left to be done, too.
fn change_macs(frames: &mut Frames, twins: &mut Batch, bits: u32) {
    let bits = bits & netdev::burst::all_places(twins.len());
    let bits = netdev::burst::places(bits).filter(|place| frames.are_lent(1 << place));
    let bits = bits.fold(0, |bits, place| bits | 1 << place);
    let mut edited: netdev::burst::Frames<'_> = std::array::from_fn(|_| &mut [][..]);
    assert_eq!(frames.edit(bits, &mut edited), bits);
    for place in netdev::burst::places(bits) {
        edited[place][6..12].fill(0xbb);
        twins[place].data_mut()[6..12].fill(0xbb);
        forget_good(&mut twins[place]);
    }
}

/// What the sender says of a frame's checksum is forgotten when it is changed.
fn forget_good(packet: &mut Packet) {
    if packet.offload.checksum == packet::Checksum::Good {
        packet.offload.checksum = packet::Checksum::Unknown;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The slow twin makes packets of everything.
    #[test]
    fn lent_frames_arrive_as_packets_do(
        from_packed: bool, to_packed: bool, in_order: bool, kind in 0..5_u8,
        bursts in prop::collection::vec((shapes(), any::<u8>(), any::<u32>(), any::<[u32; 2]>()), 1..5),
    ) {
        let [mut lender, mut twin] = [(); 2].map(|()| Sender::new(from_packed, in_order));
        let [mut receiver, mut other] = [(); 2].map(|()| Receiver::new(kind, to_packed));
        let mut frames = Frames::default();
        let (mut lost, mut twins_lost) = (RxCount::default(), RxCount::default());
        for (shapes, seed, taken, moves) in &bursts {
            lender.send(shapes, *seed);
            twin.send(shapes, *seed);
            lender.device.receive_frames(&mut frames, &mut lost).expect("good guest");
            let mut packets = Batch::new();
            twin.device.receive(&mut packets, &mut twins_lost).expect("good guest");
            prop_assert_eq!(frames.len(), packets.len());
            prop_assert_eq!((lost.malformed, lost.too_big), (twins_lost.malformed, twins_lost.too_big));
            move_fronts(&mut frames, &mut packets, moves);
            change_macs(&mut frames, &mut packets, moves[0].rotate_left(7) ^ moves[1]);
            let mut unfinished = 0;
            let mut chosen = Vec::new();
            for (place, packet) in packets.iter().enumerate() {
                if !frames.are_lent(1 << place) {
                    continue;
                }
                let is_unfinished = packet.offload.gso.is_some()
                    || matches!(packet.offload.checksum, packet::Checksum::Partial { .. });
                unfinished |= u32::from(is_unfinished) << place;
                let of_frame: Vec<Offload> = frames.unfinished_at(1 << place).copied().collect();
                prop_assert_eq!(of_frame, if is_unfinished { vec![packet.offload] } else { vec![] });
                let copy = frames.copy(place).expect("lent");
                prop_assert_eq!((copy.data(), copy.offload), (packet.data(), packet.offload));
                if taken & (1 << place) != 0 {
                    let own = frames.take(place).expect("lent");
                    prop_assert_eq!((own.data(), own.offload), (packet.data(), packet.offload));
                    prop_assert!(frames.put(place, own).is_ok());
                }
                if receiver.device.takes(&packet.offload) {
                    chosen.push(place as u8);
                }
            }
            prop_assert_eq!(frames.unfinished(), unfinished);
            let arrived = receiver.send(chosen.len(), |ring, at, too_big| {
                ring.transmit_frames(&frames, &chosen[at..], too_big).expect("good guest")
            });
            let same: Vec<Packet> = chosen.iter().map(|place| packets[usize::from(*place)].clone()).collect();
            let expected = other.send(same.len(), |ring, at, too_big| {
                ring.transmit(&same[at..], too_big).expect("good guest")
            });
            prop_assert_eq!(arrived, expected);
            frames.clear();
            lender.device.receive_frames(&mut frames, &mut lost).expect("good guest");
            prop_assert_eq!(lender.driver.used().len(), shapes.len());
            twin.driver.used();
        }
    }
}

/// What a Linux guest sends stays with it: large segments in pages, and their acknowledgements.
#[test]
fn usual_frames_with_offloads_are_lent() {
    let mut sender = Sender::new(false, false);
    let shape = |len, cuts: &[u16], header| Shape::new(len, cuts, header, 0);
    sender.send(
        &[
            shape(66, &[], 1),
            shape(1514, &[], 1),
            shape(65_226, &[78, 32_768], 2),
            shape(9014, &[12], 0),
            shape(3000, &[], 4),
            Shape::new(65_226, &[98, 32_768], 6, 1),
            Shape::new(65_226, &[98, 32_768], 10, 2),
            shape(3000, &[], 9),
        ],
        1,
    );
    let mut frames = Frames::default();
    sender.device.receive_frames(&mut frames, &mut RxCount::default()).expect("good guest");
    assert_eq!(frames.len(), 8);
    assert!(frames.are_lent(0xff));
    assert_eq!(frames.unfinished(), 0b1111_0111);
    assert!(frames.fit(0b00100, 1522) && !frames.fit(0b01100, 1522));
    sender.driver.put(0, &[]);
    assert_eq!(sender.driver.used().len(), 0, "they are in use");
}

/// Outer headers are put in front of what is a packet then; what is to be finished first is left alone.
#[test]
fn frames_that_grow_become_packets() {
    let mut sender = Sender::new(true, false);
    let shape = |len, cuts: &[u16], header| Shape::new(len, cuts, header, 0);
    let shapes = [shape(60, &[], 0), shape(1514, &[], 1), shape(2000, &[12, 500], 0), shape(70, &[], 0)];
    sender.send(&shapes, 7);
    let mut frames = Frames::default();
    sender.device.receive_frames(&mut frames, &mut RxCount::default()).expect("good guest");
    let mut by = [0; packet::BATCH_LEN];
    by[..4].copy_from_slice(&[50, 50, 58, 0]);
    let mut grown: netdev::burst::Frames<'_> = std::array::from_fn(|_| &mut [][..]);
    assert_eq!(frames.grow(&by, &mut grown), 0b101);
    assert_eq!([0, 1, 2, 3].map(|place| grown[place].len()), [110, 0, 2058, 0]);
    grown[0][..50].fill(0xaa);
    grown[2][..58].fill(0xbb);
    assert_eq!((frames.are_lent(0b1010), frames.are_lent(1), frames.lens()[2]), (true, false, 2058));
    let mut expected = frame(2000, 9);
    expected[46] = 0x80;
    let third = frames.take(2).expect("a packet");
    assert_eq!((&third.data()[..58], &third.data()[58..]), (&[0xbb; 58][..], &expected[..]));
    assert!(frames.take(2).is_none() && frames.put(2, third).is_ok() && !frames.are_lent(0b100));
    assert_eq!(
        [0, 1, 2, 3].map(|place| frames.take(place).map(|p| p.len())),
        [110, 1514, 2058, 70].map(Some)
    );
}

/// Headers are changed in the copy, and the rest stays with the guest.
#[test]
fn frames_are_changed_where_they_are() {
    let mut sender = Sender::new(true, false);
    let shape = |len, cuts: &[u16], header| Shape::new(len, cuts, header, 0);
    let shapes = [shape(60, &[], 0), shape(1514, &[], 1), shape(2000, &[12, 500], 0), shape(70, &[], 0)];
    sender.send(&shapes, 7);
    let mut frames = Frames::default();
    sender.device.receive_frames(&mut frames, &mut RxCount::default()).expect("good guest");
    let before = [0, 1, 2, 3].map(|place| frames.packet_of(place).expect("lent").data().to_vec());
    let mut changed: netdev::burst::Frames<'_> = std::array::from_fn(|_| &mut [][..]);
    assert_eq!(frames.edit(0b0111, &mut changed), 0b0111);
    assert_eq!([0, 1, 2, 3].map(|place| changed[place].len()), [60, 64, 64, 0]);
    changed[0][..6].fill(0xaa);
    changed[1][..6].fill(0xcc);
    changed[2][..6].fill(0xbb);
    assert!(frames.are_lent(0b1111) && frames.alike().is_none());
    assert_eq!(frames.unfinished(), 0b0010);
    for (place, mac) in [(0, Some(0xaa)), (1, Some(0xcc)), (2, Some(0xbb)), (3, None)] {
        let mut expected = before[place].clone();
        mac.into_iter().for_each(|mac| expected[..6].fill(mac));
        assert_eq!(frames.take(place).expect("a frame").data(), expected, "{place}");
    }
}

/// What arrives when the guest overwrites all that it sent once it was received: the copied head, as it was changed, and
/// behind it what the guest wrote, for nothing else was read before.
fn arrives_from(shape: &Shape, by: i32, is_packed: bool) -> (Vec<u8>, Vec<u8>) {
    let mut sender = Sender::new(is_packed, false);
    sender.send(std::slice::from_ref(shape), 3);
    let mut frames = Frames::default();
    sender.device.receive_frames(&mut frames, &mut RxCount::default()).expect("good guest");
    let mut moved = [0; packet::BATCH_LEN];
    moved[0] = by.unsigned_abs() as u16;
    let mut changed: netdev::burst::Frames<'_> = std::array::from_fn(|_| &mut [][..]);
    let mut expected = shape.frame(3);
    let own = netdev::burst::head_len(&expected).min(shape.len);
    expected[own..].fill(0xee);
    if by > 0 {
        assert_eq!(frames.grow(&moved, &mut changed), 1);
        changed[0][..4].fill(0xaa);
        assert_eq!(changed[0].len(), own + 4);
        expected.splice(0..0, [0xaa; 4]);
    } else if by < 0 {
        frames.shrink(&moved);
        expected.drain(..4);
    }
    assert!(frames.are_lent(1));
    let end = sender.driver.buffer;
    sender.driver.put(BUFFERS, &vec![0xee; (end - BUFFERS) as usize]);
    let mut receiver = Receiver::new(0, is_packed);
    let (arrived, _) = receiver
        .send(1, |ring, at, too_big| ring.transmit_frames(&frames, &[0][at..], too_big).expect("good guest"));
    (arrived[0].1.clone(), expected)
}

#[test]
fn a_payload_is_read_once() {
    for len in [60, 64, 65, 78, 96, 97, 1514, 9014] {
        let shapes =
            [(&[][..], 0, 0), (&[], 0, 1), (&[12], 0, 1), (&[12, 90], 1, 2), (&[13, 3], 6, 1), (&[], 2, 0)];
        // (Shorter ones have nothing at which a checksum would be.)
        for (cuts, header, kind) in shapes.into_iter().filter(|(_, header, _)| *header == 0 || len >= 78) {
            for by in [0, 4, -4] {
                let shape = Shape::new(len, cuts, header, kind);
                for is_packed in [false, true] {
                    let (arrived, expected) = arrives_from(&shape, by, is_packed);
                    assert_eq!(arrived, expected, "{shape:?} {by}");
                }
            }
        }
    }
}

/// TCP or UDP over IPv4, with its checksum.
fn checked(is_tcp: bool, payload: &[u8], padding: usize) -> Vec<u8> {
    let (header, proto, at) = if is_tcp { (20, 6, 50) } else { (8, 17, 40) };
    let mut f = vec![2; 12];
    f.extend([8, 0, 0x45, 0]);
    f.extend(((20 + header + payload.len()) as u16).to_be_bytes());
    f.extend([0, 0, 0x40, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    f.resize(34 + header, 0x50);
    f[at..at + 2].fill(0);
    f.extend(payload);
    let len = (header + payload.len()) as u32;
    let sum =
        packet::checksum::pseudo_v4(0x0a00_0001, 0x0a00_0002, proto, len) + packet::checksum::sum(&f[34..]);
    f[at..at + 2].copy_from_slice(&packet::checksum::finish(sum).to_be_bytes());
    f.resize(f.len() + padding, 9);
    f
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Checksums are looked at where the frames are: one that is right in any pieces, and wrong with one other bit.
    #[test]
    fn checksums_are_found_right(
        frames in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(any::<u8>(), 0..1500), 0..3_usize, prop::option::of(any::<(u16, u8)>()),
                prop::collection::vec(1..1000_u16, 0..4), 0..4_u8), 1..20),
    ) {
        let mut sender = Sender::new(false, false);
        let mut expected = (0, 0);
        for (place, (is_tcp, payload, padding, spoil, cuts, says)) in frames.iter().enumerate() {
            let mut bytes = checked(*is_tcp, payload, *padding);
            let end = bytes.len() - padding;
            if let Some((at, bit)) = spoil {
                bytes[34 + usize::from(*at) % (end - 34)] ^= 1 << (bit % 8);
            }
            let is_none = !is_tcp && bytes[40..42] == [0; 2];
            // That a checksum is right, or is to be filled in.
            let header = header(HEADERS[match says { 0 => 5, 1 => 1, _ => 0 }]);
            let known = *says < 2 && (*says == 0 || bytes.len() >= 52);
            prop_assume!(known || *says >= 2);
            expected.0 |= u32::from(known) << place;
            expected.1 |= u32::from(known || spoil.is_none() || is_none) << place;
            assert!(sender.driver.send(header, &bytes, cuts, cuts.len() > 1));
        }
        let mut lent = Frames::default();
        sender.device.receive_frames(&mut lent, &mut RxCount::default()).expect("good guest");
        let all = netdev::burst::all_places(frames.len());
        prop_assert!(lent.len() == frames.len() && lent.are_lent(all));
        prop_assert_eq!((lent.verified(), lent.verify(all)), expected);
        prop_assert_eq!(lent.verify(0x5555), expected.1 & 0x5555);
    }
}
