//! Sending: packets collect per port and leave when the batch is done.

use crate::drops::DropCause;
use crate::execute::truncate;
use crate::item::{Item, Items, PacketMeta};
use crate::port::LocalPort;
use crate::worker::Worker;
use arrayvec::ArrayVec;
use dpif::PortNo;
use netdev::{Burst, TxOffloads, TxOutcome};
use packet::{BATCH_LEN, Batch, Checksum, GsoKind, Packet, checksum, gso};

/// Packets of a burst that leave by one port, as they are now.
pub(crate) struct Out {
    pub port: PortNo,
    pub places: u32,
    pub bytes: u64,
}

pub(crate) type Outs = ArrayVec<Out, BATCH_LEN>;

/// There are no more ports than packets.
#[inline]
pub(crate) fn join(outs: &mut Outs, port: PortNo, places: u32, bytes: u64) {
    match outs.iter_mut().rev().find(|out| out.port == port) {
        Some(out) => {
            out.places |= places;
            out.bytes += bytes;
        }
        None => _ = outs.try_push(Out { port, places, bytes }),
    }
}

impl Worker {
    /// Puts packets, or copies of them if they are still needed, into the line of `port`.
    pub fn output(&mut self, port: PortNo, items: &mut Items, last: bool) {
        if self.ports.get(port.0).is_none() {
            let mut copies = self.copies(items, last);
            self.drop_items(&mut copies, DropCause::InvalidPort);
            return;
        }
        self.count_outputs(items, last);
        if last {
            for item in items.drain(..) {
                self.queue(port.0, item);
            }
        } else {
            for item in items.iter_mut() {
                let copy = item.clone();
                self.queue(port.0, copy);
                item.meta.max_len = 0;
            }
        }
    }

    /// Counts packets about to be sent, those of one input port at a time.
    fn count_outputs(&self, items: &Items, last: bool) {
        for run in items.chunk_by(|a, b| a.meta.in_port == b.meta.in_port) {
            let Some(first) = run.first() else { continue };
            let (counters, n) = (self.counters(first.meta.in_port), run.len() as u64);
            counters.output.add(n);
            counters.copied.add(if last { 0 } else { n });
        }
    }

    /// Sends packets of a burst, or puts them into the port's line if they are to wait for company, or are to be finished
    /// first. They are `bytes` long.
    #[inline]
    pub fn send_burst(&mut self, in_port: u32, port: PortNo, burst: &mut dyn Burst, places: u32, bytes: u64) {
        self.send_from::<false>(in_port, port, burst, places, bytes);
    }

    /// As [`Worker::send_burst`], of packets that stay in the burst, which [`Burst::can_copy`].
    pub fn send_copies(
        &mut self,
        in_port: u32,
        port: PortNo,
        burst: &mut dyn Burst,
        places: u32,
        bytes: u64,
    ) {
        self.counters(in_port).copied.add(places.count_ones().into());
        self.send_from::<true>(in_port, port, burst, places, bytes);
    }

    #[inline(always)]
    fn send_from<const STAY: bool>(
        &mut self,
        in_port: u32,
        port: PortNo,
        burst: &mut dyn Burst,
        places: u32,
        bytes: u64,
    ) {
        let packets = places.count_ones();
        if self.collects || burst.unfinished() & places != 0 && !self.takes_unfinished(port) {
            self.queue_burst(in_port, port, burst, places, STAY);
            return;
        }
        let Some(local) = self.ports.get_mut(port.0) else {
            if !STAY {
                netdev::burst::places(places).for_each(|place| drop(burst.take(place)));
            }
            self.counters(in_port).lose(DropCause::InvalidPort, packets as usize);
            return;
        };
        if !local.pending.is_empty() {
            self.stats.sent_batches.add(1);
            self.stats.sent.add(send(local));
        }
        local.turn_to(0);
        let outcome = match STAY {
            true => local.tx.send_copies(burst, places),
            false => local.tx.send_burst(burst, places),
        };
        self.stats.sent_batches.add(1);
        self.stats.sent.add(account(local, outcome, bytes));
        self.counters(in_port).output.add(packets.into());
    }

    /// [`Worker::send_burst`], by several ports.
    #[inline]
    pub fn send_outs(&mut self, in_port: u32, burst: &mut dyn Burst, outs: &Outs) {
        for out in outs.iter().filter(|out| out.places != 0) {
            self.send_burst(in_port, out.port, burst, out.places, out.bytes);
        }
    }

    /// Whether a port's device takes packets with which anything is left to be done.
    fn takes_unfinished(&self, port: PortNo) -> bool {
        let all = TxOffloads { checksum: true, tcp_segmentation: true, udp_segmentation: true };
        self.ports.get(port.0).is_some_and(|local| local.offloads == all)
    }

    #[cold]
    fn queue_burst(&mut self, in_port: u32, port: PortNo, burst: &mut dyn Burst, places: u32, stay: bool) {
        let mut packet = |place| if stay { burst.copy(place) } else { burst.take(place) };
        for packet in netdev::burst::places(places).filter_map(&mut packet) {
            if self.ports.get(port.0).is_some() {
                self.counters(in_port).output.add(1);
                self.queue(port.0, Item { packet, meta: PacketMeta::of_port(in_port) });
            } else {
                self.counters(in_port).lose(DropCause::InvalidPort, 1);
            }
        }
    }

    pub(crate) fn queue(&mut self, port: u32, mut item: Item) {
        truncate(&mut item);
        let Some(local) = self.ports.get_mut(port) else { return };
        // What waits for another queue goes first: a batch has one.
        if local.queue != item.meta.skb_priority && !local.pending.is_empty() {
            self.stats.sent_batches.add(1);
            self.stats.sent.add(send(local));
        } else if local.pending.is_empty() {
            self.dirty.push(port);
        }
        local.turn_to(item.meta.skb_priority);
        local.pending.push(item.packet);
        if local.pending.is_full() {
            self.stats.sent_batches.add(1);
            self.stats.sent.add(send(local));
        }
    }

    /// Sends what has collected.
    pub fn flush(&mut self) {
        while let Some(port) = self.dirty.pop() {
            if let Some(local) = self.ports.get_mut(port)
                && !local.pending.is_empty()
            {
                self.stats.sent_batches.add(1);
                self.stats.sent.add(send(local));
            }
        }
    }
}

impl LocalPort {
    /// Directs packets to come to `queue`. Nothing may wait for another one.
    fn turn_to(&mut self, queue: u32) {
        if self.queue != queue {
            self.queue = queue;
            self.tx.set_queue(queue);
        }
    }
}

/// Sends all that waits at a port; returns how many packets the device took.
fn send(port: &mut LocalPort) -> u64 {
    if port.pending.iter().all(|p| is_finished(p, port.offloads)) {
        return send_batch(port, None);
    }
    let mut sent = 0;
    let mut ready = Batch::new();
    for packet in std::mem::take(&mut port.pending) {
        for packet in finish(packet, port) {
            ready.push(packet);
            if ready.is_full() {
                sent += send_batch(port, Some(&mut ready));
            }
        }
    }
    sent + if ready.is_empty() { 0 } else { send_batch(port, Some(&mut ready)) }
}

/// Sends `batch`, or the port's own if there is none.
fn send_batch(port: &mut LocalPort, batch: Option<&mut Batch>) -> u64 {
    let batch = batch.unwrap_or(&mut port.pending);
    let bytes: usize = batch.iter().map(Packet::len).sum();
    let outcome = port.tx.send(batch);
    batch.clear();
    account(port, outcome, bytes as u64)
}

/// Counts what became of packets of `bytes`; returns how many the device took.
#[inline]
fn account(port: &LocalPort, outcome: TxOutcome, bytes: u64) -> u64 {
    let c = &port.counters;
    c.sent.add(u64::from(outcome.sent));
    c.sent_bytes.add(bytes.saturating_sub(outcome.dropped_bytes));
    if outcome.dropped() > 0 {
        lose(port, outcome);
    }
    u64::from(outcome.sent)
}

#[cold]
fn lose(port: &LocalPort, outcome: TxOutcome) {
    let c = &port.counters;
    c.lose(DropCause::TxTooBig, outcome.dropped_too_big as usize);
    c.lose(DropCause::TxFull, outcome.dropped_full as usize);
    c.lose(DropCause::TxDown, outcome.dropped_down as usize);
    c.lose(DropCause::TxError, outcome.dropped_error as usize);
}

/// Whether nothing is left to do for the packet that the device does not do.
fn is_finished(packet: &Packet, offloads: TxOffloads) -> bool {
    // No device knows of a tunnel around what is to be cut.
    let gso = match packet.offload.gso.map(|g| g.kind) {
        Some(_) if gso::is_inner(packet) => false,
        None => true,
        Some(GsoKind::Tcp4 | GsoKind::Tcp6) => offloads.tcp_segmentation,
        Some(GsoKind::Udp) => offloads.udp_segmentation,
    };
    gso && (offloads.checksum || !matches!(packet.offload.checksum, Checksum::Partial { .. }))
}

/// Does in software what the device does not.
fn finish(mut packet: Packet, port: &LocalPort) -> Vec<Packet> {
    let mut done = Vec::new();
    let ok = if is_finished(&packet, TxOffloads { checksum: true, ..port.offloads }) {
        let ok = checksum::fill_partial(&mut packet);
        done.extend(ok.then_some(packet));
        ok
    } else {
        gso::segment(packet, &mut |segment| done.push(segment)).is_ok()
    };
    let c = &port.counters;
    c.segments.add(done.len().saturating_sub(1) as u64);
    if !ok {
        c.lose(DropCause::TxOffload, 1);
        done.clear();
    }
    done
}
