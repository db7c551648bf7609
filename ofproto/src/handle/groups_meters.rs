//! Groups, meters, flow monitors, exporters, tracked connections: what this switch does not have.
//!
//! It says so with the errors that the protocols have for that, and with empty lists.

use super::{Cx, unexpected};
use openflow::msg::group::id as group_id;
use openflow::msg::group_mod::{GroupMod, GroupModCommand};
use openflow::msg::group_stats::GroupFeatures;
use openflow::msg::meter::{self, MeterCommand, MeterFeatures, MeterMod};
use openflow::multipart::MultipartWriter;
use openflow::{Incoming, MsgType, OfError};

type Result = std::result::Result<(), OfError>;

pub fn dispatch(cx: &mut Cx<'_>, msg: &Incoming<'_>, kind: MsgType) -> Result {
    match kind {
        MsgType::GroupMod => group_mod(cx, msg),
        MsgType::MeterMod => meter_mod(cx, msg),
        MsgType::GroupStatsRequest | MsgType::GroupDescStatsRequest => empty(cx, msg),
        MsgType::GroupFeaturesStatsRequest => {
            let features = GroupFeatures::default();
            cx.conn.reply(features.encode_reply(msg.version, msg.header.xid));
            Ok(())
        }
        MsgType::MeterStatsRequest | MsgType::MeterConfigStatsRequest => match meter::decode_request(msg)? {
            meter::id::ALL => empty(cx, msg),
            _ => Err(OfError::OfpmmfcUnknownMeter),
        },
        MsgType::MeterFeaturesStatsRequest => {
            let features = MeterFeatures::default();
            cx.conn.reply(features.encode_reply(msg.version, msg.header.xid));
            Ok(())
        }
        MsgType::FlowMonitorCancel => Err(OfError::OfpmofcUnknownMonitor),
        MsgType::IpfixBridgeStatsRequest | MsgType::IpfixFlowStatsRequest => Err(OfError::NxstNotConfigured),
        _ => Err(unexpected(msg)),
    }
}

fn empty(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let replies = MultipartWriter::reply_to(msg).ok_or(OfError::OfpbrcBadStat)?;
    cx.conn.reply_all(replies.finish());
    Ok(())
}

fn group_mod(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    cx.conn.check_may_write()?;
    check_group_mod(&GroupMod::decode(msg, &cx.context())?)
}

/// What a group-mod comes to in a switch that cannot have groups.
pub fn check_group_mod(gm: &GroupMod) -> Result {
    match gm.command {
        GroupModCommand::Add | GroupModCommand::AddOrModify => Err(OfError::OfpgmfcOutOfGroups),
        // Deleting what is not there is no error.
        GroupModCommand::Delete => Ok(()),
        _ if gm.group_id == group_id::ALL => Ok(()),
        _ => Err(OfError::OfpgmfcUnknownGroup),
    }
}

fn meter_mod(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    cx.conn.check_may_write()?;
    match MeterMod::decode(msg)?.command {
        MeterCommand::Delete => Ok(()),
        _ => Err(OfError::OfpmmfcInvalidMeter),
    }
}
