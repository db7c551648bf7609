//! Translation: from a packet's key and the OpenFlow tables to datapath actions.
//!
//! A translation reads [`State`] and changes nothing. It yields the actions, the exact set of bits that it
//! looked at (the megaflow), and a list of [`Effect`]s that each packet using them owes. Who asks decides
//! what to do with those.
//!
//! - [`ctx`]: the context that travels along, table lookups, recursion
//! - [`freeze`]: stopping, to go on when the packet comes back
//! - [`actions`]: one arm per OpenFlow action
//! - [`group`]: buckets; [`mpls`], [`encap`]: labels and other headers; [`nest`]: copies and branches
//! - [`output`]: ports, patch cables, flooding, the controller
//! - [`normal`]: the learning switch; [`vlan`]: what bundles do to VLAN tags
//! - [`ct`]: connection tracking
//! - [`mirror`]: copies for mirrors
//! - [`tunnel`]: into and out of tunnels
//! - [`select`]: `bundle` and `multipath`
//! - [`special`]: packets of the switch's own protocols
//! - [`lessons`]: flows that a packet should have seen learned
//! - [`trace`]: what `ofproto/trace` shows

mod actions;
pub mod ct;
mod ctx;
mod encap;
mod freeze;
mod group;
mod lessons;
mod mirror;
mod mpls;
mod nest;
mod normal;
mod output;
mod select;
mod special;
#[cfg(test)]
mod tests;
pub mod trace;
mod tunnel;
mod vlan;
mod wildcards;

use crate::bfd::Bfd;
use crate::effects::Effect;
use crate::fabric::Fabric;
use crate::ids::{OfPort, SwitchId};
use crate::recirc::RecircNode;
use crate::switch::State;
use ctx::Ctx;
use dpif::{Action, Actions, DropReason, SlowPath};
use flow::{Flow, Mask, TlvTable};
pub use nest::metered;
use openflow::action::Action as OfAction;
use packet::Packet;
use std::sync::Arc;
use trace::Trace;
pub use wildcards::exact_mask;

/// A packet to translate, as the datapath describes it.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// In datapath terms.
    pub key: &'a Flow,
    /// The packet itself, if there is one; a revalidation has only the key.
    pub packet: Option<&'a Packet>,
    /// Whether this is about a packet that is forwarded now (and not a what-if).
    pub side_effects: bool,
}

/// A packet to translate, as OpenFlow describes it.
pub struct SwitchInput<'a> {
    pub switch: SwitchId,
    /// In switch terms (`in_port` an OpenFlow port).
    pub flow: Flow,
    pub packet: Option<&'a Packet>,
    /// Runs these instead of looking up table 0 (packet-out).
    pub actions: Option<&'a [OfAction]>,
    pub is_packet_out: bool,
    pub frozen: Option<Arc<RecircNode>>,
    pub trace: Option<Trace>,
}

/// What came of a translation.
pub struct Translation {
    pub actions: Actions,
    /// The bits that were looked at, in datapath terms.
    pub mask: Mask,
    /// Why each packet must come to the switch, if it must.
    pub slow: SlowPath,
    /// The meter that such packets go through first.
    pub slow_meter: Option<u32>,
    pub effects: Vec<Effect>,
    /// Frozen states that the actions refer to.
    pub recircs: Vec<Arc<RecircNode>>,
    /// Of these, packets that went through connection tracking; only with a trace.
    pub ct_recircs: Vec<ct::CtRecirc>,
    /// The sessions of the switch's own ports that the packet is for.
    pub sessions: Vec<Arc<Bfd>>,
    /// Why the packet is dropped, if translation failed.
    pub error: DropReason,
    /// Whether the answer may be cached as a megaflow.
    pub may_install: bool,
    /// A lookup came behind a `learn` that changes its outcome: with a packet, see [`Fabric::take_lessons`].
    pub missed_lessons: bool,
    /// The fabric's generation when translation began.
    pub generation: u64,
    /// How the switch reads tunnel options: what [`for_datapath`] needs.
    pub tlv: Arc<TlvTable>,
    /// The switch key at the end, before the last action set.
    pub flow: Flow,
    pub trace: Option<Trace>,
}

/// Translates a packet of the datapath.
pub fn translate(fabric: &Fabric, state: &State, input: Input<'_>) -> Translation {
    let generation = fabric.generation();
    let mut flow = input.key.clone();
    flow.actset_output = u32::from(OfPort::UNSET.0);
    let mut frozen = None;
    let switch = if input.key.recirc_id != 0 {
        let Some(node) = fabric.recirc.get(input.key.recirc_id) else {
            return dropped(input.key, DropReason::NoRecirculationContext, generation);
        };
        let switch = node.frozen.switch;
        frozen = Some(node);
        switch
    } else {
        let Some(owner) = state.owner_of(input.key) else {
            return dropped(input.key, DropReason::BridgeNotFound, generation);
        };
        flow.in_port = u32::from(owner.port.0);
        owner.switch
    };
    let input = SwitchInput {
        switch,
        flow,
        packet: input.packet,
        actions: None,
        is_packet_out: false,
        frozen,
        trace: None,
    };
    translate_switch(fabric, state, input)
}

/// Translates a packet of a switch.
pub fn translate_switch(fabric: &Fabric, state: &State, input: SwitchInput<'_>) -> Translation {
    let generation = fabric.generation();
    let Some(switch) = state.switch(input.switch) else {
        return dropped(&input.flow, DropReason::BridgeNotFound, generation);
    };
    let mut ctx = Ctx::new(fabric, state, switch, &input);
    ctx.trace = input.trace;
    ctx.run(input.frozen.as_deref(), input.actions);
    let mut t = ctx.finish(generation);
    t.may_install &= input.actions.is_none();
    t
}

/// The mask that the datapath gets for packets like the one with `key`: without a word on tags it means "no
/// tag", and tunnel options are as they come.
pub fn for_datapath(mask: Mask, key: &Flow, tlv: &TlvTable) -> Mask {
    let mut mask = wildcards::for_datapath(mask);
    // The type of a packet without an Ethernet header is in both places.
    if key.packet_type != flow::PT_ETH {
        mask.dl_type = u16::MAX;
    }
    tunnel::mask_for_datapath(&mut mask, key, tlv);
    mask
}

/// A translation that could not even begin.
fn dropped(key: &Flow, error: DropReason, generation: u64) -> Translation {
    Translation {
        actions: vec![Action::Drop(error)],
        mask: exact_mask(key),
        slow: SlowPath::empty(),
        slow_meter: None,
        effects: Vec::new(),
        recircs: Vec::new(),
        ct_recircs: Vec::new(),
        sessions: Vec::new(),
        error,
        may_install: false,
        missed_lessons: false,
        generation,
        tlv: Arc::default(),
        flow: key.clone(),
        trace: None,
    }
}
