//! Packet-out: a controller's packet goes through its own actions.

use super::Cx;
use crate::effects::{self, Effect, Passed};
use crate::ids::OfPort;
use crate::rule::Count;
use crate::switch::State;
use crate::xlate::{SwitchInput, translate_switch};
use dpif::{Actions, DropReason, PortNo};
use flow::{Flow, Mask};
use openflow::action::{self, Action, CheckParams};
use openflow::msg::flow_mod::NO_BUFFER;
use openflow::msg::packet_out::PacketOut;
use openflow::{Incoming, OfError};
use packet::Packet;
use packet::parse::{Meta, flow_of};

/// A packet-out that has been checked.
pub struct Ready {
    packet: Packet,
    /// The packet's key in switch terms.
    flow: Flow,
    actions: Vec<Action>,
}

/// A packet-out that has been translated.
pub struct Translated {
    pub packet: Packet,
    /// In datapath terms.
    pub key: Flow,
    pub actions: Actions,
    pub effects: Vec<Effect>,
}

pub fn packet_out(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result<(), OfError> {
    coverage::counter::ofproto_packet_out.inc();
    cx.conn.check_may_write()?;
    let ready = prepare(cx, msg)?;
    let translated = {
        let state = cx.env.fabric.read();
        translate(cx, &state, ready)?
    };
    execute(cx, translated);
    Ok(())
}

/// The key of a packet, and what a controller says of it besides.
pub fn flow_with(packet: &mut Packet, metadata: &Flow) -> Flow {
    let mut flow = flow_of(packet, &Meta::default());
    for (word, known) in flow.words_mut().iter_mut().zip(metadata.words()) {
        *word |= known;
    }
    flow
}

/// Decodes and checks a packet-out.
pub fn prepare(cx: &Cx<'_>, msg: &Incoming<'_>) -> Result<Ready, OfError> {
    let mut po = PacketOut::decode(msg, &cx.context())?;
    if po.buffer_id != NO_BUFFER {
        return Err(OfError::OfpbrcBufferUnknown);
    }
    let mut packet = Packet::from_slice(&po.packet);
    let flow = flow_with(&mut packet, &po.metadata.flow);
    let params = CheckParams {
        flow: &flow,
        mask: &Mask::for_packet(&flow),
        ports_max: cx.context().ports_max,
        table_id: Some(0),
        n_tables: super::N_TABLES,
    };
    action::check_consistency(&mut po.actions, cx.conn.protocol.as_set(), &params)?;
    Ok(Ready { packet, flow, actions: po.actions })
}

/// Translates a packet-out; nothing happens yet.
pub fn translate(cx: &Cx<'_>, state: &State, ready: Ready) -> Result<Translated, OfError> {
    let switch = state.switch(cx.agent.id).ok_or(OfError::OfpbrcEperm)?;
    switch.check_actions(&ready.actions)?;
    let input = SwitchInput {
        switch: cx.agent.id,
        flow: ready.flow.clone(),
        packet: Some(&ready.packet),
        actions: Some(&ready.actions),
        is_packet_out: true,
        frozen: None,
        trace: None,
    };
    let t = translate_switch(&cx.env.fabric, state, input);
    if t.error != DropReason::Ok {
        return Err(OfError::OfpfmfcUnknown);
    }
    // Packets under way need the frozen states for a while.
    cx.env.fabric.recirc.retire(t.recircs, cx.env.now_ms());
    let in_port = OfPort(ready.flow.in_port as u16);
    let dp_port = state.switch(cx.agent.id).and_then(|s| s.port(in_port)).and_then(|p| p.dp_port());
    let mut key = ready.flow;
    key.in_port = dp_port.unwrap_or(PortNo::NONE).0;
    Ok(Translated { packet: ready.packet, key, actions: t.actions, effects: t.effects })
}

/// Lets a translated packet-out have its effects, and sends the packet on its way. Takes locks.
pub fn execute(cx: &Cx<'_>, t: Translated) {
    let passed = Passed {
        count: Count { packets: 1, bytes: t.packet.len() as u64 },
        used_ms: cx.env.now_ms(),
        tcp_flags: t.key.tcp_flags,
    };
    let mut deferred = Vec::new();
    effects::apply(&cx.env.fabric.read(), &t.effects, passed, &mut deferred);
    cx.env.fabric.carry_out(deferred);
    cx.env.fabric.dpif.execute(t.packet, &t.key, &t.actions);
}
