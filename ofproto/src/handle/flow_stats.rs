//! Statistics of flows.
//!
//! A table may fill hundreds of messages, so they are written as the peer reads them: the main task is free in
//! between, and the peer takes in one part while the next is made.

use super::Cx;
use super::flow_mods::flow_flags;
use crate::conn::announce::elapsed;
use crate::conn::session::Conn;
use crate::flow_mod::Filter;
use crate::rule::Rule;
use crate::table::{TABLE_ALL, TABLES};
use flow::TlvTable;
use openflow::msg::flow_stats::{self, AggregateStats, FlowStats, FlowStatsRequest};
use openflow::multipart::MultipartWriter;
use openflow::{Incoming, OfError, Target};
use std::borrow::Cow;
use std::sync::Arc;
use std::vec;

/// Bytes of a dump that may wait to be read.
const WINDOW_BYTES: usize = 512 << 10;

/// The rules that a request means, in the order of tables.
fn select(cx: &Cx<'_>, msg: &Incoming<'_>) -> Result<Vec<Arc<Rule>>, OfError> {
    let request = FlowStatsRequest::decode(msg, &cx.context())?;
    if request.table_id != TABLE_ALL && usize::from(request.table_id) >= TABLES {
        return Err(OfError::OfpbrcBadTableId);
    }
    let filter = Filter {
        table: request.table_id,
        cookie: request.cookie,
        cookie_mask: request.cookie_mask,
        out_port: request.out_port,
        out_group: request.out_group,
    };
    cx.env.fabric.push_stats();
    let matched = request.matched.expand();
    cx.read(|switch| switch.select(&matched, 0, false, &filter))
}

/// An age in whole seconds, as long as the field can say.
fn age_s(since_ms: u64, now_ms: u64) -> Option<u32> {
    Some(u16::try_from(now_ms.saturating_sub(since_ms) / 1000).unwrap_or(u16::MAX).into())
}

fn stats_of(rule: &Rule, now_ms: u64) -> FlowStats<'_> {
    let count = rule.counters.count();
    FlowStats {
        matched: Cow::Borrowed(&rule.matching),
        cookie: rule.cookie,
        table_id: rule.table,
        priority: rule.priority,
        idle_timeout: rule.idle_timeout_s,
        hard_timeout: rule.hard_timeout_s,
        duration: elapsed(rule.created_ms, now_ms),
        idle_age: age_s(rule.counters.used_ms(), now_ms),
        hard_age: age_s(rule.modified_ms(), now_ms),
        packet_count: count.packets,
        byte_count: count.bytes,
        actions: Cow::Borrowed(&rule.actions),
        flags: flow_flags(rule.flags),
        importance: rule.importance,
    }
}

/// What is still to be said of the flows that a request meant.
#[derive(Debug)]
pub struct FlowDump {
    rules: vec::IntoIter<Arc<Rule>>,
    replies: MultipartWriter,
    /// When the request was handled.
    now_ms: u64,
    /// As it was when the request was handled; other connections may change it.
    tlv: Arc<TlvTable>,
}

pub fn flows(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result<(), OfError> {
    let rules = select(cx, msg)?.into_iter();
    let replies = MultipartWriter::reply_to(msg).ok_or(OfError::OfpbrcBadStat)?;
    cx.conn.dump = Some(FlowDump { rules, replies, now_ms: cx.env.now_ms(), tlv: cx.tlv.clone() });
    Ok(())
}

/// Goes on with the dump that the connection waits for, if there is one, until it is done or [`WINDOW_BYTES`] wait to be
/// read. Returns whether the connection's next request may be handled.
pub fn continue_dump(conn: &mut Conn) -> bool {
    let Some(mut dump) = conn.dump.take() else { return true };
    let tlv = dump.tlv.clone();
    let target = Target { protocol: conn.protocol, tlv: Some(&tlv) };
    while !conn.link.hold_at(WINDOW_BYTES) {
        for rule in &mut dump.rules {
            flow_stats::append(&stats_of(&rule, dump.now_ms), &target, &mut dump.replies);
            let full = dump.replies.take_full();
            if !full.is_empty() {
                conn.reply_all(full);
                break;
            }
        }
        if dump.rules.len() == 0 {
            conn.reply_all(dump.replies.finish());
            return true;
        }
    }
    conn.dump = Some(dump);
    false
}

pub fn aggregate(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result<(), OfError> {
    let rules = select(cx, msg)?;
    let counts = rules.iter().map(|r| r.counters.count());
    let (packet_count, byte_count) = counts.fold((0u64, 0u64), |(packets, bytes), c| {
        (packets.saturating_add(c.packets), bytes.saturating_add(c.bytes))
    });
    let flow_count = u32::try_from(rules.len()).unwrap_or(u32::MAX);
    let stats = AggregateStats { packet_count, byte_count, flow_count };
    cx.conn.reply(stats.encode_reply(msg));
    Ok(())
}
