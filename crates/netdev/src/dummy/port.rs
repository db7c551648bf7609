//! The device itself: state, configuration and transmission.

use super::queue::{DummyRx, Queue};
use super::stream::{StreamConfig, StreamPort};
use crate::device::*;
use crate::pcap::PcapWriter;
use flow::EthAddr;
use packet::checksum::fill_partial;
use packet::{Batch, Checksum, Packet};
use parking_lot::Mutex;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Gets each packet that a dummy port receives.
pub type Sink = Arc<dyn Fn(Packet) + Send + Sync>;

const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65_535;
const QUEUES_MAX: usize = 1024;
const ETHERNET_HEADER: usize = 14;
const VLAN_HEADER: usize = 4;
const TYPE_VLAN: [u8; 2] = [0x81, 0];
const TYPE_QINQ: [u8; 2] = [0x88, 0xa8];
const TYPE_ARP: [u8; 2] = [0x08, 0x06];

pub struct DummyDevice {
    name: String,
    kind: &'static str,
    me: Weak<DummyDevice>,
    state: Mutex<State>,
    streams: Mutex<Option<(StreamConfig, StreamPort)>>,
    sink: Mutex<Option<(Sink, Arc<Queue>)>>,
    delivering: AtomicBool,
    seq: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct QueueStats {
    packets: u64,
    bytes: u64,
}

/// Queues and NUMA node: take effect when the queues are opened.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    n_rxq: usize,
    n_txq: usize,
    numa_id: u32,
}

struct State {
    mac: EthAddr,
    mtu: u32,
    up: bool,
    ifindex: Option<u32>,
    requested: Shape,
    current: Shape,
    rx: Vec<QueueStats>,
    tx: Vec<QueueStats>,
    queues: Vec<Weak<Queue>>,
    rx_pcap: Option<Arc<Mutex<PcapWriter>>>,
    tx_pcap: Option<Arc<Mutex<PcapWriter>>>,
    ip4: Option<(Ipv4Addr, Ipv4Addr)>,
    ip6: Option<(Ipv6Addr, u8)>,
}

impl DummyDevice {
    /// `number` counts the devices of a process and makes their addresses differ.
    pub(super) fn new(kind: &'static str, name: &str, number: u32) -> Arc<Self> {
        let shape = Shape { n_rxq: 1, n_txq: 1, numa_id: 0 };
        let state = State {
            mac: EthAddr::from_u64(0xaa55_aa55_0000 + u64::from(number)),
            mtu: 1500,
            up: true,
            ifindex: None,
            requested: shape,
            current: shape,
            rx: vec![QueueStats::default(); 1],
            tx: vec![QueueStats::default(); 1],
            queues: Vec::new(),
            rx_pcap: None,
            tx_pcap: None,
            ip4: None,
            ip6: None,
        };
        Arc::new_cyclic(|me| DummyDevice {
            name: name.to_owned(),
            kind,
            me: me.clone(),
            state: Mutex::new(state),
            streams: Mutex::new(None),
            sink: Mutex::new(None),
            delivering: AtomicBool::new(false),
            seq: AtomicU64::new(1),
        })
    }

    fn changed(&self) {
        self.seq.fetch_add(1, Ordering::Release);
    }

    /// Queues that `netdev-dummy/receive --qid` may name.
    pub fn n_rxq(&self) -> usize {
        self.state.lock().current.n_rxq
    }

    /// Hands every received packet to `sink`, on the thread that injects it, instead of to an [`RxQueue`].
    pub fn set_sink(&self, sink: Option<Sink>) -> Result<(), NetdevError> {
        let new = match sink {
            None => None,
            Some(sink) => Some((sink, Arc::new(self.new_queue()?))),
        };
        *self.sink.lock() = new;
        Ok(())
    }

    fn new_queue(&self) -> Result<Queue, NetdevError> {
        Queue::new().map_err(|source| NetdevError::Io { context: self.name.clone(), source })
    }

    /// A packet arrives at queue `id`. It waits there, or with a sink is processed before this returns.
    pub fn receive(&self, id: usize, packet: Packet) {
        self.enqueue(id, packet);
        self.deliver();
    }

    fn enqueue(&self, id: usize, packet: Packet) {
        let (pcap, queue) = {
            let state = self.state.lock();
            (state.rx_pcap.clone(), state.queues.get(id).and_then(Weak::upgrade))
        };
        write_pcap(pcap.as_ref(), &packet);
        let queue = queue.or_else(|| self.sink.lock().as_ref().map(|(_, q)| q.clone()));
        if let Some(queue) = queue {
            queue.push(packet);
        }
    }

    /// Gives waiting packets to the sink: those that the ARP responder or a concurrent `receive` left.
    /// A call from within the sink returns at once; the outer call goes on with what was added.
    pub fn deliver(&self) {
        let Some((sink, queue)) = self.sink.lock().clone() else { return };
        while !queue.is_empty() && !self.delivering.swap(true, Ordering::AcqRel) {
            while let Some(packet) = queue.pop() {
                self.count_rx(0, packet.len());
                sink(packet);
            }
            self.delivering.store(false, Ordering::Release);
        }
    }

    pub(super) fn count_rx(&self, id: usize, bytes: usize) {
        if let Some(q) = self.state.lock().rx.get_mut(id) {
            q.packets += 1;
            q.bytes += bytes as u64;
        }
    }

    pub(super) fn set_ip4(&self, address: Ipv4Addr, mask: Ipv4Addr) {
        self.state.lock().ip4 = Some((address, mask)).filter(|(a, _)| !a.is_unspecified());
        self.changed();
    }

    pub(super) fn set_ip6(&self, address: Ipv6Addr, prefix_len: u8) {
        self.state.lock().ip6 = Some((address, prefix_len)).filter(|(a, _)| !a.is_unspecified());
        self.changed();
    }

    /// Address and mask that `netdev-dummy/ip4addr` gave.
    pub fn ip4(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        self.state.lock().ip4
    }

    /// Address and prefix length that `netdev-dummy/ip6addr` gave.
    pub fn ip6(&self) -> Option<(Ipv6Addr, u8)> {
        self.state.lock().ip6
    }

    /// Whether `options:stream` is connected; `None` for ports without it.
    pub fn stream_connected(&self) -> Option<bool> {
        self.streams.lock().as_ref().and_then(|(_, s)| s.is_connected())
    }

    fn configure_streams(&self, options: &StringMap) {
        let wanted = StreamConfig::from_options(options);
        let mut streams = self.streams.lock();
        if streams.as_ref().map(|(c, _)| c) == wanted.as_ref() {
            return;
        }
        let former = streams.take();
        drop(streams);
        // Its thread may be inside `receive`; it is waited for without any lock.
        drop(former);
        let Some(config) = wanted else { return };
        match StreamPort::start(&config, self.me.clone()) {
            Ok(port) => *self.streams.lock() = Some((config, port)),
            Err(error) => {
                let text = crate::sys::strerror(&error);
                tracing::warn!(target: "netdev_dummy", "{}: open failed ({text})", config.target);
            }
        }
    }

    fn transmit(&self, queue: usize, packet: &mut Packet) -> Result<(), TxDrop> {
        if packet.packet_type != flow::PT_ETH || packet.len() < ETHERNET_HEADER {
            return Err(TxDrop::Error);
        }
        let partial = matches!(packet.offload.checksum, Checksum::Partial { .. });
        if packet.offload.gso.is_some() || partial && !fill_partial(packet) {
            return Err(TxDrop::Error);
        }
        let data = packet.data();
        let mut state = self.state.lock();
        let tag = if data[12..14] == TYPE_VLAN { VLAN_HEADER } else { 0 };
        if data.len() > state.mtu as usize + ETHERNET_HEADER + tag {
            return Err(TxDrop::TooBig);
        }
        if let Some(q) = state.tx.get_mut(queue) {
            q.packets += 1;
            q.bytes += data.len() as u64;
        }
        let reply = state.ip4.and_then(|(ip, _)| arp_reply(data, ip, state.mac));
        let pcap = state.tx_pcap.clone();
        drop(state);
        if let Some((_, streams)) = self.streams.lock().as_ref() {
            streams.send(data);
        }
        if let Some(reply) = reply {
            // Not delivered here: the sender is inside the datapath.
            self.enqueue(0, Packet::from_slice(&reply));
        }
        write_pcap(pcap.as_ref(), packet);
        Ok(())
    }
}

enum TxDrop {
    TooBig,
    Error,
}

fn write_pcap(pcap: Option<&Arc<Mutex<PcapWriter>>>, packet: &Packet) {
    if let Some(pcap) = pcap
        && let Err(error) = pcap.lock().write(packet.data())
    {
        tracing::warn!(target: "pcap", "write failed ({})", crate::sys::strerror(&error));
    }
}

fn open_pcap(path: Option<&String>) -> Option<Arc<Mutex<PcapWriter>>> {
    let path = path?;
    let opened = PcapWriter::append(path).inspect_err(|error| {
        let text = crate::sys::strerror(error);
        tracing::warn!(target: "pcap", "{path}: failed to open pcap file for appending ({text})");
    });
    opened.ok().map(|w| Arc::new(Mutex::new(w)))
}

/// The answer (RFC 826) if `frame` asks who has `ip`.
fn arp_reply(frame: &[u8], ip: Ipv4Addr, mac: EthAddr) -> Option<Vec<u8>> {
    let mut at = 12;
    while matches!(frame.get(at..at + 2)?.try_into().ok()?, TYPE_VLAN | TYPE_QINQ) {
        at += VLAN_HEADER;
    }
    if *frame.get(at..at + 2)? != TYPE_ARP {
        return None;
    }
    let arp = frame.get(at + 2..at + 2 + 28)?;
    if arp[..8] != [0, 1, 8, 0, 6, 4, 0, 1] || arp[24..28] != ip.octets() {
        return None;
    }
    let asker = &frame[6..12];
    let mut reply =
        [asker, &mac.0, &TYPE_ARP, &[0, 1, 8, 0, 6, 4, 0, 2], &mac.0, &ip.octets(), asker].concat();
    reply.extend_from_slice(&arp[14..18]);
    Some(reply)
}

/// An integer option; anything else counts as not given.
fn int(options: &StringMap, key: &str) -> Option<i64> {
    options.get(key)?.trim_start().parse().ok()
}

fn shape(name: &str, options: &StringMap) -> Shape {
    let wanted =
        ["n_rxq", "n_txq"].map(|k| usize::try_from(int(options, k).unwrap_or(1)).unwrap_or(1).max(1));
    if wanted.iter().any(|n| *n > QUEUES_MAX) {
        let [rxq, txq] = wanted;
        tracing::warn!(target: "netdev_dummy", "The one or both of interface {name} queues(rxq: {rxq}, txq: {txq}) exceed {QUEUES_MAX}. Sets it {QUEUES_MAX}.");
    }
    let [n_rxq, n_txq] = wanted.map(|n| n.min(QUEUES_MAX));
    let numa_id = int(options, "numa_id").and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    Shape { n_rxq, n_txq, numa_id }
}

impl Netdev for DummyDevice {
    fn name(&self) -> &str {
        &self.name
    }
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn configure(&self, options: &StringMap) -> Result<(), NetdevError> {
        self.configure_streams(options);
        let (rx_pcap, tx_pcap) = match options.get("pcap") {
            both @ Some(_) => {
                let both = open_pcap(both);
                (both.clone(), both)
            }
            None => (open_pcap(options.get("rxq_pcap")), open_pcap(options.get("tx_pcap"))),
        };
        let mut state = self.state.lock();
        state.ifindex = int(options, "ifindex").and_then(|i| u32::try_from(i).ok());
        (state.rx_pcap, state.tx_pcap) = (rx_pcap, tx_pcap);
        if self.is_polled() {
            state.requested = shape(&self.name, options);
        }
        drop(state);
        self.changed();
        Ok(())
    }
    fn options(&self) -> StringMap {
        let mut out = StringMap::new();
        if let Some((config, _)) = self.streams.lock().as_ref() {
            out.insert(config.option().to_owned(), config.target.clone());
        }
        let state = self.state.lock();
        if let Some(ifindex) = state.ifindex {
            out.insert("ifindex".to_owned(), ifindex.to_string());
        }
        if self.is_polled() {
            for (prefix, shape) in [("requested", state.requested), ("configured", state.current)] {
                out.insert(format!("{prefix}_rx_queues"), shape.n_rxq.to_string());
                out.insert(format!("{prefix}_tx_queues"), shape.n_txq.to_string());
            }
        }
        out
    }
    fn link(&self) -> LinkState {
        let state = self.state.lock();
        LinkState {
            admin_up: state.up,
            carrier: state.up,
            mtu: state.mtu,
            mac: state.mac,
            ifindex: state.ifindex,
            ..LinkState::default()
        }
    }
    fn set_mac(&self, mac: EthAddr) -> Result<(), NetdevError> {
        let former = std::mem::replace(&mut self.state.lock().mac, mac);
        if former != mac {
            self.changed();
        }
        Ok(())
    }
    fn set_mtu(&self, mtu: u32) -> Result<(), NetdevError> {
        if !MTU_RANGE.contains(&mtu) {
            let source = std::io::Error::from_raw_os_error(libc::EINVAL);
            return Err(NetdevError::Io { context: self.name.clone(), source });
        }
        let former = std::mem::replace(&mut self.state.lock().mtu, mtu);
        if former != mtu {
            self.changed();
        }
        Ok(())
    }
    fn set_admin_up(&self, up: bool) -> Result<(), NetdevError> {
        let former = std::mem::replace(&mut self.state.lock().up, up);
        if former != up {
            self.changed();
        }
        Ok(())
    }
    /// Accepted and without effect.
    fn set_policing(&self, _rate: Policing) -> Result<(), NetdevError> {
        Ok(())
    }
    fn stats(&self) -> Result<DeviceStats, NetdevError> {
        let state = self.state.lock();
        let sum = |of: &[QueueStats]| of.iter().fold((0, 0), |(p, b), q| (p + q.packets, b + q.bytes));
        let ((rx_packets, rx_bytes), (tx_packets, tx_bytes)) = (sum(&state.rx), sum(&state.tx));
        let mut stats = DeviceStats {
            common: dpif::PortStats {
                rx_packets,
                rx_bytes,
                tx_packets,
                tx_bytes,
                ..dpif::PortStats::default()
            },
            absent: ONLY_PACKETS_AND_BYTES.to_vec(),
            ..DeviceStats::default()
        };
        for name in ["rx_custom_packets_1", "rx_custom_packets_2"] {
            stats.custom.insert(name.to_owned(), rx_packets);
        }
        for (direction, queues) in [("rx", &state.rx), ("tx", &state.tx)] {
            for (i, q) in queues.iter().enumerate() {
                stats.custom.insert(format!("{direction}_q{i}_packets"), q.packets);
                stats.custom.insert(format!("{direction}_q{i}_bytes"), q.bytes);
            }
        }
        Ok(stats)
    }
    fn change_seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }
    fn is_polled(&self) -> bool {
        self.kind == "dummy-pmd"
    }
    fn needs_reopen(&self) -> bool {
        let state = self.state.lock();
        state.requested != state.current
    }
    fn numa_id(&self) -> Option<u32> {
        Some(self.state.lock().current.numa_id)
    }
    /// Puts the requested number of queues in force; if it changed, counting starts again from zero.
    fn open_rx(&self) -> Result<Vec<Box<dyn RxQueue>>, NetdevError> {
        let requested = self.state.lock().requested;
        let queues: Vec<Arc<Queue>> =
            (0..requested.n_rxq).map(|_| self.new_queue().map(Arc::new)).collect::<Result<_, _>>()?;
        let mut state = self.state.lock();
        let former = std::mem::replace(&mut state.current, requested);
        if (former.n_rxq, former.n_txq) != (requested.n_rxq, requested.n_txq) {
            state.rx = vec![QueueStats::default(); requested.n_rxq];
            state.tx = vec![QueueStats::default(); requested.n_txq];
        }
        state.queues = queues.iter().map(Arc::downgrade).collect();
        let polled = self.is_polled();
        let rx = |(id, queue)| DummyRx { device: self.me.clone(), id, queue, polled };
        Ok(queues.into_iter().enumerate().map(|q| Box::new(rx(q)) as Box<dyn RxQueue>).collect())
    }
    fn open_tx(&self, thread: usize) -> Result<Box<dyn TxQueue>, NetdevError> {
        let queue = thread % self.state.lock().current.n_txq.max(1);
        Ok(Box::new(DummyTx { device: self.me.clone(), queue }))
    }
    fn tx_offloads(&self) -> TxOffloads {
        TxOffloads { checksum: true, ..TxOffloads::default() }
    }
    fn as_dummy(&self) -> Option<&DummyDevice> {
        Some(self)
    }
}

struct DummyTx {
    device: Weak<DummyDevice>,
    queue: usize,
}

impl TxQueue for DummyTx {
    fn send(&mut self, batch: &mut Batch) -> TxOutcome {
        let mut outcome = TxOutcome::default();
        let Some(device) = self.device.upgrade() else {
            outcome.dropped_down = batch.len() as u32;
            outcome.dropped_bytes = batch.iter().map(|p| p.len() as u64).sum();
            batch.clear();
            return outcome;
        };
        for mut packet in batch.drain(..) {
            let bytes = packet.len() as u64;
            let dropped = match device.transmit(self.queue, &mut packet) {
                Ok(()) => {
                    outcome.sent += 1;
                    continue;
                }
                Err(TxDrop::TooBig) => &mut outcome.dropped_too_big,
                Err(TxDrop::Error) => &mut outcome.dropped_error,
            };
            *dropped += 1;
            outcome.dropped_bytes += bytes;
        }
        outcome
    }
}
