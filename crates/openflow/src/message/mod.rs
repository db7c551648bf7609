//! Any message, by what it means.

mod encode;

use crate::context::Context;
use crate::form::{Incoming, MsgType, identify};
use crate::msg::async_config::{AsyncChange, AsyncConfig};
use crate::msg::bundle::{BundleAdd, BundleControl, BundleFlags};
use crate::msg::ct_flush::{self, CtFlush};
use crate::msg::desc::Desc;
use crate::msg::error_msg::ErrorMsg;
use crate::msg::features::Features;
use crate::msg::flow_mod::FlowMod;
use crate::msg::flow_monitor::{self, FlowUpdate, MonitorRequest};
use crate::msg::flow_removed::FlowRemoved;
use crate::msg::flow_stats::{self, AggregateStats, FlowStats, FlowStatsRequest};
use crate::msg::group_mod::GroupMod;
use crate::msg::group_stats::{self, GroupDesc, GroupFeatures, GroupStats};
use crate::msg::hello::Hello;
use crate::msg::ipfix::{self, IpfixStats};
use crate::msg::meter::{self, MeterConfig, MeterFeatures, MeterMod, MeterStats};
use crate::msg::nx::{self, PacketInFormat};
use crate::msg::packet_in::{Continuation, PacketIn};
use crate::msg::packet_out::PacketOut;
use crate::msg::port::{self, PortDesc};
use crate::msg::port_mod::PortMod;
use crate::msg::port_stats::{self, PortStats};
use crate::msg::port_status::PortStatus;
use crate::msg::queue_config::{self, QueueConfig, QueueConfigRequest};
use crate::msg::queue_stats::{self, QueueStats, QueueStatsRequest};
use crate::msg::requestforward::RequestForward;
use crate::msg::role::{RoleMsg, RoleStatus};
use crate::msg::switch_config::SwitchConfig;
use crate::msg::table_desc::{self, TableStatus};
use crate::msg::table_features::{self, TableFeatures};
use crate::msg::table_mod::{TableDesc, TableMod};
use crate::msg::table_stats::{self, TableStats};
use crate::msg::tlv_table::{TlvTableMod, TlvTableReply};
use crate::{OfError, PortNo};

/// A message whose content is known. Named as in [`MsgType`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The types of the contents tell.
pub enum Message {
    Hello(Hello),
    /// `None` if the error's numbers are not known.
    Error(Option<ErrorMsg>),
    EchoRequest(Vec<u8>),
    EchoReply(Vec<u8>),
    FeaturesRequest,
    FeaturesReply(Features),
    GetConfigRequest,
    GetConfigReply(SwitchConfig),
    SetConfig(SwitchConfig),
    PacketIn(Box<PacketIn>),
    FlowRemoved(FlowRemoved),
    PortStatus(PortStatus),
    PacketOut(Box<PacketOut>),
    FlowMod(Box<FlowMod>),
    GroupMod(GroupMod),
    PortMod(PortMod),
    TableMod(TableMod),
    BarrierRequest,
    BarrierReply,
    QueueGetConfigRequest(QueueConfigRequest),
    /// The port is that of the message's own header (until OpenFlow 1.3).
    QueueGetConfigReply(PortNo, Vec<QueueConfig>),
    RoleRequest(RoleMsg),
    RoleReply(RoleMsg),
    RoleStatus(RoleStatus),
    GetAsyncRequest,
    GetAsyncReply(AsyncConfig),
    SetAsyncConfig(AsyncChange),
    MeterMod(MeterMod),
    RequestForward(Box<RequestForward>),
    TableStatus(TableStatus),
    BundleControl(BundleControl),
    BundleAddMessage {
        bundle_id: u32,
        flags: BundleFlags,
        xid: u32,
        message: Box<Message>,
    },
    DescStatsRequest,
    DescStatsReply(Desc),
    FlowStatsRequest(FlowStatsRequest),
    FlowStatsReply(Vec<FlowStats<'static>>),
    AggregateStatsRequest(FlowStatsRequest),
    AggregateStatsReply(AggregateStats),
    TableStatsRequest,
    TableStatsReply(Vec<(TableStats, TableFeatures)>),
    /// [`PortNo::NONE`] for all.
    PortStatsRequest(PortNo),
    PortStatsReply(Vec<PortStats>),
    QueueStatsRequest(QueueStatsRequest),
    QueueStatsReply(Vec<QueueStats>),
    GroupStatsRequest(u32),
    GroupStatsReply(Vec<GroupStats>),
    GroupDescStatsRequest(u32),
    GroupDescStatsReply(Vec<GroupDesc>),
    GroupFeaturesStatsRequest,
    GroupFeaturesStatsReply(GroupFeatures),
    MeterStatsRequest(u32),
    MeterStatsReply(Vec<MeterStats>),
    MeterConfigStatsRequest(u32),
    MeterConfigStatsReply(Vec<MeterConfig>),
    MeterFeaturesStatsRequest,
    MeterFeaturesStatsReply(MeterFeatures),
    TableFeaturesStatsRequest(Vec<TableFeatures>),
    TableFeaturesStatsReply(Vec<TableFeatures>),
    TableDescRequest,
    TableDescReply(Vec<TableDesc>),
    /// [`PortNo::NONE`] for all.
    PortDescStatsRequest(PortNo),
    PortDescStatsReply(Vec<PortDesc>),
    FlowMonitorStatsRequest(Vec<MonitorRequest>),
    FlowMonitorStatsReply(Vec<FlowUpdate<'static>>),
    FlowMonitorCancel(u32),
    FlowMonitorPaused,
    FlowMonitorResumed,
    /// Whether flows are to travel with Nicira's match.
    SetFlowFormat(bool),
    /// Whether flow-mods are to name their table.
    FlowModTableId(bool),
    SetPacketInFormat(PacketInFormat),
    FlowAge,
    SetControllerId(u16),
    TlvTableMod(TlvTableMod),
    TlvTableRequest,
    TlvTableReply(TlvTableReply),
    Resume(Box<PacketIn>, Box<Continuation>),
    IpfixBridgeStatsRequest,
    IpfixBridgeStatsReply(Vec<IpfixStats>),
    IpfixFlowStatsRequest,
    IpfixFlowStatsReply(Vec<IpfixStats>),
    CtFlushZone(u16),
    CtFlush(CtFlush),
}

impl Message {
    /// Decodes a message of any type.
    ///
    /// # Errors
    /// The error to answer the message with.
    #[allow(clippy::too_many_lines)] // One line a message.
    pub fn decode(msg: &Incoming<'_>, context: &Context<'_>) -> Result<Self, OfError> {
        use MsgType as T;
        Ok(match msg.msg_type() {
            T::Hello => Self::Hello(Hello::decode(msg)),
            T::Error => Self::Error(ErrorMsg::decode(msg)),
            T::EchoRequest => Self::EchoRequest(msg.body().rest().to_vec()),
            T::EchoReply => Self::EchoReply(msg.body().rest().to_vec()),
            T::FeaturesRequest => Self::FeaturesRequest,
            T::FeaturesReply => Self::FeaturesReply(Features::decode(msg)?),
            T::GetConfigRequest => Self::GetConfigRequest,
            T::GetConfigReply => Self::GetConfigReply(SwitchConfig::decode(msg)?),
            T::SetConfig => Self::SetConfig(SwitchConfig::decode(msg)?),
            T::PacketIn => Self::PacketIn(PacketIn::decode(msg, context)?.into()),
            T::FlowRemoved => Self::FlowRemoved(FlowRemoved::decode(msg, context)?),
            T::PortStatus => Self::PortStatus(PortStatus::decode(msg)?),
            T::PacketOut => Self::PacketOut(PacketOut::decode(msg, context)?.into()),
            T::FlowMod => Self::FlowMod(FlowMod::decode(msg, context)?.into()),
            T::GroupMod => Self::GroupMod(GroupMod::decode(msg, context)?),
            T::PortMod => Self::PortMod(PortMod::decode(msg)?),
            T::TableMod => Self::TableMod(TableMod::decode(msg)?),
            T::BarrierRequest => Self::BarrierRequest,
            T::BarrierReply => Self::BarrierReply,
            T::QueueGetConfigRequest => Self::QueueGetConfigRequest(QueueConfigRequest::decode(msg)?),
            T::QueueGetConfigReply => {
                Self::QueueGetConfigReply(queue_config::reply_port(msg)?, queue_config::decode_reply(msg)?)
            }
            T::RoleRequest => Self::RoleRequest(RoleMsg::decode(msg)?),
            T::RoleReply => Self::RoleReply(RoleMsg::decode(msg)?),
            T::RoleStatus => Self::RoleStatus(RoleStatus::decode(msg)?),
            T::GetAsyncRequest => Self::GetAsyncRequest,
            T::GetAsyncReply => Self::GetAsyncReply(AsyncConfig::decode_reply(msg)?),
            T::SetAsyncConfig => Self::SetAsyncConfig(AsyncChange::decode(msg)?),
            T::MeterMod => Self::MeterMod(MeterMod::decode(msg)?),
            T::RequestForward => Self::RequestForward(RequestForward::decode(msg, context)?.into()),
            T::TableStatus => Self::TableStatus(TableStatus::decode(msg)?),
            T::BundleControl => Self::BundleControl(BundleControl::decode(msg)?),
            T::BundleAddMessage => {
                let (add, inner) = BundleAdd::decode(msg)?;
                let message = Box::new(Self::decode(&inner, context)?);
                let xid = msg.header.xid;
                Self::BundleAddMessage { bundle_id: add.bundle_id, flags: add.flags, xid, message }
            }
            T::DescStatsRequest => Self::DescStatsRequest,
            T::DescStatsReply => Self::DescStatsReply(Desc::decode_reply(msg)?),
            T::FlowStatsRequest => Self::FlowStatsRequest(FlowStatsRequest::decode(msg, context)?),
            T::FlowStatsReply => Self::FlowStatsReply(flow_stats::decode_reply(msg, context)?),
            T::AggregateStatsRequest => Self::AggregateStatsRequest(FlowStatsRequest::decode(msg, context)?),
            T::AggregateStatsReply => Self::AggregateStatsReply(AggregateStats::decode_reply(msg)?),
            T::TableStatsRequest => Self::TableStatsRequest,
            T::TableStatsReply => Self::TableStatsReply(table_stats::decode_reply(msg)?),
            T::PortStatsRequest => Self::PortStatsRequest(port_stats::decode_request(msg)?),
            T::PortStatsReply => Self::PortStatsReply(port_stats::decode_reply(msg)?),
            T::QueueStatsRequest => Self::QueueStatsRequest(QueueStatsRequest::decode(msg)?),
            T::QueueStatsReply => Self::QueueStatsReply(queue_stats::decode_reply(msg)?),
            T::GroupStatsRequest => Self::GroupStatsRequest(group_stats::decode_request(msg)?),
            T::GroupStatsReply => Self::GroupStatsReply(group_stats::decode_reply(msg)?),
            T::GroupDescStatsRequest => Self::GroupDescStatsRequest(group_stats::decode_desc_request(msg)?),
            T::GroupDescStatsReply => {
                Self::GroupDescStatsReply(group_stats::decode_desc_reply(msg, context)?)
            }
            T::GroupFeaturesStatsRequest => Self::GroupFeaturesStatsRequest,
            T::GroupFeaturesStatsReply => Self::GroupFeaturesStatsReply(GroupFeatures::decode_reply(msg)?),
            T::MeterStatsRequest => Self::MeterStatsRequest(meter::decode_request(msg)?),
            T::MeterStatsReply => Self::MeterStatsReply(meter::decode_stats_reply(msg)?),
            T::MeterConfigStatsRequest => Self::MeterConfigStatsRequest(meter::decode_request(msg)?),
            T::MeterConfigStatsReply => Self::MeterConfigStatsReply(meter::decode_config_reply(msg)?),
            T::MeterFeaturesStatsRequest => Self::MeterFeaturesStatsRequest,
            T::MeterFeaturesStatsReply => Self::MeterFeaturesStatsReply(MeterFeatures::decode_reply(msg)?),
            T::TableFeaturesStatsRequest => Self::TableFeaturesStatsRequest(table_features::decode(msg)?),
            T::TableFeaturesStatsReply => Self::TableFeaturesStatsReply(table_features::decode(msg)?),
            T::TableDescRequest => Self::TableDescRequest,
            T::TableDescReply => Self::TableDescReply(table_desc::decode_reply(msg)?),
            T::PortDescStatsRequest => Self::PortDescStatsRequest(port::decode_desc_request(msg)?),
            T::PortDescStatsReply => Self::PortDescStatsReply(port::decode_desc_reply(msg)?),
            T::FlowMonitorStatsRequest => {
                Self::FlowMonitorStatsRequest(flow_monitor::decode_request(msg, context)?)
            }
            T::FlowMonitorStatsReply => {
                Self::FlowMonitorStatsReply(flow_monitor::decode_updates(msg, context)?)
            }
            T::FlowMonitorCancel => Self::FlowMonitorCancel(flow_monitor::decode_cancel(msg)?),
            T::FlowMonitorPaused => Self::FlowMonitorPaused,
            T::FlowMonitorResumed => Self::FlowMonitorResumed,
            T::SetFlowFormat => Self::SetFlowFormat(nx::decode_flow_format(msg)?),
            T::FlowModTableId => Self::FlowModTableId(nx::decode_flow_mod_table_id(msg)?),
            T::SetPacketInFormat => Self::SetPacketInFormat(PacketInFormat::decode(msg)?),
            T::FlowAge => Self::FlowAge,
            T::SetControllerId => Self::SetControllerId(nx::decode_controller_id(msg)?),
            T::TlvTableMod => Self::TlvTableMod(TlvTableMod::decode(msg)?),
            T::TlvTableRequest => Self::TlvTableRequest,
            T::TlvTableReply => Self::TlvTableReply(TlvTableReply::decode(msg)?),
            T::Resume => {
                let packet = PacketIn::decode(msg, context)?;
                let continuation = Continuation::decode(&packet.continuation, msg.version, context)?;
                Self::Resume(packet.into(), continuation.into())
            }
            T::IpfixBridgeStatsRequest => Self::IpfixBridgeStatsRequest,
            T::IpfixBridgeStatsReply => Self::IpfixBridgeStatsReply(ipfix::decode_reply(msg)?),
            T::IpfixFlowStatsRequest => Self::IpfixFlowStatsRequest,
            T::IpfixFlowStatsReply => Self::IpfixFlowStatsReply(ipfix::decode_reply(msg)?),
            T::CtFlushZone => Self::CtFlushZone(ct_flush::decode_zone(msg)?),
            T::CtFlush => Self::CtFlush(CtFlush::decode(msg)?),
        })
    }
}

/// Identifies and decodes `bytes`, which are one whole message.
///
/// # Errors
/// The error to answer the message with.
pub fn decode(bytes: &[u8], context: &Context<'_>) -> Result<Message, OfError> {
    Message::decode(&identify(bytes)?, context)
}

#[cfg(test)]
mod tests;
