//! Meter-mods, and what is told of meters.

use super::{Cx, elapsed};
use crate::conn::announce::News;
use crate::conn::monitor::Changes;
use crate::meters::Meter;
use dpif::MeterStats as DpStats;
use openflow::msg::meter::{self, BandStats, MeterFeatures, MeterFlags, MeterMod, MeterStats};
use openflow::msg::requestforward::ForwardedRequest;
use openflow::multipart::MultipartWriter;
use openflow::{Incoming, OfError};

type Result<T = ()> = std::result::Result<T, OfError>;

/// Bit for `OFPMBT13_DROP`.
const DROP_BANDS: u32 = 1 << 1;

pub fn meter_mod(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    cx.conn.check_may_write()?;
    let mm = MeterMod::decode(msg)?;
    let now_ms = cx.env.now_ms();
    let events = cx.env.fabric.meter_mod(cx.agent.id, &mm, now_ms)?;
    let xid = msg.header.xid;
    cx.agent.tell_changes(cx.env, Some(cx.conn), vec![Changes { xid, by_add: false, events }], now_ms);
    cx.agent.news.push(News::Request {
        source: cx.conn.id,
        xid,
        request: ForwardedRequest::MeterMod(mm),
        group: None,
        existed: false,
    });
    Ok(())
}

/// What `of` says of each meter that a request asks for.
fn each<T>(cx: &Cx<'_>, msg: &Incoming<'_>, of: impl Fn(&Meter, u32) -> T) -> Result<Vec<T>> {
    let wanted = meter::decode_request(msg)?;
    cx.read(|s| {
        let of = |m: &Meter| of(m, s.meter_users(m.config.meter_id));
        match wanted {
            meter::id::ALL => Ok(s.meters.iter().map(of).collect()),
            id => Ok(vec![s.meters.get(id).map(of).ok_or(OfError::OfpmmfcUnknownMeter)?]),
        }
    })?
}

pub fn config(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let configs = each(cx, msg, |m, _| m.config.clone())?;
    let mut replies = MultipartWriter::reply_to(msg).ok_or(OfError::OfpbrcBadStat)?;
    for config in &configs {
        meter::append_config(config, &mut replies);
    }
    cx.conn.reply_all(replies.finish());
    Ok(())
}

pub fn stats(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let now_ms = cx.env.now_ms();
    let dpif = &cx.env.fabric.dpif;
    let all = each(cx, msg, |m, flow_count| {
        let seen: DpStats = dpif.meter_stats(m.dp_id).ok()?;
        let band = |b: &dpif::MeterCount| BandStats { packet_count: b.packets, byte_count: b.bytes };
        Some(MeterStats {
            meter_id: m.config.meter_id,
            flow_count,
            packet_in_count: seen.seen.packets,
            byte_in_count: seen.seen.bytes,
            duration: elapsed(now_ms.saturating_sub(m.created_ms)),
            bands: seen.bands.iter().map(band).collect(),
        })
    })?;
    let mut replies = MultipartWriter::reply_to(msg).ok_or(OfError::OfpbrcBadStat)?;
    for stats in all.iter().flatten() {
        meter::append_stats(stats, &mut replies);
    }
    cx.conn.reply_all(replies.finish());
    Ok(())
}

pub fn features(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let limits = cx.env.fabric.dpif.meter_limits();
    let known = MeterFlags::KBPS | MeterFlags::PKTPS | MeterFlags::BURST | MeterFlags::STATS;
    let features = match limits.meters {
        0 => MeterFeatures::default(),
        max_meters => MeterFeatures {
            max_meters,
            band_types: DROP_BANDS,
            capabilities: known.bits().into(),
            max_bands: limits.bands,
            max_color: 0,
        },
    };
    cx.conn.reply(features.encode_reply(msg.version, msg.header.xid));
    Ok(())
}
