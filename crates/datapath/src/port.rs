//! A port as one thread has it.

use crate::drops::PortCounters;
use crate::upcall::PortQueue;
use netdev::{Netdev, TxQueue};
use packet::Batch;
use std::sync::Arc;

/// One thread's sender and counters for one port.
pub(crate) struct LocalPort {
    pub tx: Box<dyn TxQueue>,
    pub offloads: netdev::TxOffloads,
    /// What is to be sent when the batch is done.
    pub pending: Batch,
    /// The queue that all of it goes to (`set_queue`).
    pub queue: u32,
    /// The device, if it is a tunnel.
    pub tunnel: Option<Arc<dyn Netdev>>,
    pub counters: Arc<PortCounters>,
    pub upcalls: Arc<PortQueue>,
}

/// A thread's ports, by number.
#[derive(Default)]
pub(crate) struct LocalPorts {
    by_number: Vec<Option<Box<LocalPort>>>,
}

impl LocalPorts {
    #[inline]
    pub fn get(&self, port: u32) -> Option<&LocalPort> {
        self.by_number.get(port as usize)?.as_deref()
    }

    #[inline]
    pub fn get_mut(&mut self, port: u32) -> Option<&mut LocalPort> {
        self.by_number.get_mut(port as usize)?.as_deref_mut()
    }

    /// `port` is below [`crate::PORTS_MAX`]; a greater one is not kept.
    pub fn insert(&mut self, port: u32, local: Box<LocalPort>) {
        let at = port as usize;
        if at >= crate::PORTS_MAX {
            return;
        }
        if self.by_number.len() <= at {
            self.by_number.resize_with(at + 1, || None);
        }
        self.by_number[at] = Some(local);
    }

    pub fn remove(&mut self, port: u32) -> Option<Box<LocalPort>> {
        self.by_number.get_mut(port as usize)?.take()
    }
}
