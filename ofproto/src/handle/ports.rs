//! Ports and queues.

use super::Cx;
use crate::conn::announce::{News, elapsed, port_desc};
use crate::conn::manager::Queue;
use crate::ids::OfPort;
use crate::port::{Attachment, Port, PortConfig};
use openflow::msg::port::{self as port_msg, PortDesc};
use openflow::msg::port_mod::PortMod;
use openflow::msg::port_stats::{self, PortCounters, PortStats};
use openflow::msg::port_status::PortReason;
use openflow::msg::queue_config::{QueueConfig, QueueConfigRequest, encode_reply};
use openflow::msg::queue_stats::{self, QUEUE_ALL, QueueStats, QueueStatsRequest};
use openflow::multipart::MultipartWriter;
use openflow::{Incoming, OfError};
use std::sync::atomic::Ordering::Relaxed;

type Result<T = ()> = std::result::Result<T, OfError>;

pub fn port_mod(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    cx.conn.check_may_write()?;
    let pm = PortMod::decode(msg)?;
    check(cx, &pm)?;
    carry_out(cx, &pm)
}

/// Whether a port-mod is for a port that exists.
pub fn check(cx: &Cx<'_>, pm: &PortMod) -> Result {
    let mac = cx.read(|s| s.port(pm.port).map(|p| p.link.mac))?.ok_or(OfError::OfppmfcBadPort)?;
    if mac == pm.hw_addr { Ok(()) } else { Err(OfError::OfppmfcBadHwAddr) }
}

/// Makes the changes that a port-mod asks for.
pub fn carry_out(cx: &mut Cx<'_>, pm: &PortMod) -> Result {
    let old = cx.read(|s| s.port(pm.port).map(port_desc))?.ok_or(OfError::OfppmfcBadPort)?;
    let mut toggle = (pm.config ^ old.config) & pm.mask;
    let up = !pm.config.contains(PortConfig::DOWN);
    if toggle.contains(PortConfig::DOWN) && !cx.env.ports.set_admin(cx.agent.id, pm.port, up) {
        toggle.remove(PortConfig::DOWN);
    }
    if toggle.is_empty() {
        return Ok(());
    }
    let new = cx.write(|s| {
        let port = s.ports.get_mut(&pm.port)?;
        port.config ^= toggle;
        if toggle.contains(PortConfig::DOWN) {
            port.link.admin_up = up;
        }
        Some(port_desc(port))
    })?;
    if let Some(new) = new {
        let source = Some(cx.conn.id);
        cx.agent.news.push(News::Port { source, reason: PortReason::Modify, old: Some(old), new });
    }
    Ok(())
}

/// Runs `f` on the port asked for, or on all.
fn each_port<T>(cx: &Cx<'_>, port: OfPort, f: impl Fn(&Port) -> T) -> Result<Vec<T>> {
    cx.read(|s| s.ports.values().filter(|p| port == OfPort::NONE || p.no == port).map(f).collect())
}

pub fn desc(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let port = port_msg::decode_desc_request(msg)?;
    let descs: Vec<PortDesc> = each_port(cx, port, port_desc)?;
    let mut replies = MultipartWriter::reply_to(msg).ok_or(OfError::OfpbrcBadStat)?;
    for desc in &descs {
        port_msg::append_desc(desc, &mut replies);
    }
    cx.conn.reply_all(replies.finish());
    Ok(())
}

pub fn stats(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let port = port_stats::decode_request(msg)?;
    cx.env.fabric.push_stats();
    let now_ms = cx.env.now_ms();
    let mut all: Vec<PortStats> = each_port(cx, port, |p| stats_of(cx, p, now_ms))?;
    let mut replies = MultipartWriter::reply_to(msg).ok_or(OfError::OfpbrcBadStat)?;
    for stats in &mut all {
        cx.env.ports.refine_stats(cx.agent.id, stats.port, stats);
        port_stats::append(stats, &mut replies);
    }
    cx.conn.reply_all(replies.finish());
    Ok(())
}

/// What the datapath, or for patch ports translation, has counted.
fn stats_of(cx: &Cx<'_>, port: &Port, now_ms: u64) -> PortStats {
    let counters = match &port.attachment {
        Attachment::Datapath(no) => cx.env.fabric.dpif.port_stats(*no).ok().map(|s| PortCounters {
            rx_packets: s.rx_packets,
            tx_packets: s.tx_packets,
            rx_bytes: s.rx_bytes,
            tx_bytes: s.tx_bytes,
            rx_dropped: s.rx_dropped,
            tx_dropped: s.tx_dropped,
            rx_errors: s.rx_errors,
            tx_errors: s.tx_errors,
            rx_frame_errors: s.rx_frame_errors,
            rx_over_errors: s.rx_over_errors,
            rx_crc_errors: s.rx_crc_errors,
            collisions: s.collisions,
        }),
        Attachment::Patch { .. } | Attachment::Tunnel { .. } => {
            let v = &port.virtual_stats;
            Some(PortCounters {
                rx_packets: v.rx_packets.load(Relaxed),
                tx_packets: v.tx_packets.load(Relaxed),
                rx_bytes: v.rx_bytes.load(Relaxed),
                tx_bytes: v.tx_bytes.load(Relaxed),
                ..PortCounters::default()
            })
        }
        Attachment::None => None,
    };
    PortStats {
        port: port.no,
        duration: elapsed(port.created_ms, now_ms),
        counters: counters.unwrap_or_default(),
        ..PortStats::default()
    }
}

/// The queues that a request means, with their ports: all, those of one port, one queue.
fn select_queues(cx: &Cx<'_>, port: OfPort, queue: u32) -> Result<Vec<(OfPort, Queue)>> {
    let ports: Vec<OfPort> = each_port(cx, port, |p| p.no)?;
    if port != OfPort::NONE && ports.is_empty() {
        return Err(OfError::OfpqofcBadPort);
    }
    let of_port = |p: OfPort| cx.env.ports.queues(cx.agent.id, p).into_iter().map(move |q| (p, q));
    let mut queues: Vec<_> = ports.into_iter().flat_map(of_port).collect();
    queues.retain(|(_, q)| queue == QUEUE_ALL || q.id == queue);
    if queue != QUEUE_ALL && queues.is_empty() {
        return Err(OfError::OfpqofcBadQueue);
    }
    Ok(queues)
}

pub fn queue_stats(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    coverage::counter::ofproto_queue_req.inc();
    let request = QueueStatsRequest::decode(msg)?;
    let queues = select_queues(cx, request.port, request.queue)?;
    let now_ms = cx.env.now_ms();
    let mut replies = MultipartWriter::reply_to(msg).ok_or(OfError::OfpbrcBadStat)?;
    for (port, q) in queues {
        let known = |count: Option<u64>| count.unwrap_or(u64::MAX);
        let stats = QueueStats {
            port,
            queue: q.id,
            tx_bytes: known(q.tx_bytes),
            tx_packets: known(q.tx_packets),
            tx_errors: known(q.tx_errors),
            duration: q.created_ms.and_then(|since| elapsed(since, now_ms)),
        };
        queue_stats::append(&stats, &mut replies);
    }
    cx.conn.reply_all(replies.finish());
    Ok(())
}

pub fn queue_config(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let request = QueueConfigRequest::decode(msg)?;
    let queues = select_queues(cx, request.port, request.queue)?;
    // Open vSwitch's queues have no rates in terms of the link's.
    let config =
        |(port, q): (OfPort, Queue)| QueueConfig { port, queue: q.id, min_rate: None, max_rate: None };
    let configs: Vec<_> = queues.into_iter().map(config).collect();
    cx.conn.reply_all(encode_reply(request.port, &configs, msg.version, msg.header.xid));
    Ok(())
}
