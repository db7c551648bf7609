//! What each message does.
//!
//! [`run`] works off the messages of one connection. Flow-mods that follow each other are decoded first
//! and applied together under one writer's lock ([`flow_mods`]); everything else is handled one by one
//! by the functions of the file of its family.

mod absent;
pub mod bundles;
mod ct_flush;
pub mod flow_mods;
mod flow_monitor;
pub mod flow_stats;
mod groups;
mod meters;
mod packet_out;
mod ports;
mod resume;
mod session;
mod tables;
mod tlv_table;

use crate::conn::agent::Agent;
use crate::conn::manager::Env;
use crate::conn::session::Conn;
use crate::switch::Switch;
use bytes::Bytes;
use flow::TlvTable;
use openflow::multipart::MultipartAssembler;
use openflow::{Context, Incoming, MsgType, OfError, PortNo, Target, Version, identify};
use std::sync::Arc;

/// Number of tables, the switch's own included.
pub const N_TABLES: u8 = crate::table::TABLES as u8;

/// What a handler works with. The connection is not among the agent's while it is served.
pub struct Cx<'a> {
    pub env: &'a Env,
    pub agent: &'a mut Agent,
    pub conn: &'a mut Conn,
    /// The switch's tunnel options.
    pub tlv: Arc<TlvTable>,
}

impl<'a> Cx<'a> {
    pub fn new(env: &'a Env, agent: &'a mut Agent, conn: &'a mut Conn) -> Self {
        let tlv = env.tlv(agent.id);
        Cx { env, agent, conn, tlv }
    }

    /// How to decode.
    pub fn context(&self) -> Context<'_> {
        Context {
            protocol: self.conn.protocol,
            tlv: Some(&self.tlv),
            ports_max: PortNo::MAX,
            n_tables: N_TABLES,
            debug_actions: self.env.debug_actions,
        }
    }

    /// How to encode.
    pub fn target(&self) -> Target<'_> {
        Target { protocol: self.conn.protocol, tlv: Some(&self.tlv) }
    }

    /// Reads the switch.
    pub fn read<T>(&self, f: impl FnOnce(&Switch) -> T) -> Result<T, OfError> {
        self.env.fabric.read().switch(self.agent.id).map(f).ok_or(OfError::OfpbrcEperm)
    }

    /// Changes the switch, which translations will see.
    pub fn write<T>(&self, f: impl FnOnce(&mut Switch) -> T) -> Result<T, OfError> {
        let out = {
            let mut state = self.env.fabric.write();
            state.switch_mut(self.agent.id).map(f).map_err(|_| OfError::OfpbrcEperm)
        };
        self.env.fabric.changed();
        out
    }
}

/// Works off what waits on the connection, as long as it takes our replies.
pub fn run(cx: &mut Cx<'_>) {
    let mut mods = flow_mods::Batch::default();
    while flow_stats::continue_dump(cx.conn) && !cx.conn.link.hold() {
        let Some(bytes) = cx.conn.inbox.pop_front() else { break };
        coverage::counter::ofproto_recv_openflow.inc();
        if mods.take(cx, &bytes) {
            continue;
        }
        mods.commit(cx);
        handle(cx, &bytes);
    }
    mods.commit(cx);
}

/// Handles one message, putting multipart requests together.
fn handle(cx: &mut Cx<'_>, bytes: &Bytes) {
    if !MultipartAssembler::is_for(bytes) {
        return handle_whole(cx, bytes, &[]);
    }
    match cx.conn.assembler.submit(bytes, cx.env.now_ms()) {
        Ok(parts) => {
            if let Some(first) = parts.first() {
                handle_whole(cx, first, &parts);
            }
        }
        Err(e) => cx.conn.send_error(e, bytes),
    }
}

/// Handles a message that is complete; `parts` are those of a multipart request.
fn handle_whole(cx: &mut Cx<'_>, bytes: &[u8], parts: &[Vec<u8>]) {
    let result = identify(bytes).and_then(|msg| match msg.msg_type() {
        MsgType::TableFeaturesStatsRequest => tables::features(cx, parts),
        MsgType::FlowMonitorStatsRequest => flow_monitor::request(cx, parts),
        _ if parts.len() > 1 => Err(OfError::OfpbrcBadStat),
        _ => dispatch(cx, &msg),
    });
    if let Err(e) = result {
        cx.conn.send_error(e, bytes);
    }
}

fn dispatch(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result<(), OfError> {
    match msg.msg_type() {
        MsgType::EchoRequest => session::echo(cx, msg),
        MsgType::FeaturesRequest => session::features(cx, msg),
        MsgType::GetConfigRequest => session::get_config(cx, msg),
        MsgType::SetConfig => session::set_config(cx, msg),
        MsgType::BarrierRequest => session::barrier(cx, msg),
        MsgType::RoleRequest => session::role(cx, msg),
        MsgType::EchoReply | MsgType::FlowAge => Ok(()),
        MsgType::FlowModTableId => session::flow_mod_table_id(cx, msg),
        MsgType::SetFlowFormat => session::set_flow_format(cx, msg),
        MsgType::SetPacketInFormat => session::set_packet_in_format(cx, msg),
        MsgType::SetControllerId => session::set_controller_id(cx, msg),
        MsgType::SetAsyncConfig => session::set_async(cx, msg),
        MsgType::GetAsyncRequest => session::get_async(cx, msg),
        MsgType::DescStatsRequest => session::desc(cx, msg),
        MsgType::PacketOut => packet_out::packet_out(cx, msg),
        MsgType::Resume => resume::resume(cx, msg),
        MsgType::PortMod => ports::port_mod(cx, msg),
        MsgType::PortStatsRequest => ports::stats(cx, msg),
        MsgType::PortDescStatsRequest => ports::desc(cx, msg),
        MsgType::QueueStatsRequest => ports::queue_stats(cx, msg),
        MsgType::QueueGetConfigRequest => ports::queue_config(cx, msg),
        MsgType::FlowStatsRequest => flow_stats::flows(cx, msg),
        MsgType::FlowMonitorCancel => flow_monitor::cancel(cx, msg),
        MsgType::AggregateStatsRequest => flow_stats::aggregate(cx, msg),
        MsgType::TableMod => tables::table_mod(cx, msg),
        MsgType::TableStatsRequest => tables::stats(cx, msg),
        MsgType::TableDescRequest => tables::desc(cx, msg),
        MsgType::BundleControl => bundles::control(cx, msg),
        MsgType::BundleAddMessage => bundles::add(cx, msg),
        MsgType::CtFlushZone => ct_flush::zone(cx, msg),
        MsgType::CtFlush => ct_flush::matching(cx, msg),
        MsgType::TlvTableMod => tlv_table::change(cx, msg),
        MsgType::TlvTableRequest => tlv_table::show(cx, msg),
        MsgType::GroupMod => groups::group_mod(cx, msg),
        MsgType::GroupStatsRequest => groups::stats(cx, msg),
        MsgType::GroupDescStatsRequest => groups::desc(cx, msg),
        MsgType::GroupFeaturesStatsRequest => groups::features(cx, msg),
        MsgType::MeterMod => meters::meter_mod(cx, msg),
        MsgType::MeterStatsRequest => meters::stats(cx, msg),
        MsgType::MeterConfigStatsRequest => meters::config(cx, msg),
        MsgType::MeterFeaturesStatsRequest => meters::features(cx, msg),
        other => absent::dispatch(cx, msg, other),
    }
}

/// The error for messages that a switch is not sent.
fn unexpected(msg: &Incoming<'_>) -> OfError {
    if msg.form.is_multipart_request() { OfError::OfpbrcBadStat } else { OfError::OfpbrcBadType }
}

/// How long milliseconds are, as messages have it.
fn elapsed(ms: u64) -> openflow::Elapsed {
    std::time::Duration::from_millis(ms).into()
}

/// Whether `version` has 32-bit ports and all that came with them.
fn is_of10(version: Version) -> bool {
    version == Version::Of10
}

#[cfg(test)]
mod monitor_tests;
#[cfg(test)]
mod tests;
