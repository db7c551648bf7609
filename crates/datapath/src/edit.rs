//! Megaflows that change headers and send: VLAN tags, Ethernet and IPv4 addresses, TTL, TOS, ports. Their actions are made
//! into one set of bits to keep and to set, and packets are changed a burst at a time, in the buffers of their device.
//!
//! Only packets of the lane's shape come here. What is different about one (its protocol is not the one whose ports are
//! set, the device cannot change it in place) leaves it to the actions themselves, which say what is right.

use crate::express::{Outs, Parts, add_out, take};
use crate::item::Items;
use crate::worker::{View, Worker};
use dpif::{Action, PortNo, SetKey};
use netdev::burst::{Frames, Lengths, places};
use netdev::{Burst, Heads};
use packet::BATCH_LEN;
use packet::header::{EthKey, Ipv4Key, Masked, PortsKey};
use packet::proto::ip_proto;

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
/// Where the transport checksum is.
const TCP_SUM: usize = 20 + 16;
const UDP_SUM: usize = 20 + 6;
const CFI: u16 = 1 << 12;

/// Bits that stay and bits that are set, of `N` bytes.
#[derive(Clone, Debug)]
struct Bits<const N: usize> {
    keep: [u8; N],
    set: [u8; N],
}

impl<const N: usize> Bits<N> {
    const NONE: Self = Bits { keep: [0xff; N], set: [0; N] };

    /// Sets also what `mask` says of these bytes.
    fn put(&mut self, at: usize, key: &[u8], mask: &[u8]) {
        let bytes = self.keep.iter_mut().zip(&mut self.set).skip(at);
        for ((keep, set), (key, mask)) in bytes.zip(key.iter().zip(mask)) {
            *keep &= !mask;
            *set = *set & !mask | key & mask;
        }
    }

    #[inline(always)]
    fn apply(&self, bytes: &mut [u8; N]) {
        for ((byte, keep), set) in bytes.iter_mut().zip(&self.keep).zip(&self.set) {
            *byte = *byte & keep | set;
        }
    }

    /// Whether something changes from `at` up to `end`.
    fn touches(&self, at: usize, end: usize) -> bool {
        self.keep.get(at..end).is_some_and(|keep| keep.iter().any(|k| *k != 0xff))
    }
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
    macs: Bits<MACS>,
    network: Bits<NETWORK>,
    /// Whether TOS or TTL, addresses, ports change.
    changes_ip: bool,
    changes_addresses: bool,
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
            changes_addresses: false,
            ports_of: None,
        };
        if edits.is_empty() || !edits.iter().all(|action| edit.add(action)) {
            return None;
        }
        edit.changes_addresses = edit.network.touches(ADDRESSES, PORTS);
        edit.changes_ip = edit.changes_addresses || edit.network.touches(0, IP_SUM);
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

    /// Where the network header of a frame is, and its protocol, if the frame is one that can be changed here.
    #[inline(always)]
    fn admits(&self, frame: &[u8]) -> Option<usize> {
        let l3 = match u16::from_be_bytes([*frame.get(MACS)?, *frame.get(MACS + 1)?]) {
            0x0800 => ETHERNET,
            0x8100 | 0x88a8 => ETHERNET + TAG,
            _ => return None,
        };
        let proto = *frame.get(l3 + PROTOCOL)?;
        // (One that is to lose a tag which it has not got stays as it is.)
        let fits = frame.len() >= l3 + NETWORK
            && self.ports_of.is_none_or(|p| p == proto)
            && (self.tagging != Tagging::Pop || l3 > ETHERNET);
        fits.then_some(l3)
    }

    /// Changes addresses, network header and ports of a frame that [`Edit::admits`], whose network header is at `l3`.
    #[inline(always)]
    fn change(&self, frame: &mut [u8], l3: usize) {
        if let Some(macs) = frame.first_chunk_mut::<MACS>() {
            self.macs.apply(macs);
        }
        let Some(network) = frame.get_mut(l3..) else { return };
        if self.changes_ip || self.ports_of.is_some() {
            self.change_network(network);
        }
    }

    #[inline(always)]
    fn change_network(&self, network: &mut [u8]) {
        let Some(header) = network.first_chunk_mut::<NETWORK>() else { return };
        let old = *header;
        self.network.apply(header);
        let (new, proto) = (*header, header[PROTOCOL]);
        let service_and_life = difference(&old, &new, 0) + difference(&old, &new, 8);
        let addresses = (ADDRESSES..PORTS).step_by(2).map(|at| difference(&old, &new, at)).sum::<u32>();
        if let Some(sum) = header.get_mut(IP_SUM..IP_SUM + 2).filter(|_| self.changes_ip) {
            update(sum, service_and_life + addresses);
        }
        if self.changes_addresses || self.ports_of.is_some() {
            let ports = difference(&old, &new, PORTS) + difference(&old, &new, PORTS + 2);
            let (at, zero_is_none) = match proto {
                ip_proto::TCP => (TCP_SUM, false),
                ip_proto::UDP => (UDP_SUM, true),
                _ => return,
            };
            let Some(sum) = network.get_mut(at..at + 2) else { return };
            if !zero_is_none {
                update(sum, addresses + ports);
            } else if *sum != [0, 0] {
                update(sum, addresses + ports);
                if *sum == [0, 0] {
                    sum.fill(0xff);
                }
            }
        }
    }
}

/// What the 16 bits at `at` add to a checksum (RFC 1624): nothing if they are as they were.
#[inline(always)]
fn difference<const N: usize>(old: &[u8; N], new: &[u8; N], at: usize) -> u32 {
    let word = |b: &[u8; N]| u16::from_be_bytes([b[at], b[at + 1]]);
    let (old, new) = (word(old), word(new));
    if old == new { 0 } else { u32::from(!old) + u32::from(new) }
}

/// Adds a sum of differences to a checksum, `HC' = ~(~HC + ~m + m')`.
#[inline(always)]
fn update(sum: &mut [u8], by: u32) {
    let [a, b] = sum else { return };
    if by != 0 {
        let total = u32::from(!u16::from_be_bytes([*a, *b])) + by;
        let once = (total & 0xffff) + (total >> 16);
        [*a, *b] = (!((once & 0xffff) + (once >> 16)) as u16).to_be_bytes();
    }
}

/// A burst's packets of one megaflow.
struct Part<'e> {
    edit: &'e Edit,
    places: u32,
}

impl Worker {
    /// Runs the actions of megaflows that change headers and send ([`crate::lane::Way::Edit`]). The megaflows have
    /// counted the packets.
    #[inline(never)]
    pub fn edit_burst(&mut self, view: View<'_>, in_port: u32, burst: &mut dyn Burst, parts: &Parts) {
        let mut outs = Outs::new();
        let (mut done, mut lens) = (0, [0; BATCH_LEN]);
        for (slot, bits) in parts {
            let Some(edit) = self.lane.flow(*slot).and_then(|flow| flow.edit.as_deref()) else { continue };
            let part = Part { edit, places: *bits };
            let changed = part.run(burst, &mut lens);
            add_out(&mut outs, edit.out, changed);
            done |= changed;
        }
        for (port, bits) in outs.iter().filter(|(_, bits)| *bits != 0) {
            let bytes = places(*bits).map(|place| u64::from(lens[place])).sum();
            self.send_burst(in_port, *port, burst, *bits, bytes);
        }
        for (slot, bits) in parts.iter().filter(|(_, bits)| bits & !done != 0) {
            let Some(flow) = self.lane.flow(*slot).cloned() else { continue };
            let mut items: Items =
                places(bits & !done).filter_map(|place| take(burst, in_port, place)).collect();
            self.execute(view, &flow.actions, &mut items, 0);
        }
    }
}

impl Part<'_> {
    /// Changes packets, and notes their lengths as they are then; returns the places of those that it could change.
    fn run(&self, burst: &mut dyn Burst, lens: &mut [u32; BATCH_LEN]) -> u32 {
        if self.edit.tagging == Tagging::Pop && !burst.is_whole() {
            return 0;
        }
        let bits = self.places & !burst.unfinished();
        let (l3s, admitted) = self.look(burst, bits, lens);
        match self.edit.tagging {
            Tagging::Push(tag) => self.push(burst, admitted, &l3s, tag, lens),
            Tagging::Leave => self.change(burst, admitted, &l3s),
            Tagging::Pop => self.pop(burst, admitted, &l3s, lens),
        }
    }

    fn change(&self, burst: &mut dyn Burst, bits: u32, l3s: &[usize; BATCH_LEN]) -> u32 {
        let mut frames: Frames<'_> = std::array::from_fn(|_| &mut [][..]);
        let changed = burst.edit(bits, &mut frames);
        places(changed).for_each(|place| self.edit.change(frames[place], l3s[place]));
        changed
    }

    fn pop(
        &self,
        burst: &mut dyn Burst,
        bits: u32,
        l3s: &[usize; BATCH_LEN],
        lens: &mut [u32; BATCH_LEN],
    ) -> u32 {
        let mut by: Lengths = [0; BATCH_LEN];
        let mut frames: Frames<'_> = std::array::from_fn(|_| &mut [][..]);
        let changed = burst.edit(bits, &mut frames);
        for place in places(changed) {
            self.edit.change(frames[place], l3s[place]);
            frames[place].copy_within(..MACS, TAG);
            by[place] = TAG as u16;
            lens[place] -= TAG as u32;
        }
        burst.shrink(&by);
        changed
    }

    /// Where the network headers of packets are, and places of those that can be changed.
    fn look(
        &self,
        burst: &mut dyn Burst,
        bits: u32,
        lens: &mut [u32; BATCH_LEN],
    ) -> ([usize; BATCH_LEN], u32) {
        let mut heads: Heads<'_> = [&[]; BATCH_LEN];
        burst.heads(&mut heads);
        let (mut l3s, mut admitted) = ([0; BATCH_LEN], 0);
        for place in places(bits) {
            if let Some(l3) = self.edit.admits(heads[place]) {
                l3s[place] = l3;
                lens[place] = heads[place].len() as u32;
                admitted |= 1 << place;
            }
        }
        (l3s, admitted)
    }

    fn push(
        &self,
        burst: &mut dyn Burst,
        bits: u32,
        l3s: &[usize; BATCH_LEN],
        tag: [u8; TAG],
        lens: &mut [u32; BATCH_LEN],
    ) -> u32 {
        let mut by: Lengths = [0; BATCH_LEN];
        places(bits).for_each(|place| by[place] = TAG as u16);
        let mut frames: Frames<'_> = std::array::from_fn(|_| &mut [][..]);
        let grown = burst.grow(&by, &mut frames);
        for place in places(grown) {
            let frame = &mut *frames[place];
            if let Some(inner) = frame.get_mut(TAG..) {
                self.edit.change(inner, l3s[place]);
            }
            frame.copy_within(TAG..TAG + MACS, 0);
            if let Some(to) = frame.get_mut(MACS..MACS + TAG) {
                to.copy_from_slice(&tag);
            }
            lens[place] += TAG as u32;
        }
        grown
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
