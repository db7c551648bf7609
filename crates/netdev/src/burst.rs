//! Packets just received, in the form that their device has them in.
//!
//! Most packets only have to be looked at and sent. A driver whose buffers other ports can send lends them as a
//! [`Burst`]: a packet is made of one only if something is to be done to it. For all other devices a burst is
//! a [`Batch`] ([`Packets`]).

use crate::device::{TxOutcome, TxQueue};
use crate::rewrite::{Part, TAG, Tagging, rewrite_frames};
use packet::proto::{ethertype, header_len, ip_proto};
use packet::{BATCH_LEN, Batch, Checksum, NO_OFFSET, Packet};
use std::any::Any;

/// A packet's bytes by its place in a burst.
pub type Heads<'a> = [&'a [u8]; BATCH_LEN];

/// Packets that may be written to, by their places in a burst.
pub type Frames<'a> = [&'a mut [u8]; BATCH_LEN];

/// Numbers of bytes by place.
pub type Lengths = [u16; BATCH_LEN];

/// First bytes of a frame that have all headers of a common packet.
pub const HEAD: usize = 64;
/// As [`HEAD`], of those whose headers are longer ([`head_len`]): with options of all kinds but the longest.
pub const LONG_HEAD: usize = 96;
/// Bytes that heads alone can get or lose at their front: two tags.
pub const SMALL: usize = 8;

/// How many of a frame's first bytes [`Burst::heads`] has of its own at least, if the frame has so many. The first
/// [`HEAD`] bytes tell: of TCP over IPv6, where the flags are behind these, it is [`LONG_HEAD`].
#[inline(always)]
pub fn head_len(frame: &[u8]) -> usize {
    let Some(first) = frame.first_chunk::<HEAD>() else { return HEAD };
    let kind = |at: usize| u16::from_be_bytes([first[at], first[at + 1]]);
    let six = match kind(header_len::ETH - 2) {
        ethertype::IPV6 => header_len::ETH,
        tag if ethertype::is_vlan(tag) && kind(header_len::ETH + 2) == ethertype::IPV6 => header_len::ETH + 4,
        _ => return HEAD,
    };
    if first[six + 6] == ip_proto::TCP { LONG_HEAD } else { HEAD }
}

/// Up to [`BATCH_LEN`] packets, each at its place. A place is empty once its packet was taken out.
pub trait Burst: Send {
    /// Number of places.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets the first [`Burst::len`] of `heads` to the bytes of the packets: all of an Ethernet frame with which nothing
    /// is left to be done (checksums, segmentation) or that [`Burst::unfinished`] names, and none of any other packet. Of a longer frame only the first [`head_len`]
    /// bytes need to be its own, and those behind may be any; a packet that is taken out is whole.
    fn heads<'a>(&'a mut self, heads: &mut Heads<'a>);

    /// Places of packets that [`Burst::heads`] shows though something is left to be done with them. They are sent from
    /// the burst only by devices that take all kinds of unfinished packets.
    fn unfinished(&self) -> u32 {
        0
    }

    /// Takes the packet at a place out.
    fn take(&mut self, place: usize) -> Option<Packet>;

    /// Puts a packet that was taken out of a place, and not changed, back. Refused if it is in other memory than it was.
    fn put(&mut self, place: usize, packet: Packet) -> Result<(), Packet>;

    /// Whether packets can be sent while they stay in the burst ([`Burst::copy`], [`TxQueue::send_copies`]).
    fn can_copy(&self) -> bool {
        false
    }

    /// A packet as the one at a place, which stays, if this burst [`Burst::can_copy`].
    fn copy(&mut self, place: usize) -> Option<Packet> {
        let _ = place;
        None
    }

    /// What the device made of the packet's addresses and ports (RSS); 0 if it did not.
    fn rss_hash(&self, place: usize) -> u32 {
        let _ = place;
        0
    }

    /// Places of packets whose transport checksums the device has found right, or that do not have them yet.
    fn verified(&self) -> u32 {
        0
    }

    /// As [`Burst::verified`], of the packets at the places `bits`. Where [`Burst::heads`] has not all of the packets
    /// ([`Burst::is_whole`]), those of TCP and UDP over untagged IPv4 without options that are not known to be right
    /// are looked at for that.
    fn verify(&mut self, bits: u32) -> u32 {
        bits & self.verified()
    }

    /// Makes each packet of the shapes that [`Burst::heads`] shows longer at its front by so many bytes, and sets that of
    /// `frames` to it, its first bytes being whatever they were: all of it, or, if it grew by [`SMALL`] bytes at most, what
    /// has grown of its head ([`head_len`]). Returns the places of the packets that are; those that
    /// have no room stay as they are, as do those for which `by` is 0. What the device found out about them is forgotten.
    fn grow<'a>(&'a mut self, by: &Lengths, frames: &mut Frames<'a>) -> u32 {
        let _ = (by, frames);
        0
    }

    /// Changes the headers of packets where they lie, as far as they are of the shapes that [`Burst::heads`] shows, their
    /// [`Part`] has it for them, and the device can; others stay as they are, as do all that [`Burst::unfinished`] names. No place
    /// is in two parts. What the device found out about the packets is forgotten.
    fn rewrite(&mut self, parts: &mut [Part<'_>]) {
        rewrite_frames(self, parts);
    }

    /// Sets those of `frames` at the places `bits` to packets of the shapes that [`Burst::heads`] shows: all of a packet's
    /// bytes, or its head ([`head_len`]), for them to be changed. Returns the places of those packets; others stay as they are. What the
    /// device found out about them is forgotten. Of those that [`Burst::unfinished`] names, nothing is to be changed that a
    /// transport checksum has in it.
    fn edit<'a>(&'a mut self, bits: u32, frames: &mut Frames<'a>) -> u32 {
        let _ = (bits, frames);
        0
    }

    /// Whether [`Burst::heads`] has all of the packets' own bytes, and they can [`Burst::shrink`] by any number.
    fn is_whole(&self) -> bool {
        false
    }

    /// Whether packets can [`Burst::shrink`] by so many bytes.
    fn can_shrink(&self, by: usize) -> bool {
        let _ = by;
        self.is_whole()
    }

    /// Takes so many bytes, as [`Burst::can_shrink`] allows, off the front of each packet, which is longer than that. What the device found out about
    /// those packets is forgotten.
    fn shrink(&mut self, by: &Lengths) {
        let _ = by;
    }

    /// Drops all packets and has no places any more.
    fn clear(&mut self);

    /// The batch of which the burst is made, if it is made of one.
    fn as_batch(&mut self) -> Option<&mut Batch> {
        None
    }

    /// For a driver that looks for its own.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// All of `n` places as bits.
pub fn all_places(n: usize) -> u32 {
    if n >= BATCH_LEN { u32::MAX } else { (1 << n) - 1 }
}

/// Places by their bits, in order.
pub fn places(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(place)
    })
}

/// [`TxQueue::send_burst`] for a device that sends packets only as such.
pub fn send_as_batch<Q: TxQueue + ?Sized>(queue: &mut Q, burst: &mut dyn Burst, bits: u32) -> TxOutcome {
    if bits == all_places(burst.len())
        && let Some(batch) = burst.as_batch()
    {
        return queue.send(batch);
    }
    let mut batch: Batch = places(bits).filter_map(|place| burst.take(place)).collect();
    queue.send(&mut batch)
}

/// [`TxQueue::send_copies`] for a device that sends packets only as such.
pub fn send_copies_as_batch<Q: TxQueue + ?Sized>(
    queue: &mut Q,
    burst: &mut dyn Burst,
    bits: u32,
) -> TxOutcome {
    let mut batch: Batch = places(bits).filter_map(|place| burst.copy(place)).collect();
    queue.send(&mut batch)
}

/// What [`Burst::heads`] has for a packet.
#[inline]
pub fn plain_bytes(packet: &Packet) -> &[u8] {
    let is_plain = packet.packet_type == flow::PT_ETH
        && packet.offload.gso.is_none()
        && !matches!(packet.offload.checksum, Checksum::Partial { .. });
    if is_plain { packet.data() } else { &[] }
}

/// A burst of packets as such.
#[derive(Debug, Default)]
pub struct Packets(pub Batch);

impl Burst for Packets {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn heads<'a>(&'a mut self, heads: &mut Heads<'a>) {
        for (head, packet) in heads.iter_mut().zip(&self.0) {
            *head = plain_bytes(packet);
        }
    }

    fn take(&mut self, place: usize) -> Option<Packet> {
        let packet = self.0.get_mut(place)?;
        Some(std::mem::replace(packet, Packet::with_room(0, 0)))
    }

    fn put(&mut self, place: usize, packet: Packet) -> Result<(), Packet> {
        match self.0.get_mut(place) {
            Some(empty) => *empty = packet,
            None => return Err(packet),
        }
        Ok(())
    }

    fn can_copy(&self) -> bool {
        true
    }

    fn copy(&mut self, place: usize) -> Option<Packet> {
        self.0.get(place).cloned()
    }

    fn rss_hash(&self, place: usize) -> u32 {
        self.0.get(place).map_or(0, |packet| packet.rss_hash)
    }

    fn verified(&self) -> u32 {
        let good = |p: &Packet| p.offload.checksum == Checksum::Good;
        (0u32..).zip(&self.0).filter(|(_, p)| good(p)).map(|(place, _)| 1 << place).sum()
    }

    fn grow<'a>(&'a mut self, by: &Lengths, frames: &mut Frames<'a>) -> u32 {
        let mut grown = 0;
        let all = self.0.iter_mut().zip(by).zip(frames).enumerate();
        for (place, ((packet, by), frame)) in all.filter(|(_, ((_, by), _))| **by > 0) {
            forget_facts(packet);
            *frame = packet.push_front(usize::from(*by));
            grown |= 1 << place;
        }
        grown
    }

    fn rewrite(&mut self, parts: &mut [Part<'_>]) {
        for part in parts {
            for place in places(part.start()) {
                let Some(packet) = self.0.get_mut(place) else { continue };
                if part.how.layout(plain_bytes(packet)).is_none() {
                    continue;
                }
                forget_facts(packet);
                if part.how.tagging() == Tagging::Push {
                    packet.push_front(TAG);
                }
                part.how.apply(packet.data_mut());
                if part.how.tagging() == Tagging::Pop {
                    packet.pull_front(TAG);
                }
                part.note(place, packet.len());
            }
        }
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn shrink(&mut self, by: &Lengths) {
        for (packet, by) in self.0.iter_mut().zip(by).filter(|(_, by)| **by > 0) {
            packet.pull_front(usize::from(*by));
            forget_facts(packet);
        }
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn as_batch(&mut self) -> Option<&mut Batch> {
        Some(&mut self.0)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Forgets what is not true of the packet with another header.
fn forget_facts(packet: &mut Packet) {
    (packet.l2_5_ofs, packet.l3_ofs, packet.l4_ofs) = (NO_OFFSET, NO_OFFSET, NO_OFFSET);
    (packet.l2_pad, packet.rss_hash) = (0, 0);
    packet.offload.checksum = Checksum::Unknown;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bits_in_order() {
        assert_eq!(places(0b1010_0001).collect::<Vec<_>>(), [0, 5, 7]);
        assert_eq!([0, 1, 31, 32].map(all_places), [0, 1, u32::MAX >> 1, u32::MAX]);
    }

    #[test]
    fn heads_reach_to_the_flags_of_tcp() {
        let frame = |kinds: &[u8], proto_at: usize, proto| {
            let mut frame = vec![0; 120];
            frame[12..12 + kinds.len()].copy_from_slice(kinds);
            frame[proto_at] = proto;
            head_len(&frame)
        };
        assert_eq!(frame(&[0x86, 0xdd], 20, 6), LONG_HEAD);
        assert_eq!(frame(&[0x81, 0, 0, 1, 0x86, 0xdd], 24, 6), LONG_HEAD);
        assert_eq!(frame(&[0x88, 0xa8, 0, 1, 0x86, 0xdd], 24, 6), LONG_HEAD);
        assert_eq!(frame(&[0x81, 0, 0, 1, 0x86, 0xdd], 20, 6), HEAD);
        assert_eq!(frame(&[0x86, 0xdd], 20, 17), HEAD);
        assert_eq!(frame(&[8, 0], 23, 6), HEAD);
        assert_eq!(head_len(&[0x86; 63]), HEAD);
    }

    #[test]
    fn packets_keep_their_places() {
        let mut burst = Packets::default();
        (0..3).for_each(|n| burst.0.push(Packet::from_slice(&[n; 20])));
        burst.0[1].offload.checksum = Checksum::Partial { start: 0, offset: 0 };
        let mut heads: Heads<'_> = [&[]; BATCH_LEN];
        burst.heads(&mut heads);
        assert_eq!([heads[0], heads[1], heads[2]], [&[0; 20][..], &[], &[2; 20]]);
        let second = burst.take(1).unwrap();
        assert_eq!(burst.len(), 3);
        burst.put(1, second).unwrap();
        assert_eq!(burst.as_batch().unwrap()[1].data(), [1; 20]);
        let mut by = [0; BATCH_LEN];
        (by[0], by[2]) = (4, 1);
        let mut frames: Frames<'_> = std::array::from_fn(|_| &mut [][..]);
        assert_eq!(burst.grow(&by, &mut frames), 0b101);
        frames[0][..4].copy_from_slice(&[9; 4]);
        assert_eq!(frames.each_ref().map(|f| f.len())[..4], [24, 0, 21, 0]);
        by = [0; BATCH_LEN];
        (by[0], by[1]) = (3, 20);
        burst.shrink(&by);
        let lens: Vec<usize> = burst.0.iter().map(Packet::len).collect();
        assert_eq!((lens, &burst.0[0].data()[..2]), (vec![21, 0, 21], &[9, 0][..]));
        assert!(burst.put(3, Packet::from_slice(&[])).is_err() && burst.take(3).is_none());
        burst.clear();
        assert!(burst.is_empty());
    }
}
