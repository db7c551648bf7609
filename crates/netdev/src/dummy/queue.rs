//! A dummy port's receive queue: a bounded list and a descriptor that is readable while it is not empty.

use super::port::DummyDevice;
use crate::device::RxQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};
use packet::{Batch, Packet};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};

/// Packets that wait in one queue at most; more are dropped.
pub(super) const QUEUE_MAX: usize = 100;

pub(super) struct Queue {
    list: Mutex<VecDeque<Packet>>,
    wake: EventFd,
}

impl Queue {
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Queue { list: Mutex::default(), wake: EventFd::from_flags(flags)? })
    }

    /// Appends `packet`; `false` if there is no room.
    pub fn push(&self, packet: Packet) -> bool {
        let mut list = self.list.lock();
        if list.len() >= QUEUE_MAX {
            return false;
        }
        list.push_back(packet);
        let _ = self.wake.write(1);
        true
    }

    pub fn pop(&self) -> Option<Packet> {
        let mut list = self.list.lock();
        let packet = list.pop_front();
        if list.is_empty() {
            let _ = self.wake.read();
        }
        packet
    }

    pub fn is_empty(&self) -> bool {
        self.list.lock().is_empty()
    }
}

/// The owner's end of a queue.
pub(super) struct DummyRx {
    pub device: Weak<DummyDevice>,
    pub id: usize,
    pub queue: Arc<Queue>,
    pub polled: bool,
}

impl RxQueue for DummyRx {
    /// One packet at a time, as Open vSwitch's dummy ports have it (statistics of batches show it).
    fn recv(&mut self, batch: &mut Batch) -> usize {
        if batch.is_full() {
            return 0;
        }
        let Some(packet) = self.queue.pop() else {
            if self.polled {
                std::thread::yield_now();
            }
            return 0;
        };
        if let Some(device) = self.device.upgrade() {
            device.count_rx(self.id, packet.len());
        }
        batch.push(packet);
        1
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.polled).then(|| self.queue.wake.as_fd())
    }
}
