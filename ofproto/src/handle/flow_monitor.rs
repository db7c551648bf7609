//! Flow monitors: requests for them.

use super::Cx;
use crate::conn::monitor::append_known;
use crate::table::{TABLE_ALL, TABLES};
use openflow::msg::flow_monitor::{MonitorCommand, MonitorRequest, decode_cancel, decode_request};
use openflow::multipart::MultipartWriter;
use openflow::{Incoming, OfError, identify};

/// A request, which may come in parts and hold many: it is carried out as a whole or, but for the ends of
/// monitors, not at all.
pub fn request(cx: &mut Cx<'_>, parts: &[Vec<u8>]) -> Result<(), OfError> {
    let mut begun = Vec::new();
    for part in parts {
        if let Err(e) = take_part(cx, part, &mut begun) {
            begun.iter().for_each(|id| cx.conn.monitors.forget(*id));
            return Err(e);
        }
    }
    let last = identify(parts.last().ok_or(OfError::OfpbrcBadLen)?)?;
    let known = cx.read(|switch| cx.conn.monitors.initial_rules(&begun, switch))?;
    let mut replies = MultipartWriter::reply_to(&last).ok_or(OfError::OfpbrcBadStat)?;
    append_known(&known, &cx.target(), &mut replies);
    cx.conn.reply_all(replies.finish());
    Ok(())
}

fn take_part(cx: &mut Cx<'_>, part: &[u8], begun: &mut Vec<u32>) -> Result<(), OfError> {
    for monitor in decode_request(&identify(part)?, &cx.context())? {
        if monitor.table_id != TABLE_ALL && usize::from(monitor.table_id) >= TABLES {
            return Err(OfError::OfpbrcBadTableId);
        }
        change(cx, monitor, begun)?;
    }
    Ok(())
}

fn change(cx: &mut Cx<'_>, monitor: MonitorRequest, begun: &mut Vec<u32>) -> Result<(), OfError> {
    let monitors = &mut cx.conn.monitors;
    let id = monitor.id;
    match monitor.command {
        MonitorCommand::Delete => return monitors.remove(id),
        MonitorCommand::Modify => monitors.remove(id)?,
        MonitorCommand::Add => {}
        // Open vSwitch lets these pass.
        MonitorCommand::Other(_) => return Ok(()),
    }
    monitors.add(monitor)?;
    begun.push(id);
    Ok(())
}

/// The end of a monitor, before OpenFlow 1.4.
pub fn cancel(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result<(), OfError> {
    cx.conn.monitors.remove(decode_cancel(msg)?)
}
