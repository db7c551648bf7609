//! Frames over a ring: virtio-net headers, buffers, calls.

use crate::mem::{DirtyLog, GuestMemory};
use crate::pool;
use crate::protocol::feature;
use crate::ring::{CHAIN_MAX, Chain, Direction, Ring, Violation};
use netdev::virtio;
use packet::{Batch, Checksum, GsoKind, Offload, Packet};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

/// `struct virtio_net_hdr` without and with `num_buffers`.
const SHORT_HEADER: usize = virtio::HEADER_LEN;
const LONG_HEADER: usize = 12;
/// `sizeof (struct ether_header)`.
const ETHERNET_HEADER: usize = 14;

/// What one call did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxCount {
    pub too_big: u64,
    pub malformed: u64,
}

/// A ring that runs, with all that moving frames over it takes.
pub struct Vring {
    pub ring: Ring,
    pub memory: Arc<GuestMemory>,
    pub log: Option<Arc<DirtyLog>>,
    /// Where the driver hears of used buffers.
    pub call: Option<Arc<File>>,
    /// Negotiated features.
    pub features: u64,
    /// The chain at hand; kept for its memory.
    pub chain: Chain,
    /// Chains of the frame at hand.
    pub chains: Vec<Chain>,
}

impl Vring {
    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    fn header_len(&self) -> usize {
        if self.has(feature::MRG_RXBUF | feature::VERSION_1) { LONG_HEADER } else { SHORT_HEADER }
    }

    /// What the driver takes unfinished.
    pub fn takes(&self, offload: &Offload) -> bool {
        let gso = match offload.gso.map(|g| (g.kind, g.ecn)) {
            None => true,
            Some((GsoKind::Tcp4, ecn)) => {
                self.has(feature::GUEST_TSO4) && (!ecn || self.has(feature::GUEST_ECN))
            }
            Some((GsoKind::Tcp6, ecn)) => {
                self.has(feature::GUEST_TSO6) && (!ecn || self.has(feature::GUEST_ECN))
            }
            Some((GsoKind::Udp, _)) => {
                self.features & (feature::GUEST_USO4 | feature::GUEST_USO6)
                    == feature::GUEST_USO4 | feature::GUEST_USO6
            }
        };
        gso && (self.has(feature::GUEST_CSUM) || !matches!(offload.checksum, Checksum::Partial { .. }))
    }

    /// Appends frames that the driver sent to `batch`, until it is full.
    pub fn receive(&mut self, batch: &mut Batch, count: &mut RxCount) -> Result<(), Violation> {
        let mut result = Ok(());
        // Frames that are dropped count as work too, so that a guest cannot keep this thread here.
        for _ in 0..batch.remaining_capacity() {
            match self.ring.fetch(&self.memory, Direction::Read, &mut self.chain) {
                Ok(true) => {}
                Ok(false) => break,
                Err(violation) => {
                    result = Err(violation);
                    break;
                }
            }
            match self.take(count) {
                Ok(packet) => batch.extend(packet),
                Err(violation) => {
                    result = Err(violation);
                    break;
                }
            }
            self.ring.give_back(&self.chain, 0);
        }
        self.finish();
        result
    }

    /// Copies the frame in `self.chain` to memory of ours.
    fn take(&self, count: &mut RxCount) -> Result<Option<Packet>, Violation> {
        let header_len = self.header_len();
        let total = self.chain.len();
        let Some(len) = total.checked_sub(header_len as u64).filter(|n| *n >= ETHERNET_HEADER as u64) else {
            count.malformed += 1;
            return Ok(None);
        };
        let Some(len) = usize::try_from(len).ok().filter(|n| *n <= pool::FRAME_MAX) else {
            count.too_big += 1;
            return Ok(None);
        };
        let mut packet = pool::packet(len);
        packet.set_len(len);
        let mut header = [0; LONG_HEADER];
        let mut wanted: &mut [u8] = &mut header[..header_len];
        let mut body: &mut [u8] = packet.data_mut();
        for segment in &self.chain.segments {
            let (mut addr, mut left) = (segment.addr, segment.len as usize);
            for part in [&mut wanted, &mut body] {
                let n = left.min(part.len());
                let (now, later) = std::mem::take(part).split_at_mut(n);
                self.memory.read(addr, now)?;
                *part = later;
                addr = addr.wrapping_add(n as u64);
                left -= n;
            }
        }
        let Some(short) = header.first_chunk::<SHORT_HEADER>() else { return Ok(None) };
        if *short != [0; SHORT_HEADER] && virtio::decode(short, &mut packet).is_err() {
            count.malformed += 1;
            return Ok(None);
        }
        Ok(Some(packet))
    }

    /// Sends as many of `packets` as there are buffers for; returns how many, before calling the driver.
    ///
    /// Frames that need more than the driver's offloads are not given to this.
    pub fn transmit(&mut self, packets: &[Packet], too_big: &mut u32) -> Result<usize, Violation> {
        let mut done = 0;
        let mut result = Ok(());
        for packet in packets {
            match self.put(packet, too_big) {
                Ok(true) => done += 1,
                Ok(false) => break,
                Err(violation) => {
                    result = Err(violation);
                    break;
                }
            }
        }
        self.ring.publish();
        result.map(|()| done)
    }

    /// Shows the driver what was given back, and calls it if it wants that.
    pub fn finish(&mut self) {
        self.ring.publish();
        if self.ring.wants_call()
            && let Some(call) = &self.call
        {
            // A counter that is full has woken the driver already.
            let _ = (&**call).write(&1u64.to_ne_bytes());
        }
    }

    /// Copies one frame to buffers of the driver; false if there are not enough of them.
    fn put(&mut self, packet: &Packet, too_big: &mut u32) -> Result<bool, Violation> {
        let header_len = self.header_len();
        let needed = (header_len + packet.len()) as u64;
        let mark = self.ring.mark();
        let mut room = 0;
        let mut used = 0;
        let mut segments = 0;
        while room < needed {
            if used == self.chains.len() {
                self.chains.push(Chain::default());
            }
            let Some(chain) = self.chains.get_mut(used) else { return Ok(false) };
            if used >= usize::from(self.ring.size())
                || !self.ring.fetch(&self.memory, Direction::Write, chain)?
            {
                self.ring.rewind(mark);
                return Ok(false);
            }
            room += chain.len();
            used += 1;
            segments += chain.segments.len();
            // Else buffers of no length, in tables as long as may be, would keep this thread here.
            if segments > CHAIN_MAX {
                return Err(Violation::ChainLength);
            }
            if room < needed && !self.features & feature::MRG_RXBUF != 0 {
                // The driver's buffers hold no frame of this size: there is no point in waiting.
                self.ring.rewind(mark);
                *too_big += 1;
                return Ok(true);
            }
        }
        self.fill(packet, used)?;
        Ok(true)
    }

    /// Writes header and frame to the first `used` chains, which have room for them, and gives those back.
    fn fill(&mut self, packet: &Packet, used: usize) -> Result<(), Violation> {
        let mut header = [0; LONG_HEADER];
        if self.has(feature::GUEST_CSUM) && packet.offload != Offload::default() {
            header[..SHORT_HEADER].copy_from_slice(&virtio::encode(packet));
        }
        header[SHORT_HEADER..].copy_from_slice(&(used as u16).to_le_bytes());
        let mut head = &header[..self.header_len()];
        let mut body = packet.data();
        for chain in self.chains.iter().take(used) {
            let mut written = 0;
            for segment in &chain.segments {
                let (mut addr, mut left) = (segment.addr, segment.len as usize);
                for part in [&mut head, &mut body] {
                    let n = left.min(part.len());
                    let (now, later) = part.split_at(n);
                    self.memory.write(addr, now)?;
                    if let Some(log) = self.log.as_ref().filter(|_| n > 0) {
                        log.mark(addr, n as u64);
                    }
                    *part = later;
                    addr = addr.wrapping_add(n as u64);
                    left -= n;
                    written += n as u32;
                }
                if body.is_empty() {
                    break;
                }
            }
            self.ring.give_back(chain, written);
        }
        Ok(())
    }
}
