//! What translation and handlers have to tell controllers: a bounded queue to the main task.

use crate::flow_mod::RuleEvent;
use crate::ids::{OfPort, SwitchId};
use crate::recirc::RecircNode;
use dpif::ControllerUserdata;
use flow::Flow;
use packet::Packet;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

/// Events that wait for the main task; beyond it packet-ins are dropped and counted. Rule events are
/// never dropped: there is one for each change of a table. There is room for what all packet-outs do that a
/// connection reads at once.
pub const QUEUE_LEN: usize = 4_096;

/// A packet for controllers, with the context in which it was sent.
#[derive(Clone, Debug)]
pub struct PacketInEvent {
    pub switch: SwitchId,
    pub note: ControllerUserdata,
    /// The switch key at the time.
    pub flow: Flow,
    pub table: u8,
    /// Where the datapath got the packet.
    pub dp_port: u32,
    pub data: Vec<u8>,
    /// The context, for a continuation and for the controller's own bytes.
    pub node: Arc<RecircNode>,
}

#[derive(Clone, Debug)]
pub enum AsyncEvent {
    PacketIn(Box<PacketInEvent>),
    Rules {
        switch: SwitchId,
        events: Vec<RuleEvent>,
    },
    /// A session of a port changed; `flipped`: the port became usable, or unusable.
    Session {
        switch: SwitchId,
        port: OfPort,
        flipped: bool,
    },
}

/// From any thread to the main task.
#[derive(Debug, Default)]
pub struct AsyncQueue {
    queue: Mutex<VecDeque<AsyncEvent>>,
    arrived: Notify,
}

impl AsyncQueue {
    pub fn push(&self, event: AsyncEvent) {
        let mut queue = self.queue.lock();
        if queue.len() >= QUEUE_LEN && matches!(event, AsyncEvent::PacketIn(_)) {
            coverage::counter::packet_in_overflow.add(1);
            return;
        }
        queue.push_back(event);
        drop(queue);
        self.arrived.notify_one();
    }

    /// Everything that waits.
    pub fn take(&self) -> Vec<AsyncEvent> {
        self.queue.lock().drain(..).collect()
    }

    /// Returns when something may wait.
    pub async fn wait(&self) {
        self.arrived.notified().await;
    }
}

/// The event for a packet that came up with a `controller` note.
pub fn packet_in(
    note: &ControllerUserdata,
    node: &Arc<RecircNode>,
    packet: &Packet,
    key: &Flow,
) -> AsyncEvent {
    let mut flow = key.clone();
    node.frozen.metadata.restore(&mut flow);
    flow.recirc_id = 0;
    AsyncEvent::PacketIn(Box::new(PacketInEvent {
        switch: node.frozen.switch,
        note: note.clone(),
        flow,
        table: node.frozen.rule_table,
        dp_port: key.in_port,
        data: packet.data().to_vec(),
        node: node.clone(),
    }))
}
