//! The table of forms.
//!
//! One line a form: its name here and in the headers, the header and number by which it is known, the
//! versions that have it, the length of its body (a fixed part, and what the length of the rest must be a
//! multiple of; 0 for no rest), and what it means.

use super::{Info, Kind, MsgType, Versions};
use crate::Version::{Of10, Of11, Of12, Of13, Of14, Of15};

macro_rules! versions {
    (every) => {
        Versions::Every
    };
    ($first:ident $last:ident) => {
        Versions::Range($first, $last)
    };
}

macro_rules! forms {
    ($($form:ident $name:literal $kind:ident $number:literal [$($version:ident)+] ($min:literal, $unit:literal) $type:ident;)+) => {
        /// A layout of a message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Form {
            $(#[doc = concat!("`", $name, "`")] $form,)+
        }

        impl Form {
            /// Every form, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$form,)+];

            pub(super) const TABLE: &'static [Info] = &[$(Info {
                name: $name,
                kind: Kind::$kind,
                number: $number,
                versions: versions!($($version)+),
                body_min: $min,
                rest_unit: $unit,
                msg_type: MsgType::$type,
            },)+];
        }
    };
}

forms! {
    OfptHello "OFPT_HELLO" Ofpt 0 [every] (0, 1) Hello;
    OfptError "OFPT_ERROR" Ofpt 1 [every] (4, 1) Error;
    OfptEchoRequest "OFPT_ECHO_REQUEST" Ofpt 2 [every] (0, 1) EchoRequest;
    OfptEchoReply "OFPT_ECHO_REPLY" Ofpt 3 [every] (0, 1) EchoReply;
    OfptFeaturesRequest "OFPT_FEATURES_REQUEST" Ofpt 5 [Of10 Of15] (0, 0) FeaturesRequest;
    Ofpt10FeaturesReply "OFPT_FEATURES_REPLY" Ofpt 6 [Of10 Of10] (24, 48) FeaturesReply;
    Ofpt11FeaturesReply "OFPT_FEATURES_REPLY" Ofpt 6 [Of11 Of12] (24, 64) FeaturesReply;
    Ofpt13FeaturesReply "OFPT_FEATURES_REPLY" Ofpt 6 [Of13 Of15] (24, 0) FeaturesReply;
    OfptGetConfigRequest "OFPT_GET_CONFIG_REQUEST" Ofpt 7 [Of10 Of15] (0, 0) GetConfigRequest;
    OfptGetConfigReply "OFPT_GET_CONFIG_REPLY" Ofpt 8 [Of10 Of15] (4, 0) GetConfigReply;
    OfptSetConfig "OFPT_SET_CONFIG" Ofpt 9 [Of10 Of15] (4, 0) SetConfig;
    Ofpt10PacketIn "OFPT_PACKET_IN" Ofpt 10 [Of10 Of10] (10, 1) PacketIn;
    Ofpt11PacketIn "OFPT_PACKET_IN" Ofpt 10 [Of11 Of11] (16, 1) PacketIn;
    Ofpt12PacketIn "OFPT_PACKET_IN" Ofpt 10 [Of12 Of12] (8, 1) PacketIn;
    Ofpt13PacketIn "OFPT_PACKET_IN" Ofpt 10 [Of13 Of15] (16, 1) PacketIn;
    NxtPacketIn "NXT_PACKET_IN" Nxt 17 [Of10 Of15] (24, 1) PacketIn;
    NxtPacketIn2 "NXT_PACKET_IN2" Nxt 30 [Of10 Of15] (0, 8) PacketIn;
    Ofpt10FlowRemoved "OFPT_FLOW_REMOVED" Ofpt 11 [Of10 Of10] (80, 0) FlowRemoved;
    Ofpt11FlowRemoved "OFPT_FLOW_REMOVED" Ofpt 11 [Of11 Of14] (40, 8) FlowRemoved;
    Ofpt15FlowRemoved "OFPT_FLOW_REMOVED" Ofpt 11 [Of15 Of15] (16, 8) FlowRemoved;
    NxtFlowRemoved "NXT_FLOW_REMOVED" Nxt 14 [Of10 Of15] (40, 8) FlowRemoved;
    Ofpt10PortStatus "OFPT_PORT_STATUS" Ofpt 12 [Of10 Of10] (56, 0) PortStatus;
    Ofpt11PortStatus "OFPT_PORT_STATUS" Ofpt 12 [Of11 Of13] (72, 0) PortStatus;
    Ofpt14PortStatus "OFPT_PORT_STATUS" Ofpt 12 [Of14 Of15] (48, 8) PortStatus;
    Ofpt10PacketOut "OFPT_PACKET_OUT" Ofpt 13 [Of10 Of10] (8, 1) PacketOut;
    Ofpt11PacketOut "OFPT_PACKET_OUT" Ofpt 13 [Of11 Of14] (16, 1) PacketOut;
    Ofpt15PacketOut "OFPT_PACKET_OUT" Ofpt 13 [Of15 Of15] (8, 1) PacketOut;
    Ofpt10FlowMod "OFPT_FLOW_MOD" Ofpt 14 [Of10 Of10] (64, 8) FlowMod;
    Ofpt11FlowMod "OFPT_FLOW_MOD" Ofpt 14 [Of11 Of15] (40, 8) FlowMod;
    NxtFlowMod "NXT_FLOW_MOD" Nxt 13 [Of10 Of15] (32, 8) FlowMod;
    NxtGroupMod "NXT_GROUP_MOD" Nxt 31 [Of10 Of10] (16, 8) GroupMod;
    Ofpt11GroupMod "OFPT_GROUP_MOD" Ofpt 15 [Of11 Of14] (8, 8) GroupMod;
    Ofpt15GroupMod "OFPT_GROUP_MOD" Ofpt 15 [Of15 Of15] (16, 8) GroupMod;
    Ofpt10PortMod "OFPT_PORT_MOD" Ofpt 15 [Of10 Of10] (24, 0) PortMod;
    Ofpt11PortMod "OFPT_PORT_MOD" Ofpt 16 [Of11 Of13] (32, 0) PortMod;
    Ofpt14PortMod "OFPT_PORT_MOD" Ofpt 16 [Of14 Of15] (24, 8) PortMod;
    Ofpt11TableMod "OFPT_TABLE_MOD" Ofpt 17 [Of11 Of13] (8, 0) TableMod;
    Ofpt14TableMod "OFPT_TABLE_MOD" Ofpt 17 [Of14 Of15] (8, 8) TableMod;
    Ofpt10BarrierRequest "OFPT_BARRIER_REQUEST" Ofpt 18 [Of10 Of10] (0, 0) BarrierRequest;
    Ofpt11BarrierRequest "OFPT_BARRIER_REQUEST" Ofpt 20 [Of11 Of15] (0, 0) BarrierRequest;
    Ofpt10BarrierReply "OFPT_BARRIER_REPLY" Ofpt 19 [Of10 Of10] (0, 0) BarrierReply;
    Ofpt11BarrierReply "OFPT_BARRIER_REPLY" Ofpt 21 [Of11 Of15] (0, 0) BarrierReply;
    Ofpt10QueueGetConfigRequest "OFPT_QUEUE_GET_CONFIG_REQUEST" Ofpt 20 [Of10 Of10] (4, 0) QueueGetConfigRequest;
    Ofpt11QueueGetConfigRequest "OFPT_QUEUE_GET_CONFIG_REQUEST" Ofpt 22 [Of11 Of13] (8, 0) QueueGetConfigRequest;
    Ofpt10QueueGetConfigReply "OFPT_QUEUE_GET_CONFIG_REPLY" Ofpt 21 [Of10 Of10] (8, 8) QueueGetConfigReply;
    Ofpt11QueueGetConfigReply "OFPT_QUEUE_GET_CONFIG_REPLY" Ofpt 23 [Of11 Of13] (8, 8) QueueGetConfigReply;
    Ofpt12RoleRequest "OFPT_ROLE_REQUEST" Ofpt 24 [Of12 Of15] (16, 0) RoleRequest;
    NxtRoleRequest "NXT_ROLE_REQUEST" Nxt 10 [Of10 Of15] (4, 0) RoleRequest;
    Ofpt12RoleReply "OFPT_ROLE_REPLY" Ofpt 25 [Of12 Of15] (16, 0) RoleReply;
    NxtRoleReply "NXT_ROLE_REPLY" Nxt 11 [Of10 Of15] (4, 0) RoleReply;
    Ofpt13GetAsyncRequest "OFPT_GET_ASYNC_REQUEST" Ofpt 26 [Of13 Of13] (0, 0) GetAsyncRequest;
    Ofpt14GetAsyncRequest "OFPT_GET_ASYNC_REQUEST" Ofpt 26 [Of14 Of15] (0, 0) GetAsyncRequest;
    Ofpt13GetAsyncReply "OFPT_GET_ASYNC_REPLY" Ofpt 27 [Of13 Of13] (24, 0) GetAsyncReply;
    Ofpt14GetAsyncReply "OFPT_GET_ASYNC_REPLY" Ofpt 27 [Of14 Of15] (0, 8) GetAsyncReply;
    Ofpt13SetAsync "OFPT_SET_ASYNC" Ofpt 28 [Of13 Of13] (24, 0) SetAsyncConfig;
    NxtSetAsyncConfig "NXT_SET_ASYNC_CONFIG" Nxt 19 [Of10 Of15] (24, 0) SetAsyncConfig;
    NxtSetAsyncConfig2 "NXT_SET_ASYNC_CONFIG2" Nxt 27 [Of10 Of13] (0, 8) SetAsyncConfig;
    Ofpt14SetAsync "OFPT_SET_ASYNC" Ofpt 28 [Of14 Of15] (0, 8) SetAsyncConfig;
    Ofpt13MeterMod "OFPT_METER_MOD" Ofpt 29 [Of13 Of15] (8, 8) MeterMod;
    Onft13RoleStatus "ONFT_ROLE_STATUS" Onft 1911 [Of13 Of13] (16, 8) RoleStatus;
    Ofpt14RoleStatus "OFPT_ROLE_STATUS" Ofpt 30 [Of14 Of15] (16, 8) RoleStatus;
    Ofpt14TableStatus "OFPT_TABLE_STATUS" Ofpt 31 [Of14 Of15] (8, 8) TableStatus;
    NxtRequestForward "NXT_REQUESTFORWARD" Nxt 132 [Of10 Of12] (8, 8) RequestForward;
    Onft13RequestForward "ONFT_REQUESTFORWARD" Onft 2350 [Of13 Of13] (8, 8) RequestForward;
    Ofpt14RequestForward "OFPT_REQUESTFORWARD" Ofpt 32 [Of14 Of15] (8, 8) RequestForward;
    Ofpt14BundleControl "OFPT_BUNDLE_CONTROL" Ofpt 33 [Of14 Of15] (8, 8) BundleControl;
    Onft13BundleControl "ONFT_BUNDLE_CONTROL" Onft 2300 [Of13 Of13] (8, 8) BundleControl;
    Ofpt14BundleAddMessage "OFPT_BUNDLE_ADD_MESSAGE" Ofpt 34 [Of14 Of15] (8, 1) BundleAddMessage;
    Onft13BundleAddMessage "ONFT_BUNDLE_ADD_MESSAGE" Onft 2301 [Of13 Of13] (8, 1) BundleAddMessage;
    OfpstDescRequest "OFPST_DESC request" OfpstRequest 0 [Of10 Of15] (0, 0) DescStatsRequest;
    OfpstDescReply "OFPST_DESC reply" OfpstReply 0 [Of10 Of15] (1056, 0) DescStatsReply;
    Ofpst10FlowRequest "OFPST_FLOW request" OfpstRequest 1 [Of10 Of10] (44, 0) FlowStatsRequest;
    Ofpst11FlowRequest "OFPST_FLOW request" OfpstRequest 1 [Of11 Of15] (32, 8) FlowStatsRequest;
    NxstFlowRequest "NXST_FLOW request" NxstRequest 0 [Of10 Of10] (8, 8) FlowStatsRequest;
    Ofpst10FlowReply "OFPST_FLOW reply" OfpstReply 1 [Of10 Of10] (0, 1) FlowStatsReply;
    Ofpst11FlowReply "OFPST_FLOW reply" OfpstReply 1 [Of11 Of12] (0, 1) FlowStatsReply;
    Ofpst13FlowReply "OFPST_FLOW reply" OfpstReply 1 [Of13 Of14] (0, 1) FlowStatsReply;
    Ofpst15FlowReply "OFPST_FLOW reply" OfpstReply 1 [Of15 Of15] (0, 1) FlowStatsReply;
    NxstFlowReply "NXST_FLOW reply" NxstReply 0 [Of10 Of10] (0, 1) FlowStatsReply;
    Ofpst10AggregateRequest "OFPST_AGGREGATE request" OfpstRequest 2 [Of10 Of10] (44, 0) AggregateStatsRequest;
    Ofpst11AggregateRequest "OFPST_AGGREGATE request" OfpstRequest 2 [Of11 Of14] (32, 8) AggregateStatsRequest;
    Ofpst15AggregateRequest "OFPST_AGGREGATE request" OfpstRequest 2 [Of15 Of15] (32, 8) AggregateStatsRequest;
    NxstAggregateRequest "NXST_AGGREGATE request" NxstRequest 1 [Of10 Of10] (8, 8) AggregateStatsRequest;
    OfpstAggregateReply "OFPST_AGGREGATE reply" OfpstReply 2 [Of10 Of14] (24, 0) AggregateStatsReply;
    Ofpst15AggregateReply "OFPST_AGGREGATE reply" OfpstReply 2 [Of15 Of15] (0, 1) AggregateStatsReply;
    NxstAggregateReply "NXST_AGGREGATE reply" NxstReply 1 [Of10 Of10] (24, 0) AggregateStatsReply;
    OfpstTableRequest "OFPST_TABLE request" OfpstRequest 3 [Of10 Of15] (0, 0) TableStatsRequest;
    Ofpst10TableReply "OFPST_TABLE reply" OfpstReply 3 [Of10 Of10] (0, 64) TableStatsReply;
    Ofpst11TableReply "OFPST_TABLE reply" OfpstReply 3 [Of11 Of11] (0, 88) TableStatsReply;
    Ofpst12TableReply "OFPST_TABLE reply" OfpstReply 3 [Of12 Of12] (0, 128) TableStatsReply;
    Ofpst13TableReply "OFPST_TABLE reply" OfpstReply 3 [Of13 Of15] (0, 24) TableStatsReply;
    Ofpst10PortRequest "OFPST_PORT request" OfpstRequest 4 [Of10 Of10] (8, 0) PortStatsRequest;
    Ofpst11PortRequest "OFPST_PORT request" OfpstRequest 4 [Of11 Of15] (8, 0) PortStatsRequest;
    Ofpst10PortReply "OFPST_PORT reply" OfpstReply 4 [Of10 Of10] (0, 104) PortStatsReply;
    Ofpst11PortReply "OFPST_PORT reply" OfpstReply 4 [Of11 Of12] (0, 104) PortStatsReply;
    Ofpst13PortReply "OFPST_PORT reply" OfpstReply 4 [Of13 Of13] (0, 112) PortStatsReply;
    Ofpst14PortReply "OFPST_PORT reply" OfpstReply 4 [Of14 Of15] (0, 8) PortStatsReply;
    Ofpst10QueueRequest "OFPST_QUEUE request" OfpstRequest 5 [Of10 Of10] (8, 0) QueueStatsRequest;
    Ofpst11QueueRequest "OFPST_QUEUE request" OfpstRequest 5 [Of11 Of15] (8, 0) QueueStatsRequest;
    Ofpst10QueueReply "OFPST_QUEUE reply" OfpstReply 5 [Of10 Of10] (0, 32) QueueStatsReply;
    Ofpst11QueueReply "OFPST_QUEUE reply" OfpstReply 5 [Of11 Of12] (0, 32) QueueStatsReply;
    Ofpst13QueueReply "OFPST_QUEUE reply" OfpstReply 5 [Of13 Of13] (0, 40) QueueStatsReply;
    Ofpst14QueueReply "OFPST_QUEUE reply" OfpstReply 5 [Of14 Of15] (0, 8) QueueStatsReply;
    NxstGroupRequest "NXST_GROUP request" NxstRequest 7 [Of10 Of10] (8, 0) GroupStatsRequest;
    Ofpst11GroupRequest "OFPST_GROUP request" OfpstRequest 6 [Of11 Of15] (8, 0) GroupStatsRequest;
    NxstGroupReply "NXST_GROUP reply" NxstReply 7 [Of10 Of10] (0, 8) GroupStatsReply;
    Ofpst11GroupReply "OFPST_GROUP reply" OfpstReply 6 [Of11 Of12] (0, 8) GroupStatsReply;
    Ofpst13GroupReply "OFPST_GROUP reply" OfpstReply 6 [Of13 Of15] (0, 8) GroupStatsReply;
    NxstGroupDescRequest "NXST_GROUP_DESC request" NxstRequest 8 [Of10 Of10] (8, 0) GroupDescStatsRequest;
    Ofpst11GroupDescRequest "OFPST_GROUP_DESC request" OfpstRequest 7 [Of11 Of14] (0, 0) GroupDescStatsRequest;
    Ofpst15GroupDescRequest "OFPST_GROUP_DESC request" OfpstRequest 7 [Of15 Of15] (8, 0) GroupDescStatsRequest;
    NxstGroupDescReply "NXST_GROUP_DESC reply" NxstReply 8 [Of10 Of10] (0, 8) GroupDescStatsReply;
    Ofpst11GroupDescReply "OFPST_GROUP_DESC reply" OfpstReply 7 [Of11 Of15] (0, 8) GroupDescStatsReply;
    NxstGroupFeaturesRequest "NXST_GROUP_FEATURES request" NxstRequest 9 [Of10 Of11] (0, 0) GroupFeaturesStatsRequest;
    Ofpst12GroupFeaturesRequest "OFPST_GROUP_FEATURES request" OfpstRequest 8 [Of12 Of15] (0, 0) GroupFeaturesStatsRequest;
    NxstGroupFeaturesReply "NXST_GROUP_FEATURES reply" NxstReply 9 [Of10 Of11] (40, 0) GroupFeaturesStatsReply;
    Ofpst12GroupFeaturesReply "OFPST_GROUP_FEATURES reply" OfpstReply 8 [Of12 Of15] (40, 0) GroupFeaturesStatsReply;
    Ofpst13MeterRequest "OFPST_METER request" OfpstRequest 9 [Of13 Of15] (8, 0) MeterStatsRequest;
    Ofpst13MeterReply "OFPST_METER reply" OfpstReply 9 [Of13 Of15] (0, 8) MeterStatsReply;
    Ofpst13MeterConfigRequest "OFPST_METER_CONFIG request" OfpstRequest 10 [Of13 Of15] (8, 0) MeterConfigStatsRequest;
    Ofpst13MeterConfigReply "OFPST_METER_CONFIG reply" OfpstReply 10 [Of13 Of15] (0, 8) MeterConfigStatsReply;
    Ofpst13MeterFeaturesRequest "OFPST_METER_FEATURES request" OfpstRequest 11 [Of13 Of15] (0, 0) MeterFeaturesStatsRequest;
    Ofpst13MeterFeaturesReply "OFPST_METER_FEATURES reply" OfpstReply 11 [Of13 Of15] (16, 0) MeterFeaturesStatsReply;
    Ofpst13TableFeaturesRequest "OFPST_TABLE_FEATURES request" OfpstRequest 12 [Of13 Of15] (0, 8) TableFeaturesStatsRequest;
    Ofpst13TableFeaturesReply "OFPST_TABLE_FEATURES reply" OfpstReply 12 [Of13 Of15] (64, 8) TableFeaturesStatsReply;
    Ofpst14TableDescRequest "OFPST_TABLE_DESC request" OfpstRequest 14 [Of14 Of15] (0, 0) TableDescRequest;
    Ofpst14TableDescReply "OFPST_TABLE_DESC reply" OfpstReply 14 [Of14 Of15] (8, 8) TableDescReply;
    Ofpst10PortDescRequest "OFPST_PORT_DESC request" OfpstRequest 13 [Of10 Of14] (0, 0) PortDescStatsRequest;
    Ofpst15PortDescRequest "OFPST_PORT_DESC request" OfpstRequest 13 [Of15 Of15] (8, 0) PortDescStatsRequest;
    Ofpst10PortDescReply "OFPST_PORT_DESC reply" OfpstReply 13 [Of10 Of10] (0, 48) PortDescStatsReply;
    Ofpst11PortDescReply "OFPST_PORT_DESC reply" OfpstReply 13 [Of11 Of13] (0, 64) PortDescStatsReply;
    Ofpst14PortDescReply "OFPST_PORT_DESC reply" OfpstReply 13 [Of14 Of15] (0, 8) PortDescStatsReply;
    Ofpst14QueueDescRequest "OFPST_QUEUE_DESC request" OfpstRequest 15 [Of14 Of15] (8, 0) QueueGetConfigRequest;
    Ofpst14QueueDescReply "OFPST_QUEUE_DESC reply" OfpstReply 15 [Of14 Of15] (0, 8) QueueGetConfigReply;
    Ofpst14FlowMonitorRequest "OFPST_FLOW_MONITOR request" OfpstRequest 16 [Of14 Of15] (0, 8) FlowMonitorStatsRequest;
    Onfst13FlowMonitorRequest "ONFST_FLOW_MONITOR request" OnfstRequest 1870 [Of13 Of13] (0, 8) FlowMonitorStatsRequest;
    NxstFlowMonitorRequest "NXST_FLOW_MONITOR request" NxstRequest 2 [Of10 Of12] (0, 8) FlowMonitorStatsRequest;
    Ofpst14FlowMonitorReply "OFPST_FLOW_MONITOR reply" OfpstReply 16 [Of14 Of15] (0, 8) FlowMonitorStatsReply;
    Onfst13FlowMonitorReply "ONFST_FLOW_MONITOR reply" OnfstReply 1870 [Of13 Of13] (0, 8) FlowMonitorStatsReply;
    NxstFlowMonitorReply "NXST_FLOW_MONITOR reply" NxstReply 2 [Of10 Of12] (0, 8) FlowMonitorStatsReply;
    Onft13FlowMonitorCancel "ONFT_FLOW_MONITOR_CANCEL" Onft 1870 [Of13 Of13] (4, 0) FlowMonitorCancel;
    NxtFlowMonitorCancel "NXT_FLOW_MONITOR_CANCEL" Nxt 21 [Of10 Of12] (4, 0) FlowMonitorCancel;
    Onft13FlowMonitorPaused "ONFT_FLOW_MONITOR_PAUSED" Onft 1871 [Of13 Of13] (0, 0) FlowMonitorPaused;
    NxtFlowMonitorPaused "NXT_FLOW_MONITOR_PAUSED" Nxt 22 [Of10 Of12] (0, 0) FlowMonitorPaused;
    Onft13FlowMonitorResumed "ONFT_FLOW_MONITOR_RESUMED" Onft 1872 [Of13 Of13] (0, 0) FlowMonitorResumed;
    NxtFlowMonitorResumed "NXT_FLOW_MONITOR_RESUMED" Nxt 23 [Of10 Of12] (0, 0) FlowMonitorResumed;
    NxtSetFlowFormat "NXT_SET_FLOW_FORMAT" Nxt 12 [Of10 Of10] (4, 0) SetFlowFormat;
    NxtFlowModTableId "NXT_FLOW_MOD_TABLE_ID" Nxt 15 [Of10 Of15] (8, 0) FlowModTableId;
    NxtSetPacketInFormat "NXT_SET_PACKET_IN_FORMAT" Nxt 16 [Of10 Of15] (4, 0) SetPacketInFormat;
    NxtFlowAge "NXT_FLOW_AGE" Nxt 18 [Of10 Of15] (0, 0) FlowAge;
    NxtSetControllerId "NXT_SET_CONTROLLER_ID" Nxt 20 [Of10 Of15] (8, 0) SetControllerId;
    NxtTlvTableMod "NXT_TLV_TABLE_MOD" Nxt 24 [Of10 Of15] (8, 8) TlvTableMod;
    NxtTlvTableRequest "NXT_TLV_TABLE_REQUEST" Nxt 25 [Of10 Of15] (0, 0) TlvTableRequest;
    NxtTlvTableReply "NXT_TLV_TABLE_REPLY" Nxt 26 [Of10 Of15] (16, 8) TlvTableReply;
    NxtResume "NXT_RESUME" Nxt 28 [Of10 Of15] (0, 8) Resume;
    NxtCtFlushZone "NXT_CT_FLUSH_ZONE" Nxt 29 [Of10 Of15] (8, 0) CtFlushZone;
    NxtCtFlush "NXT_CT_FLUSH" Nxt 32 [Of10 Of15] (8, 8) CtFlush;
    NxstIpfixBridgeRequest "NXST_IPFIX_BRIDGE request" NxstRequest 3 [Of10 Of15] (0, 0) IpfixBridgeStatsRequest;
    NxstIpfixBridgeReply "NXST_IPFIX_BRIDGE reply" NxstReply 3 [Of10 Of15] (88, 0) IpfixBridgeStatsReply;
    NxstIpfixFlowRequest "NXST_IPFIX_FLOW request" NxstRequest 4 [Of10 Of15] (0, 0) IpfixFlowStatsRequest;
    NxstIpfixFlowReply "NXST_IPFIX_FLOW reply" NxstReply 4 [Of10 Of15] (0, 88) IpfixFlowStatsReply;
}
