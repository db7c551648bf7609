//! A started port and its queues.

use crate::ffi::mempool::Mempool;
use crate::ffi::port::{EBUSY, ENOTSUP, Errno, Info, Port, Setup};
use crate::ffi::queue::{FrameBurst, Queues, Refused, Rx, Sent, Started};
use crate::ffi::text::strerror;
use crate::shaping::Shaper;
use netdev::policer::Policer;
use netdev::steering;
use netdev::{Burst, RxQueue, TxOutcome, TxQueue, burst};
use packet::{Batch, Packet};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// How often a bond gets to send what LACP wants sent; its state machine wants it every 100 ms.
const STIR: Duration = Duration::from_millis(10);
const BOND: &str = "net_bonding";
/// If a capture does not fit into the port's mempool (`infinite_rx`), this driver frees its ring of buffers, and once more
/// when the port is closed; set up again, it has read all of the capture and finds nothing.
const PCAP: &str = "net_pcap";

/// Software counters; they go on over restarts of the port.
#[derive(Debug, Default)]
pub struct SoftCounters {
    pub tx_failed: AtomicU64,
    pub tx_too_big: AtomicU64,
    pub rx_policed: AtomicU64,
    pub tx_shaped: AtomicU64,
}

/// What takes effect only when a port starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n_rxq: u16,
    pub n_txq: u16,
    pub rxq_size: u16,
    pub txq_size: u16,
    pub mtu: u32,
    pub socket: u32,
    pub lsc_interrupt: bool,
}

/// A started port.
pub struct Running {
    /// As asked for.
    pub shape: Shape,
    pub rx_checksum: bool,
    started: Arc<Started>,
    max_len: usize,
    is_bond: bool,
    soft: Soft,
}

/// What outlives a restart of the port.
pub struct Soft {
    pub counters: Arc<SoftCounters>,
    pub policer: Arc<Policer>,
    /// Packets are spread over the transmit queues by what they hold.
    pub steering: Arc<AtomicBool>,
    pub shaper: Arc<Shaper>,
}

impl Running {
    /// Configures and starts a stopped port.
    pub fn start(
        name: &str,
        port: Port,
        shape: Shape,
        mempool: Arc<Mempool>,
        soft: Soft,
    ) -> Result<Self, Errno> {
        let begin = Instant::now();
        let mut info = port.info().unwrap_or_default();
        if !info.rx_checksum {
            warn!(target: "netdev_dpdk", "Rx checksum offload is not supported on port {}", port.number());
        }
        let started = start(name, port, shape, &mut info, mempool).inspect_err(|e| {
            error!(
                target: "netdev_dpdk",
                "Interface {name}(rxq:{} txq:{} lsc interrupt mode:{}) configure error: {}",
                shape.n_rxq.min(info.max_rx_queues),
                shape.n_txq.min(info.max_tx_queues),
                shape.lsc_interrupt,
                strerror(*e)
            );
        })?;
        port.listen_to_all();
        info!(
            target: "netdev_dpdk",
            "Port {}: {} started in {} us",
            port.number(),
            port.mac().unwrap_or_default(),
            begin.elapsed().as_micros()
        );
        Ok(Running {
            shape,
            rx_checksum: info.rx_checksum,
            started: Arc::new(started),
            max_len: crate::mempools::frame_len(shape.mtu) as usize,
            is_bond: info.driver == BOND,
            soft,
        })
    }

    pub fn mempool(&self) -> &Mempool {
        self.started.mempool()
    }

    pub fn n_rxq(&self) -> u16 {
        self.started.n_rxq()
    }

    pub fn n_txq(&self) -> u16 {
        self.started.n_txq()
    }

    pub fn max_len(&self) -> usize {
        self.max_len
    }

    pub fn rx_queues(self: &Arc<Self>) -> Vec<Box<dyn RxQueue>> {
        let queue = |rx| DpdkRx { burst: FrameBurst::default(), running: self.clone(), rx, stirred: None };
        let taken = (0..self.n_rxq()).filter_map(|q| self.started.take_rx(q));
        taken.map(|rx| Box::new(queue(rx)) as Box<dyn RxQueue>).collect()
    }

    pub fn tx_queue(self: &Arc<Self>, thread: usize) -> Box<dyn TxQueue> {
        let queue = thread % usize::from(self.n_txq().max(1));
        Box::new(DpdkTx { running: self.clone(), queue: queue as u16 })
    }
}

/// What a device that can do this is asked for.
fn setup(shape: Shape, info: &Info) -> Setup {
    Setup {
        lsc_interrupt: shape.lsc_interrupt,
        scatter: shape.mtu > crate::mempools::MTU && info.rx_scatter,
        rx_checksum: info.rx_checksum,
        keep_crc: info.keep_crc && !info.driver.contains("vf"),
    }
}

/// Configures and starts; a device may give fewer queues than it says, and is then asked for fewer.
fn start(
    name: &str,
    port: Port,
    shape: Shape,
    info: &mut Info,
    mempool: Arc<Mempool>,
) -> Result<Started, Errno> {
    if port.is_kept() {
        return Err(EBUSY);
    }
    let mut queues = Queues {
        n_rxq: shape.n_rxq.min(info.max_rx_queues),
        n_txq: shape.n_txq.min(info.max_tx_queues),
        rxq_size: shape.rxq_size,
        txq_size: shape.txq_size,
        socket: shape.socket,
    };
    let mut last = ENOTSUP;
    while queues.n_rxq > 0 && queues.n_txq > 0 {
        if let Err(e) = port.configure(queues.n_rxq, queues.n_txq, info, setup(shape, info)) {
            warn!(target: "netdev_dpdk", "Interface {name} eth_dev setup error {}", strerror(e));
            // A bond has its members only now, and cannot do more than they can.
            *info = port.info().unwrap_or_default();
            let fewer = (queues.n_rxq.min(info.max_rx_queues), queues.n_txq.min(info.max_tx_queues));
            if fewer == (queues.n_rxq, queues.n_txq) {
                return Err(e);
            }
            ((queues.n_rxq, queues.n_txq), last) = (fewer, e);
            say_retry(queues);
            continue;
        }
        set_mtu(name, port, shape.mtu)?;
        let (kind, queue) = match Started::start(port, queues, mempool.clone()) {
            Ok(started) => return Ok(started),
            Err(Refused::Start(e)) => {
                error!(target: "netdev_dpdk", "Interface {name} start error: {}", strerror(e));
                return Err(e);
            }
            Err(Refused::Tx(queue, e)) => {
                (queues.n_txq, last) = (queue, e);
                ("txq", queue)
            }
            Err(Refused::Rx(queue, e)) => {
                if info.driver == PCAP {
                    port.keep();
                }
                (queues.n_rxq, last) = (queue, e);
                ("rxq", queue)
            }
        };
        let why = strerror(last);
        info!(target: "netdev_dpdk", "Interface {name} unable to setup {kind}({queue}): {why}");
        say_retry(queues);
    }
    Err(last)
}

fn say_retry(queues: Queues) {
    info!(target: "netdev_dpdk", "Retrying setup with (rxq:{} txq:{})", queues.n_rxq, queues.n_txq);
}

fn set_mtu(name: &str, port: Port, mtu: u32) -> Result<(), Errno> {
    match port.set_mtu(u16::try_from(mtu).unwrap_or(u16::MAX)) {
        Err(ENOTSUP) => {
            warn!(
                target: "netdev_dpdk",
                "Interface {name} does not support MTU configuration, max packet size supported is {}.",
                port.mtu()
            );
            Ok(())
        }
        // A bond that had to be asked for fewer queues passes it on to its members when it starts.
        Err(_) if u32::from(port.mtu()) == mtu => Ok(()),
        Err(e) => {
            error!(target: "netdev_dpdk", "Interface {name} MTU ({mtu}) setup error: {}", strerror(e));
            Err(e)
        }
        Ok(()) => Ok(()),
    }
}

struct DpdkRx {
    // Its buffers go before the port may stop.
    burst: FrameBurst,
    running: Arc<Running>,
    rx: Rx,
    stirred: Option<Instant>,
}

impl DpdkRx {
    /// Lets a bond send by itself, which it does only inside a send.
    #[cold]
    fn stir_bond(&mut self) {
        let now = Instant::now();
        if self.stirred.is_none_or(|last| now.duration_since(last) >= STIR) {
            self.stirred = Some(now);
            self.rx.port().stir();
        }
    }
}

impl RxQueue for DpdkRx {
    fn recv(&mut self, batch: &mut Batch) -> usize {
        let before = batch.len();
        let mut received = self.rx.recv(batch);
        if self.running.is_bond && self.rx.queue() == 0 {
            self.stir_bond();
        }
        if received > 0 && self.running.soft.policer.is_active() {
            let mut at = 0;
            batch.retain(|p| {
                at += 1;
                at <= before || self.running.soft.policer.admit(p)
            });
            let kept = batch.len() - before;
            self.running.soft.counters.rx_policed.fetch_add((received - kept) as u64, Ordering::Relaxed);
            received = kept;
        }
        received
    }

    #[inline]
    fn burst(&mut self) -> Option<&mut dyn Burst> {
        // Who judges packets one by one wants packets.
        if self.running.soft.policer.is_active() {
            return None;
        }
        self.rx.burst(&mut self.burst);
        if self.running.is_bond && self.rx.queue() == 0 {
            self.stir_bond();
        }
        Some(&mut self.burst)
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

struct DpdkTx {
    running: Arc<Running>,
    queue: u16,
}

impl TxQueue for DpdkTx {
    fn send(&mut self, batch: &mut Batch) -> TxOutcome {
        if self.is_steered() {
            return self.send_by_hash(batch);
        }
        self.running.send(self.queue, batch)
    }

    fn send_burst(&mut self, burst: &mut dyn Burst, places: u32) -> TxOutcome {
        if let Some(frames) = burst.as_any().downcast_mut::<FrameBurst>()
            && !self.is_steered()
            && !self.running.soft.shaper.is_on()
        {
            // Only threads that share the queue ever wait here, and for one batch.
            let r = &*self.running;
            return r.account(r.started.send_frames(self.queue, r.max_len, frames, places));
        }
        burst::send_as_batch(self, burst, places)
    }

    fn send_copies(&mut self, burst: &mut dyn Burst, places: u32) -> TxOutcome {
        if let Some(frames) = burst.as_any().downcast_mut::<FrameBurst>()
            && !self.is_steered()
            && !self.running.soft.shaper.is_on()
        {
            let r = &*self.running;
            return r.account(r.started.send_shared(self.queue, r.max_len, frames, places));
        }
        burst::send_copies_as_batch(self, burst, places)
    }
}

impl DpdkTx {
    #[inline]
    fn is_steered(&self) -> bool {
        self.running.n_txq() > 1 && self.running.soft.steering.load(Ordering::Relaxed)
    }

    /// Each flow by a queue of its own choice.
    #[cold]
    fn send_by_hash(&self, batch: &mut Batch) -> TxOutcome {
        let n_txq = u32::from(self.running.n_txq());
        let mut outcome = TxOutcome::default();
        let mut rest: Vec<(u16, Packet)> =
            batch.drain(..).map(|p| ((steering::hash(&p) % n_txq) as u16, p)).collect();
        rest.sort_by_key(|(queue, _)| *queue);
        let mut rest = rest.into_iter().peekable();
        while let Some((queue, first)) = rest.next() {
            batch.push(first);
            while let Some((_, packet)) = rest.next_if(|(next, _)| *next == queue) {
                batch.push(packet);
            }
            outcome += self.running.send(queue, batch);
        }
        outcome
    }
}

impl Running {
    fn send(&self, queue: u16, batch: &mut Batch) -> TxOutcome {
        let (shaped, shaped_bytes) = if self.soft.shaper.is_on() { self.shape(batch) } else { (0, 0) };
        // Only threads that share the queue ever wait here, and for one batch.
        let mut outcome = self.account(self.started.send(queue, self.max_len, batch));
        outcome.dropped_full += shaped;
        outcome.dropped_bytes += shaped_bytes;
        outcome
    }

    #[inline]
    fn account(&self, sent: Sent) -> TxOutcome {
        if sent.full + sent.too_big + sent.no_buffer > 0 {
            let c = &self.soft.counters;
            c.tx_failed.fetch_add(u64::from(sent.full + sent.no_buffer), Ordering::Relaxed);
            c.tx_too_big.fetch_add(u64::from(sent.too_big), Ordering::Relaxed);
        }
        TxOutcome {
            sent: sent.sent,
            dropped_too_big: sent.too_big,
            dropped_full: sent.full + sent.no_buffer,
            dropped_bytes: sent.dropped_bytes,
            ..TxOutcome::default()
        }
    }

    /// Drops what exceeds the rates of the port's quality of service; returns how many packets and bytes.
    #[cold]
    fn shape(&self, batch: &mut Batch) -> (u32, u64) {
        let mut verdicts = self.soft.shaper.admit(batch.iter()).into_iter();
        let bytes = |batch: &Batch| batch.iter().map(|p| p.len() as u64).sum::<u64>();
        let before = (batch.len(), bytes(batch));
        batch.retain(|_| verdicts.next() == Some(true));
        let shaped = before.0 - batch.len();
        self.soft.counters.tx_shaped.fetch_add(shaped as u64, Ordering::Relaxed);
        (shaped as u32, before.1 - bytes(batch))
    }
}
