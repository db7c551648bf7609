//! A started port and its queues.

use crate::ffi::mempool::Mempool;
use crate::ffi::port::{ENOTSUP, Errno, Info, Port, Setup};
use crate::ffi::queue;
use crate::ffi::text::strerror;
use netdev::policer::Policer;
use netdev::{RxQueue, TxOutcome, TxQueue};
use packet::Batch;
use parking_lot::Mutex;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// How often a bond gets to send what LACP wants sent; its state machine wants it every 100 ms.
const STIR: Duration = Duration::from_millis(10);
const BOND: &str = "net_bonding";

/// Software counters; they go on over restarts of the port.
#[derive(Debug, Default)]
pub struct SoftCounters {
    pub tx_failed: AtomicU64,
    pub tx_too_big: AtomicU64,
    pub rx_policed: AtomicU64,
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

/// A started port. It is stopped when its queues and its device have let go of it.
pub struct Running {
    pub port: Port,
    /// As asked for.
    pub shape: Shape,
    /// What the device gave.
    pub n_rxq: u16,
    pub n_txq: u16,
    pub rx_checksum: bool,
    pub mempool: Arc<Mempool>,
    tx: Vec<Mutex<()>>,
    max_len: usize,
    is_bond: bool,
    counters: Arc<SoftCounters>,
    policer: Arc<Policer>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.port.stop();
    }
}

impl Running {
    /// Configures and starts a stopped port.
    pub fn start(
        name: &str,
        port: Port,
        shape: Shape,
        mempool: Arc<Mempool>,
        counters: Arc<SoftCounters>,
        policer: Arc<Policer>,
    ) -> Result<Self, Errno> {
        let begin = Instant::now();
        let info = port.info().unwrap_or_default();
        let n_rxq = shape.n_rxq.min(info.max_rx_queues);
        let n_txq = shape.n_txq.min(info.max_tx_queues);
        if !info.rx_checksum {
            warn!(target: "netdev_dpdk", "Rx checksum offload is not supported on port {}", port.number());
        }
        let setup = Setup {
            lsc_interrupt: shape.lsc_interrupt,
            scatter: shape.mtu > crate::mempools::MTU && info.rx_scatter,
            rx_checksum: info.rx_checksum,
            keep_crc: info.keep_crc && !info.driver.contains("vf"),
        };
        let configured = configure(name, port, (n_rxq, n_txq), shape, &info, setup, &mempool);
        let (n_rxq, n_txq) = configured.inspect_err(|e| {
            error!(
                target: "netdev_dpdk",
                "Interface {name}(rxq:{n_rxq} txq:{n_txq} lsc interrupt mode:{}) configure error: {}",
                shape.lsc_interrupt,
                strerror(*e)
            );
        })?;
        port.start().inspect_err(|e| {
            error!(target: "netdev_dpdk", "Interface {name} start error: {}", strerror(*e));
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
            port,
            shape,
            n_rxq,
            n_txq,
            rx_checksum: info.rx_checksum,
            mempool,
            tx: (0..n_txq).map(|_| Mutex::new(())).collect(),
            max_len: crate::mempools::frame_len(shape.mtu) as usize,
            is_bond: info.driver == BOND,
            counters,
            policer,
        })
    }

    pub fn max_len(&self) -> usize {
        self.max_len
    }

    pub fn rx_queues(self: &Arc<Self>) -> Vec<Box<dyn RxQueue>> {
        let queue = |queue| DpdkRx { running: self.clone(), queue, stirred: None };
        (0..self.n_rxq).map(|q| Box::new(queue(q)) as Box<dyn RxQueue>).collect()
    }

    pub fn tx_queue(self: &Arc<Self>, thread: usize) -> Box<dyn TxQueue> {
        let queue = thread % usize::from(self.n_txq.max(1));
        Box::new(DpdkTx { running: self.clone(), queue: queue as u16 })
    }
}

/// Sets queues up; a device may give fewer than it says, and is then asked for fewer. Returns the numbers.
fn configure(
    name: &str,
    port: Port,
    (mut n_rxq, mut n_txq): (u16, u16),
    shape: Shape,
    info: &Info,
    setup: Setup,
    mempool: &Mempool,
) -> Result<(u16, u16), Errno> {
    let mut last = None;
    while n_rxq > 0 && n_txq > 0 {
        if last.is_some() {
            info!(target: "netdev_dpdk", "Retrying setup with (rxq:{n_rxq} txq:{n_txq})");
        }
        port.configure(n_rxq, n_txq, info, setup).inspect_err(|e| {
            warn!(target: "netdev_dpdk", "Interface {name} eth_dev setup error {}", strerror(*e));
        })?;
        set_mtu(name, port, shape.mtu)?;
        let refused = |kind: &str, queue: u16, e: &Errno| {
            info!(target: "netdev_dpdk", "Interface {name} unable to setup {kind}({queue}): {}", strerror(*e));
        };
        let tx = |q| port.setup_tx(q, shape.txq_size, shape.socket).map_err(|e| (q, e));
        if let Err((queue, e)) = (0..n_txq).try_for_each(tx) {
            refused("txq", queue, &e);
            (n_txq, last) = (queue, Some(e));
            continue;
        }
        let rx = |q| port.setup_rx(q, shape.rxq_size, shape.socket, mempool).map_err(|e| (q, e));
        match (0..n_rxq).try_for_each(rx) {
            Ok(()) => return Ok((n_rxq, n_txq)),
            Err((queue, e)) => {
                refused("rxq", queue, &e);
                (n_rxq, last) = (queue, Some(e));
            }
        }
    }
    Err(last.unwrap_or(ENOTSUP))
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
        Err(e) => {
            error!(target: "netdev_dpdk", "Interface {name} MTU ({mtu}) setup error: {}", strerror(e));
            Err(e)
        }
        Ok(()) => Ok(()),
    }
}

struct DpdkRx {
    running: Arc<Running>,
    queue: u16,
    stirred: Option<Instant>,
}

impl DpdkRx {
    /// Lets a bond send by itself, which it does only inside a send.
    #[cold]
    fn stir_bond(&mut self) {
        let now = Instant::now();
        if self.stirred.is_some_and(|last| now.duration_since(last) < STIR) {
            return;
        }
        self.stirred = Some(now);
        if let Some(_mine) = self.running.tx.first().map(Mutex::lock) {
            queue::stir(self.running.port, 0);
        }
    }
}

impl RxQueue for DpdkRx {
    fn recv(&mut self, batch: &mut Batch) -> usize {
        let before = batch.len();
        let mut received = queue::recv(self.running.port, self.queue, batch);
        if self.running.is_bond && self.queue == 0 {
            self.stir_bond();
        }
        if received > 0 && self.running.policer.is_active() {
            let mut at = 0;
            batch.retain(|p| {
                at += 1;
                at <= before || self.running.policer.admit(p)
            });
            let kept = batch.len() - before;
            self.running.counters.rx_policed.fetch_add((received - kept) as u64, Ordering::Relaxed);
            received = kept;
        }
        received
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
        let r = &*self.running;
        let sent = {
            // Only threads that share the queue ever wait here, and for one batch.
            let _mine = r.tx.get(usize::from(self.queue)).map(Mutex::lock);
            queue::send(r.port, self.queue, r.max_len, &r.mempool, batch)
        };
        if sent.full + sent.too_big + sent.no_buffer > 0 {
            r.counters.tx_failed.fetch_add(u64::from(sent.full + sent.no_buffer), Ordering::Relaxed);
            r.counters.tx_too_big.fetch_add(u64::from(sent.too_big), Ordering::Relaxed);
        }
        TxOutcome {
            sent: sent.sent,
            dropped_too_big: sent.too_big,
            dropped_full: sent.full + sent.no_buffer,
            ..TxOutcome::default()
        }
    }
}
