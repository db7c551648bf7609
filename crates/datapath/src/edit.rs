//! Megaflows that change headers and send: VLAN tags, Ethernet and IPv4 addresses, TTL, TOS, ports. Their actions are made
//! into one set of bits to keep and to set, and packets are changed a burst at a time, in the buffers of their device.
//!
//! Only packets of the lanes' shapes come here. What is different about one (its protocol is not the one whose ports are
//! set, the device cannot change it in place) leaves it to the actions themselves, which say what is right.

use crate::express::{Outs, Parts, add_out, take};
use crate::item::Items;
use crate::megaflow::Megaflow;
use crate::worker::{View, Worker};
use arrayvec::ArrayVec;
use dpif::{Action, PortNo, SetKey};
use netdev::burst::{Frames, Lengths, places};
use netdev::{Burst, Heads};
use packet::BATCH_LEN;
use packet::header::{EthKey, Ipv4Key, Masked, PortsKey};
use packet::proto::ip_proto;
use std::sync::Arc;

/// Ethernet addresses.
const MACS: usize = 12;
const ETHERNET: usize = 14;
const TAG: usize = 4;
/// An IPv4 header without options, and ports.
const NETWORK: usize = 24;
/// Where in these the header's own checksum, the protocol, the addresses and ports are.
const IP_SUM: usize = 10;
const PROTOCOL: usize = 9;
const ADDRESSES: usize = 12;
const PORTS: usize = 20;
/// More fragments, and the fragment's offset.
const FRAGMENT: u16 = 0x3fff;
/// Where the transport checksum is.
const TCP_SUM: usize = 20 + 16;
const UDP_SUM: usize = 20 + 6;
const CFI: u16 = 1 << 12;

/// Bits that stay and bits that are set, of `W` times 4 bytes, as they come out of little-endian loads.
#[derive(Clone, Debug)]
struct Bits<const W: usize> {
    keep: [u32; W],
    set: [u32; W],
}

impl<const W: usize> Bits<W> {
    const NONE: Self = Bits { keep: [u32::MAX; W], set: [0; W] };

    /// Sets also what `mask` says of the bytes from `at` on.
    fn put(&mut self, at: usize, key: &[u8], mask: &[u8]) {
        for (at, (key, mask)) in (at..).zip(key.iter().zip(mask)) {
            let shift = 8 * (at % 4);
            let (key, mask) = (u32::from(key & mask) << shift, u32::from(*mask) << shift);
            if let (Some(keep), Some(set)) = (self.keep.get_mut(at / 4), self.set.get_mut(at / 4)) {
                *keep &= !mask;
                *set = *set & !mask | key;
            }
        }
    }

    /// Changes bytes; returns them as they were and as they are.
    #[inline(always)]
    fn apply(&self, bytes: &mut [[u8; 4]; W]) -> ([u32; W], [u32; W]) {
        let old = bytes.map(u32::from_le_bytes);
        let new = std::array::from_fn(|i| old[i] & self.keep[i] | self.set[i]);
        *bytes = new.map(u32::to_le_bytes);
        (old, new)
    }

    /// Whether something of these words changes.
    fn touches(&self, words: std::ops::Range<usize>) -> bool {
        self.keep.get(words).is_some_and(|keep| keep.iter().any(|k| *k != u32::MAX))
    }
}

/// The first words of some bytes.
#[inline(always)]
fn words<const W: usize>(bytes: &mut [u8]) -> Option<&mut [[u8; 4]; W]> {
    bytes.as_chunks_mut().0.first_chunk_mut()
}

/// What becomes of the outermost tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tagging {
    Leave,
    /// TPID and TCI, as on the wire.
    Push([u8; TAG]),
    Pop,
}

/// What such a megaflow does.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub out: PortNo,
    tagging: Tagging,
    macs: Bits<{ MACS / 4 }>,
    network: Bits<{ NETWORK / 4 }>,
    /// Whether TOS, TTL or addresses change.
    changes_ip: bool,
    /// The protocol whose ports are set.
    ports_of: Option<u8>,
}

impl Edit {
    /// `None` if the actions are others.
    pub fn of(actions: &[Action]) -> Option<Box<Self>> {
        let (Action::Output(out), edits) = actions.split_last()? else { return None };
        let mut edit = Edit {
            out: *out,
            tagging: Tagging::Leave,
            macs: Bits::NONE,
            network: Bits::NONE,
            changes_ip: false,
            ports_of: None,
        };
        if edits.is_empty() || !edits.iter().all(|action| edit.add(action)) {
            return None;
        }
        edit.changes_ip = edit.network.touches(0..PORTS / 4);
        Some(Box::new(edit))
    }

    /// Takes in an action; false if it is none of these.
    fn add(&mut self, action: &Action) -> bool {
        match action {
            Action::Set(SetKey::Ethernet(m)) => self.set_macs(m),
            Action::Set(SetKey::Ipv4(m)) => self.set_network(m),
            Action::Set(SetKey::Tcp(m)) => return self.set_ports(m, ip_proto::TCP),
            Action::Set(SetKey::Udp(m)) => return self.set_ports(m, ip_proto::UDP),
            Action::PushVlan { tpid, tci } if self.tagging == Tagging::Leave => {
                let ([a, b], [c, d]) = (tpid.to_be_bytes(), (tci & !CFI).to_be_bytes());
                self.tagging = Tagging::Push([a, b, c, d]);
            }
            Action::PopVlan if self.tagging == Tagging::Leave => self.tagging = Tagging::Pop,
            _ => return false,
        }
        true
    }

    fn set_macs(&mut self, m: &Masked<EthKey>) {
        self.macs.put(0, &m.key.dst.0, &m.mask.dst.0);
        self.macs.put(6, &m.key.src.0, &m.mask.src.0);
    }

    fn set_network(&mut self, m: &Masked<Ipv4Key>) {
        let bytes = |k: &Ipv4Key| (k.src.to_be_bytes(), k.dst.to_be_bytes());
        let ((src, dst), (src_mask, dst_mask)) = (bytes(&m.key), bytes(&m.mask));
        self.network.put(1, &[m.key.tos], &[m.mask.tos]);
        self.network.put(8, &[m.key.ttl], &[m.mask.ttl]);
        self.network.put(ADDRESSES, &src, &src_mask);
        self.network.put(ADDRESSES + 4, &dst, &dst_mask);
    }

    fn set_ports(&mut self, m: &Masked<PortsKey>, proto: u8) -> bool {
        let bytes = |k: &PortsKey| [k.src.to_be_bytes(), k.dst.to_be_bytes()].concat();
        self.network.put(PORTS, &bytes(&m.key), &bytes(&m.mask));
        self.ports_of.replace(proto).is_none_or(|other| other == proto)
    }

    /// Where the network header of a frame is, if the frame is one that can be changed here.
    #[inline(always)]
    fn admits(&self, frame: &[u8]) -> Option<usize> {
        let mut l3 = ETHERNET;
        let mut kind = u16::from_be_bytes([*frame.get(MACS)?, *frame.get(MACS + 1)?]);
        if matches!(kind, 0x8100 | 0x88a8) {
            l3 += TAG;
            kind = u16::from_be_bytes([*frame.get(l3 - 2)?, *frame.get(l3 - 1)?]);
        }
        // (One that is to lose a tag which it has not got stays as it is.)
        let fits = (self.tagging != Tagging::Pop || l3 > ETHERNET) && frame.len() >= l3 + NETWORK;
        let changes = self.changes_ip || self.ports_of.is_some();
        let fits = fits
            && match kind {
                0x0800 => !changes || self.admits_network(frame.get(l3..)?),
                0x86dd => !changes,
                _ => false,
            };
        fits.then_some(l3)
    }

    /// Whether an IPv4 header is one of those that can be changed here: it has ports if they are set, and is no fragment.
    #[inline(always)]
    fn admits_network(&self, network: &[u8]) -> bool {
        let Some(header) = network.first_chunk::<NETWORK>() else { return false };
        let is_whole = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT == 0;
        is_whole && self.ports_of.is_none_or(|proto| proto == header[PROTOCOL])
    }

    /// Changes addresses, network header and ports of a frame that [`Edit::admits`], whose network header is at `l3`.
    #[inline(always)]
    fn change(&self, frame: &mut [u8], l3: usize) {
        words(frame).into_iter().for_each(|macs| _ = self.macs.apply(macs));
        if let Some(network) = frame.get_mut(l3..).filter(|_| self.changes_ip || self.ports_of.is_some()) {
            self.change_network(network);
        }
    }

    #[inline(always)]
    fn change_network(&self, network: &mut [u8]) {
        let Some((old, new)) = words(network).map(|header| self.network.apply(header)) else { return };
        let by = |word: usize| difference(old[word], new[word]);
        let (addresses, ports) = (by(ADDRESSES / 4) + by(ADDRESSES / 4 + 1), by(PORTS / 4));
        if self.changes_ip
            && let Some(sum) = network.get_mut(IP_SUM..IP_SUM + 2).and_then(|s| s.first_chunk_mut())
        {
            *sum = updated(*sum, by(0) + by(2) + addresses);
        }
        let at = match network.get(PROTOCOL) {
            Some(&ip_proto::TCP) => TCP_SUM,
            Some(&ip_proto::UDP) => UDP_SUM,
            _ => return,
        };
        let has_moved = (ADDRESSES / 4..NETWORK / 4).any(|word| old[word] != new[word]);
        let sum = network.get_mut(at..at + 2).and_then(|s| s.first_chunk_mut());
        // None stays none in UDP, and is none itself.
        if let Some(sum) = sum.filter(|sum| has_moved && (at == TCP_SUM || **sum != [0, 0])) {
            *sum = updated(*sum, addresses + ports);
            if at == UDP_SUM && *sum == [0, 0] {
                *sum = [0xff, 0xff];
            }
        }
    }
}

/// What 32 bits add to the sum behind a checksum (RFC 1624): `~m + m'`.
#[inline(always)]
fn difference(old: u32, new: u32) -> u64 {
    u64::from(!old) + u64::from(new)
}

/// A checksum with a sum of differences added, `HC' = ~(~HC + ~m + m')`. (The order of bytes does not matter to such sums,
/// RFC 1071, 2.)
#[inline(always)]
fn updated(sum: [u8; 2], by: u64) -> [u8; 2] {
    let total = u64::from(!u16::from_le_bytes(sum)) + by;
    let total = (total & 0xffff_ffff) + (total >> 32);
    let total = (total & 0xffff) + (total >> 16);
    let total = (total & 0xffff) + (total >> 16);
    let total = (total & 0xffff) + (total >> 16);
    (!(total as u16)).to_le_bytes()
}

/// What is to be done to the packets of a burst.
struct Plan<'e> {
    /// With the places of packets that can be changed.
    parts: ArrayVec<(&'e Edit, u32), BATCH_LEN>,
    /// By place: where the network header is, and how long the packet is, in the end as it leaves.
    l3s: [u8; BATCH_LEN],
    lens: [u32; BATCH_LEN],
    /// Places of packets that get a tag, and of the others.
    tagged: u32,
    others: u32,
}

impl<'e> Plan<'e> {
    fn new(burst: &mut dyn Burst, parts: impl Iterator<Item = (&'e Edit, u32)>) -> Self {
        let (parts_of, l3s, lens) = (ArrayVec::new(), [0; BATCH_LEN], [0; BATCH_LEN]);
        let mut plan = Plan { parts: parts_of, l3s, lens, tagged: 0, others: 0 };
        let (unfinished, can_pop) = (burst.unfinished(), burst.can_shrink(TAG));
        let mut heads: Heads<'_> = [&[]; BATCH_LEN];
        burst.heads(&mut heads);
        for (edit, bits) in parts.filter(|(edit, _)| can_pop || edit.tagging != Tagging::Pop) {
            plan.admit(edit, bits & !unfinished, &heads);
        }
        plan
    }

    fn admit(&mut self, edit: &'e Edit, bits: u32, heads: &Heads<'_>) {
        let mut admitted = 0;
        for place in places(bits) {
            if let Some(l3) = edit.admits(heads[place]) {
                (self.l3s[place], self.lens[place]) = (l3 as u8, heads[place].len() as u32);
                admitted |= 1 << place;
            }
        }
        match edit.tagging {
            Tagging::Push(_) => self.tagged |= admitted,
            Tagging::Leave | Tagging::Pop => self.others |= admitted,
        }
        // There are no more megaflows than packets.
        let _ = self.parts.try_push((edit, admitted));
    }

    /// Returns the places of the packets that were changed.
    fn run(&mut self, burst: &mut dyn Burst) -> u32 {
        let tagged = if self.tagged == 0 { 0 } else { self.push(burst) };
        tagged | if self.others == 0 { 0 } else { self.change(burst) }
    }

    /// Ports that changed packets leave by.
    fn outs(&self, done: u32) -> Outs {
        let mut outs = Outs::new();
        self.parts.iter().for_each(|(edit, bits)| add_out(&mut outs, edit.out, bits & done));
        outs
    }

    fn push(&mut self, burst: &mut dyn Burst) -> u32 {
        let mut by: Lengths = [0; BATCH_LEN];
        places(self.tagged).for_each(|place| by[place] = TAG as u16);
        let mut frames: Frames<'_> = std::array::from_fn(|_| &mut [][..]);
        let grown = burst.grow(&by, &mut frames);
        for (edit, bits) in &self.parts {
            let Tagging::Push(tag) = edit.tagging else { continue };
            for place in places(bits & grown) {
                let frame = &mut *frames[place];
                if let Some(inner) = frame.get_mut(TAG..) {
                    edit.change(inner, self.l3s[place].into());
                }
                frame.copy_within(TAG..TAG + MACS, 0);
                if let Some(to) = frame.get_mut(MACS..MACS + TAG) {
                    to.copy_from_slice(&tag);
                }
                self.lens[place] += TAG as u32;
            }
        }
        grown
    }

    fn change(&mut self, burst: &mut dyn Burst) -> u32 {
        let mut by: Lengths = [0; BATCH_LEN];
        let mut shrinks = false;
        let mut frames: Frames<'_> = std::array::from_fn(|_| &mut [][..]);
        let changed = burst.edit(self.others, &mut frames);
        for (edit, bits) in self.parts.iter().filter(|(edit, _)| !matches!(edit.tagging, Tagging::Push(_))) {
            for place in places(bits & changed) {
                edit.change(frames[place], self.l3s[place].into());
                if edit.tagging == Tagging::Pop {
                    frames[place].copy_within(..MACS, TAG);
                    by[place] = TAG as u16;
                    self.lens[place] -= TAG as u32;
                    shrinks = true;
                }
            }
        }
        if shrinks {
            burst.shrink(&by);
        }
        changed
    }
}

impl Worker {
    /// Runs the actions of megaflows that change headers and send ([`crate::lane::Way::Edit`]). The megaflows have
    /// counted the packets.
    #[inline(never)]
    pub fn edit_burst(&mut self, view: View<'_>, in_port: u32, burst: &mut dyn Burst, parts: &Parts) {
        let flow = |(slot, bits): &(u32, u32)| Some((self.lane.flow(*slot)?.edit.as_deref()?, *bits));
        let mut plan = Plan::new(burst, parts.iter().filter_map(flow));
        let done = plan.run(burst);
        let (outs, lens) = (plan.outs(done), plan.lens);
        drop(plan);
        self.send_changed(in_port, burst, &outs, &lens);
        for (slot, bits) in parts.iter().filter(|(_, bits)| bits & !done != 0) {
            let Some(flow) = self.lane.flow(*slot).cloned() else { continue };
            let mut items: Items =
                places(bits & !done).filter_map(|place| take(burst, in_port, place)).collect();
            self.execute(view, &flow.actions, &mut items, 0);
        }
    }

    /// As [`Worker::edit_burst`], of megaflows of packets of the wide shape. What cannot be changed in place is left in the
    /// burst; its places.
    pub fn edit_wide(&mut self, in_port: u32, burst: &mut dyn Burst, flows: &[(Arc<Megaflow>, u32)]) -> u32 {
        let edits = flows.iter().filter_map(|(flow, bits)| Some((flow.edit.as_deref()?, *bits)));
        let mut plan = Plan::new(burst, edits);
        let done = plan.run(burst);
        self.send_changed(in_port, burst, &plan.outs(done), &plan.lens);
        flows.iter().fold(0, |all, (_, bits)| all | bits) & !done
    }

    fn send_changed(&mut self, in_port: u32, burst: &mut dyn Burst, outs: &Outs, lens: &[u32; BATCH_LEN]) {
        for (port, bits) in outs.iter().filter(|(_, bits)| *bits != 0) {
            let bytes = places(*bits).map(|place| u64::from(lens[place])).sum();
            self.send_burst(in_port, *port, burst, *bits, bytes);
        }
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
