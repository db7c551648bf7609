//! Group-mods, and what is told of groups.

use super::flow_mods::table_news;
use super::{Cx, elapsed};
use crate::conn::announce::News;
use crate::conn::monitor::Changes;
use crate::groups::{GROUPS_MAX, Group, GroupChange};
use crate::refs::Referent;
use crate::rule::Counters;
use crate::switch::Switch;
use openflow::msg::action_types::ActionTypes;
use openflow::msg::group_mod::GroupMod;
use openflow::msg::group_stats::{self, BucketStats, GroupDesc, GroupFeatures, GroupStats};
use openflow::msg::requestforward::ForwardedRequest;
use openflow::multipart::MultipartWriter;
use openflow::{Incoming, OfError};

type Result = std::result::Result<(), OfError>;

/// `OFPGFC_SELECT_WEIGHT`, `OFPGFC_SELECT_LIVENESS`, `OFPGFC_CHAINING`
const CAPABILITIES: u32 = 1 << 0 | 1 << 1 | 1 << 2;
/// All types.
const TYPES: u32 = 0xf;

pub fn group_mod(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    cx.conn.check_may_write()?;
    let gm = GroupMod::decode(msg, &cx.context())?;
    let now_ms = cx.env.now_ms();
    let (changes, events, news) = cx.write(|switch| {
        let (changes, events) = switch.apply_group(&gm, now_ms)?;
        let news = table_news(switch, &events);
        Ok::<_, OfError>((changes, events, news))
    })??;
    cx.agent.news.extend(news);
    let xid = msg.header.xid;
    cx.agent.tell_changes(cx.env, Some(cx.conn), vec![Changes { xid, by_add: false, events }], now_ms);
    tell(cx, gm, xid, &changes);
    Ok(())
}

/// Tells other controllers of the request.
pub fn tell(cx: &mut Cx<'_>, gm: GroupMod, xid: u32, changes: &[GroupChange]) {
    cx.agent.news.push(News::Request {
        source: cx.conn.id,
        xid,
        request: ForwardedRequest::GroupMod(gm),
        group: changes.first().and_then(|c| c.new.clone()),
        existed: changes.iter().any(|c| c.old.is_some()),
    });
}

fn count(c: &Counters) -> BucketStats {
    let c = c.count();
    BucketStats { packet_count: c.packets, byte_count: c.bytes }
}

fn stats_of(switch: &Switch, group: &Group, now_ms: u64) -> GroupStats {
    let all = count(&group.counters);
    GroupStats {
        group_id: group.id,
        ref_count: switch.refs.count(Referent::Group(group.id)),
        packet_count: all.packet_count,
        byte_count: all.byte_count,
        duration: Some(elapsed(now_ms.saturating_sub(group.created_ms))),
        buckets: group.bucket_counters.iter().map(count).collect(),
    }
}

pub fn stats(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let wanted = group_stats::decode_request(msg)?;
    cx.env.fabric.push_stats();
    let now_ms = cx.env.now_ms();
    let all: Vec<_> =
        cx.read(|s| s.groups.select(wanted).iter().map(|g| stats_of(s, g, now_ms)).collect())?;
    let mut replies = MultipartWriter::reply_to(msg).ok_or(OfError::OfpbrcBadStat)?;
    for stats in &all {
        group_stats::append(stats, &mut replies);
    }
    cx.conn.reply_all(replies.finish());
    Ok(())
}

pub fn desc(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let wanted = group_stats::decode_desc_request(msg)?;
    let groups = cx.read(|s| s.groups.select(wanted))?;
    let mut replies = MultipartWriter::reply_to(msg).ok_or(OfError::OfpbrcBadStat)?;
    for g in &groups {
        let desc = GroupDesc {
            group_id: g.id,
            group_type: g.kind,
            buckets: g.buckets.clone(),
            selection: g.selection.clone(),
        };
        group_stats::append_desc(&desc, &cx.target(), &mut replies);
    }
    cx.conn.reply_all(replies.finish());
    Ok(())
}

pub fn features(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let features = GroupFeatures {
        types: TYPES,
        capabilities: CAPABILITIES,
        max_groups: [GROUPS_MAX; 4],
        actions: [ActionTypes::all(); 4],
    };
    cx.conn.reply(features.encode_reply(msg.version, msg.header.xid));
    Ok(())
}
