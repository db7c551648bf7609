//! `NXT_RESUME`: a controller gives back a packet that `controller(pause)` sent to it.

use super::Cx;
use super::packet_out::{Translated, execute, flow_with};
use crate::conn::announce::bridge_id;
use crate::ids::in_port;
use crate::recirc::{Frozen, FrozenMetadata};
use crate::xlate::{SwitchInput, translate_switch};
use dpif::DropReason;
use openflow::action::{Action, Note};
use openflow::msg::packet_in::{Continuation, PacketIn};
use openflow::{Incoming, OfError};
use packet::Packet;

pub fn resume(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result<(), OfError> {
    let pin = PacketIn::decode(msg, &cx.context())?;
    let continuation = Continuation::decode(&pin.continuation, msg.version, &cx.context())?;
    let translated = translate(cx, &pin, continuation)?;
    execute(cx, translated);
    Ok(())
}

/// Goes on with the packet, in the switch that paused it: behind a patch cable it is not the connection's own.
fn translate(cx: &Cx<'_>, pin: &PacketIn, continuation: Continuation) -> Result<Translated, OfError> {
    let fabric = &cx.env.fabric;
    let state = fabric.read();
    let paused = state.switches.keys().copied().find(|id| bridge_id(*id) == continuation.bridge);
    let switch = paused.ok_or(OfError::NxrStale)?;
    let odp_port = continuation.odp_port;
    let mut packet = Packet::from_slice(&pin.packet);
    let flow = flow_with(&mut packet, &pin.metadata.flow);
    let frozen = Frozen { switch, ..frozen_of(pin, continuation) };
    let node = fabric.recirc.intern(frozen).ok_or(OfError::OfpbrcEperm)?;
    let input = SwitchInput {
        switch,
        flow: flow.clone(),
        packet: Some(&packet),
        actions: None,
        is_packet_out: false,
        frozen: Some(node.clone()),
        trace: None,
    };
    let mut t = translate_switch(fabric, &state, input);
    // Packets under way need the frozen states for a while.
    t.recircs.push(node);
    fabric.recirc.retire(t.recircs, cx.env.now_ms());
    if t.error == DropReason::BridgeNotFound {
        return Err(OfError::NxrStale);
    }
    let mut key = flow;
    key.in_port = odp_port;
    Ok(Translated { packet, key, actions: t.actions, effects: t.effects })
}

/// The state that the controller kept for us. What it does not name is not known any more.
fn frozen_of(pin: &PacketIn, continuation: Continuation) -> Frozen {
    let metadata = &pin.metadata.flow;
    let mut actions = continuation.actions;
    if actions.is_empty() {
        // Without any, a table would be looked up.
        actions.push(Action::Note(Box::new(Note { data: Box::default() })));
    }
    Frozen {
        switch: crate::ids::SwitchId(0),
        table: 0,
        in_port: in_port(metadata),
        metadata: FrozenMetadata::of(metadata),
        stack: continuation.stack.into_iter().rev().collect(),
        mirrors: continuation.mirrors,
        conntracked: continuation.conntracked,
        was_mpls: false,
        actions,
        action_set: continuation.action_set,
        rule_cookie: 0,
        rule_table: 0,
        userdata: Vec::new(),
    }
}
