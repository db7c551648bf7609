//! Devices in memory, a switch that is a closure, and packets for them.

use crate::Datapath;
use clock::Clock;
use crossbeam_queue::SegQueue;
use dpif::*;
use flow::{EthAddr, Flow, Mask};
use netdev::*;
use nix::sys::eventfd::{EfdFlags, EventFd};
use packet::{Batch, Packet};
use parking_lot::Mutex;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The far end of a fake device.
pub struct Wire {
    name: String,
    is_polled: bool,
    queues: Vec<Queue>,
    pub sent: Mutex<Vec<Vec<u8>>>,
    pub sent_count: AtomicU64,
    /// Keeps no copy of what is sent, only the count.
    pub forget: bool,
    /// Calls for packets that found none.
    pub asked_in_vain: AtomicU64,
    /// Leaves the descriptor readable when a queue is empty, like that of a device that is gone.
    pub is_stuck: AtomicBool,
    /// Its first queue is never empty.
    pub is_endless: AtomicBool,
}

struct Queue {
    waiting: SegQueue<Packet>,
    wake: EventFd,
}

impl Wire {
    pub fn new(name: &str, is_polled: bool, queues: usize, forget: bool) -> Arc<Self> {
        let queue = |_| Queue {
            waiting: SegQueue::new(),
            wake: EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap(),
        };
        Arc::new(Wire {
            name: name.to_owned(),
            is_polled,
            queues: (0..queues).map(queue).collect(),
            sent: Mutex::default(),
            sent_count: AtomicU64::new(0),
            forget,
            asked_in_vain: AtomicU64::new(0),
            is_stuck: AtomicBool::new(false),
            is_endless: AtomicBool::new(false),
        })
    }

    /// The descriptor says that there is something where there is nothing.
    pub fn lie(&self, queue: usize) {
        self.queues[queue].wake.write(1).unwrap();
    }

    /// A frame arrives.
    pub fn arrive(&self, queue: usize, frame: &[u8]) {
        self.queues[queue].waiting.push(Packet::from_slice(frame));
        self.queues[queue].wake.write(1).unwrap();
    }

    pub fn backlog(&self) -> usize {
        self.queues.iter().map(|q| q.waiting.len()).sum()
    }

    pub fn count(&self) -> u64 {
        self.sent_count.load(Ordering::SeqCst)
    }

    pub fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent.lock())
    }

    pub fn device(self: &Arc<Self>) -> Arc<dyn Netdev> {
        Arc::new(Fake(Arc::clone(self)))
    }
}

struct Fake(Arc<Wire>);
struct FakeRx(Arc<Wire>, usize);
struct FakeTx(Arc<Wire>);

impl Netdev for Fake {
    fn name(&self) -> &str {
        &self.0.name
    }
    fn kind(&self) -> &'static str {
        "fake"
    }
    fn configure(&self, _: &StringMap) -> Result<(), NetdevError> {
        Ok(())
    }
    fn options(&self) -> StringMap {
        StringMap::new()
    }
    fn link(&self) -> LinkState {
        LinkState::default()
    }
    fn set_mac(&self, _: EthAddr) -> Result<(), NetdevError> {
        Err(NetdevError::Unsupported)
    }
    fn set_mtu(&self, _: u32) -> Result<(), NetdevError> {
        Err(NetdevError::Unsupported)
    }
    fn set_admin_up(&self, _: bool) -> Result<(), NetdevError> {
        Ok(())
    }
    fn stats(&self) -> Result<DeviceStats, NetdevError> {
        Ok(DeviceStats::default())
    }
    fn change_seq(&self) -> u64 {
        0
    }
    fn is_polled(&self) -> bool {
        self.0.is_polled
    }
    fn open_rx(&self) -> Result<Vec<Box<dyn RxQueue>>, NetdevError> {
        let rx = |id| Box::new(FakeRx(Arc::clone(&self.0), id)) as Box<dyn RxQueue>;
        Ok((0..self.0.queues.len()).map(rx).collect())
    }
    fn open_tx(&self, _: usize) -> Result<Box<dyn TxQueue>, NetdevError> {
        Ok(Box::new(FakeTx(Arc::clone(&self.0))))
    }
}

impl RxQueue for FakeRx {
    fn recv(&mut self, batch: &mut Batch) -> usize {
        let queue = &self.0.queues[self.1];
        let before = batch.len();
        if self.0.is_stuck.load(Ordering::SeqCst) && queue.waiting.is_empty() {
            self.0.asked_in_vain.fetch_add(1, Ordering::SeqCst);
            return 0;
        }
        while self.1 == 0 && self.0.is_endless.load(Ordering::SeqCst) && !batch.is_full() {
            batch.push(Packet::from_slice(&udp(1, 60)));
        }
        while !batch.is_full() {
            let Some(packet) = queue.waiting.pop() else {
                let _ = queue.wake.read();
                // One that came between the two would not wake us again.
                let Some(packet) = queue.waiting.pop() else { break };
                let _ = queue.wake.write(1);
                batch.push(packet);
                continue;
            };
            batch.push(packet);
        }
        batch.len() - before
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.0.is_polled).then(|| self.0.queues[self.1].wake.as_fd())
    }
}

impl TxQueue for FakeTx {
    fn send(&mut self, batch: &mut Batch) -> TxOutcome {
        let sent = batch.len() as u32;
        if !self.0.forget {
            self.0.sent.lock().extend(batch.iter().map(|p| p.data().to_vec()));
        }
        batch.clear();
        self.0.sent_count.fetch_add(u64::from(sent), Ordering::SeqCst);
        TxOutcome { sent, ..TxOutcome::default() }
    }
}

type TryDecide = dyn Fn(&Upcall<'_>) -> Result<UpcallReply, Declined> + Send + Sync;
type Decide = dyn Fn(&Upcall<'_>) -> UpcallReply + Send + Sync;

/// A switch that decides by closure and notes what it was asked.
pub struct Switch {
    decide: Box<Decide>,
    /// What it says to threads that only try.
    try_decide: Box<TryDecide>,
    pub asked: Mutex<Vec<Flow>>,
    pub upcalls: AtomicU64,
    pub installed: Mutex<Vec<(Ufid, Result<(), DpifError>)>>,
}

impl Switch {
    pub fn new(decide: impl Fn(&Upcall<'_>) -> UpcallReply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Switch {
            decide: Box::new(decide),
            try_decide: Box::new(|_| Err(Declined::Heavy)),
            asked: Mutex::default(),
            upcalls: AtomicU64::new(0),
            installed: Mutex::default(),
        })
    }

    /// As [`Switch::new`], with an answer for threads that only try.
    pub fn helped(
        decide: impl Fn(&Upcall<'_>) -> UpcallReply + Send + Sync + 'static,
        try_decide: impl Fn(&Upcall<'_>) -> Result<UpcallReply, Declined> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let mut new = Self::new(decide);
        Arc::get_mut(&mut new).unwrap().try_decide = Box::new(try_decide);
        new
    }

    /// One that sends everything to `port` and installs megaflows for the input port, the recirculation
    /// and the destination address.
    pub fn to_port(port: u32) -> Arc<Self> {
        Self::new(move |_| reply(vec![Action::Output(PortNo(port))]))
    }
}

impl UpcallHandler for Switch {
    fn upcall(&self, upcall: Upcall<'_>) -> UpcallReply {
        self.upcalls.fetch_add(1, Ordering::SeqCst);
        let mut asked = self.asked.lock();
        if asked.len() < 1000 {
            asked.push(Flow::clone(upcall.key));
        }
        drop(asked);
        (self.decide)(&upcall)
    }
    fn try_upcall(&self, upcall: Upcall<'_>) -> Result<UpcallReply, Declined> {
        let reply = (self.try_decide)(&upcall)?;
        self.upcalls.fetch_add(1, Ordering::SeqCst);
        Ok(reply)
    }
    fn installed(&self, ufid: Ufid, _: Option<u32>, result: Result<(), DpifError>) {
        self.installed.lock().push((ufid, result));
    }
}

/// What [`Switch::to_port`] says is significant.
pub fn usual_mask() -> Mask {
    let mut mask = Mask::NONE;
    mask.in_port = u32::MAX;
    mask.recirc_id = u32::MAX;
    mask.dl_type = 0xffff;
    mask.vlans[0] = flow::Vlan { tpid: 0xffff, tci: 0xffff };
    mask.nw_dst = u32::MAX;
    mask
}

pub fn reply(actions: Actions) -> UpcallReply {
    let actions = Arc::new(actions);
    UpcallReply { flow: Some(NewFlow { mask: usual_mask(), actions: actions.clone() }), actions }
}

/// A UDP packet to 10.x.y.z, given as a number, of `len` bytes in all.
pub fn udp(dst: u32, len: usize) -> Vec<u8> {
    let mut p = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    p.extend(((len - 14) as u16).to_be_bytes());
    p.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 9, 9]);
    p.extend((0x0a00_0000 | dst).to_be_bytes());
    p.extend([0x10, 0, 0x20, 0]);
    p.extend(((len - 34) as u16).to_be_bytes());
    p.resize(len, 0);
    p
}

/// A datapath with a stopped clock, devices 1.. and `switch`.
pub fn datapath(wires: &[&Arc<Wire>], switch: &Arc<Switch>) -> Arc<Datapath> {
    let clock = Clock::new();
    clock.stop();
    let dp = Datapath::new("netdev@test", clock);
    dp.set_upcall_handler(Arc::clone(switch) as Arc<dyn UpcallHandler>);
    for (n, wire) in wires.iter().enumerate() {
        assert_eq!(dp.port_add(wire.device(), None).unwrap(), PortNo(n as u32 + 1));
    }
    dp
}

/// Waits for something that other threads do.
pub fn eventually(what: &str, is_done: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < Duration::from_secs(20), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
