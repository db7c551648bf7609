//! Requests for what this switch does not have: exporters.

use super::{Cx, unexpected};
use openflow::{Incoming, MsgType, OfError};

type Result = std::result::Result<(), OfError>;

pub fn dispatch(_: &mut Cx<'_>, msg: &Incoming<'_>, kind: MsgType) -> Result {
    match kind {
        MsgType::FlowMonitorCancel => Err(OfError::OfpmofcUnknownMonitor),
        MsgType::IpfixBridgeStatsRequest | MsgType::IpfixFlowStatsRequest => Err(OfError::NxstNotConfigured),
        _ => Err(unexpected(msg)),
    }
}
