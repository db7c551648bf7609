//! Messages about the connection and the switch as a whole.

use super::{Cx, is_of10};
use crate::conn::announce::port_desc;
use crate::conn::session::{ConnKind, DEFAULT_MISS_SEND_LEN};
use openflow::msg::action_types::ActionTypes;
use openflow::msg::async_config::AsyncChange;
use openflow::msg::desc::Desc;
use openflow::msg::features::{Capabilities, Features};
use openflow::msg::nx::{self, PacketInFormat};
use openflow::msg::role::{Role, RoleMsg};
use openflow::msg::switch_config::SwitchConfig;
use openflow::wire::PutBytes;
use openflow::{Form, Incoming, OfError};

/// The Open vSwitch version that the switch presents itself as, which controllers and tools look at.
const SOFTWARE: &str = "3.1.0";

type Result = std::result::Result<(), OfError>;

pub fn echo(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let mut out = Vec::with_capacity(msg.bytes.len());
    // The reply has the request's version, which need not be the connection's.
    Form::OfptEchoReply.put(msg.version, msg.header.xid, &mut out, |out| out.put_bytes(msg.body().rest()));
    cx.conn.reply(out);
    Ok(())
}

pub fn barrier(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let form = if is_of10(msg.version) { Form::Ofpt10BarrierReply } else { Form::Ofpt11BarrierReply };
    let mut out = Vec::new();
    form.put(msg.version, msg.header.xid, &mut out, |_| ());
    cx.conn.reply(out);
    Ok(())
}

pub fn features(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let features = cx.read(|switch| Features {
        datapath_id: switch.datapath_id,
        n_buffers: 0,
        n_tables: crate::table::TBL_INTERNAL,
        auxiliary_id: 0,
        capabilities: Capabilities::FLOW_STATS
            | Capabilities::TABLE_STATS
            | Capabilities::PORT_STATS
            | Capabilities::QUEUE_STATS
            | Capabilities::GROUP_STATS
            | Capabilities::BUNDLES
            | Capabilities::ARP_MATCH_IP,
        actions: ActionTypes::all(),
        ports: switch.ports.values().map(port_desc).collect(),
    })?;
    cx.conn.reply(features.encode(msg.version, msg.header.xid));
    Ok(())
}

pub fn get_config(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let config = SwitchConfig {
        frag: cx.read(|s| s.frag)?,
        invalid_ttl_to_controller: Some(cx.conn.wants_invalid_ttl()),
        miss_send_len: cx.conn.miss_send_len,
    };
    cx.conn.reply(config.encode_reply(msg.version, msg.header.xid));
    Ok(())
}

pub fn set_config(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let config = SwitchConfig::decode(msg)?;
    let may_write = cx.conn.kind != ConnKind::Primary || !cx.conn.is_secondary();
    if may_write && cx.read(|s| s.frag)? != config.frag {
        use openflow::msg::switch_config::FragHandling;
        if config.frag == FragHandling::Reassemble {
            tracing::warn!(target: "ofproto", "{}: unsupported fragment handling mode {}",
                cx.agent.name, config.frag.name());
        } else {
            cx.write(|s| s.frag = config.frag)?;
        }
    }
    if let Some(wants) = config.invalid_ttl_to_controller {
        cx.conn.set_wants_invalid_ttl(wants);
    }
    cx.conn.miss_send_len = config.miss_send_len;
    Ok(())
}

pub fn role(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let request = RoleMsg::decode(msg)?;
    if request.role != Role::NoChange {
        if request.role != Role::Equal
            && let Some(id) = request.generation_id
        {
            // Ids wrap around: the distance counts as signed (OpenFlow 1.3, 6.3.5).
            if cx.agent.election.is_some_and(|known| (id.wrapping_sub(known) as i64) < 0) {
                return Err(OfError::OfprrfcStale);
            }
            cx.agent.election = Some(id);
        }
        if request.role == Role::Primary && cx.conn.role != Role::Primary {
            demote_others(cx);
        }
        cx.conn.role = request.role;
    }
    let reply = RoleMsg { role: cx.conn.role, generation_id: cx.agent.election, nicira: request.nicira };
    cx.conn.reply(reply.encode_reply(msg.version, msg.header.xid));
    Ok(())
}

/// There is one primary controller: who was it becomes secondary and is told so.
fn demote_others(cx: &mut Cx<'_>) {
    let primaries = cx.agent.conns.values().filter(|c| c.role == Role::Primary);
    let ids: Vec<_> = primaries.map(|c| c.id).collect();
    for id in ids {
        if let Some(other) = cx.agent.conns.get_mut(&id) {
            other.role = Role::Secondary;
        }
        if let Some(other) = cx.agent.conns.get(&id) {
            cx.agent.tell_demotion(other);
        }
    }
}

pub fn flow_mod_table_id(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    cx.conn.protocol = cx.conn.protocol.with_table_id(nx::decode_flow_mod_table_id(msg)?);
    Ok(())
}

pub fn set_flow_format(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    cx.conn.protocol = cx.conn.protocol.with_nxm(nx::decode_flow_format(msg)?);
    Ok(())
}

pub fn set_packet_in_format(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    cx.conn.packet_in_format = PacketInFormat::decode(msg)?;
    Ok(())
}

pub fn set_controller_id(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    cx.conn.controller_id = nx::decode_controller_id(msg)?;
    Ok(())
}

pub fn set_async(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let config = AsyncChange::decode(msg)?.applied_to(&cx.conn.async_config());
    cx.conn.set_async_config(config);
    if cx.conn.kind == ConnKind::Service && cx.conn.miss_send_len == 0 {
        cx.conn.miss_send_len = DEFAULT_MISS_SEND_LEN;
    }
    Ok(())
}

pub fn get_async(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    if let Some(reply) = cx.conn.async_config().encode_reply(msg.version, msg.header.xid) {
        cx.conn.reply(reply);
    }
    Ok(())
}

pub fn desc(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let ours = &cx.agent.description;
    let text = |t: &Option<String>| t.as_deref().unwrap_or("None").as_bytes().to_vec();
    let desc = Desc {
        manufacturer: b"Nicira, Inc.".to_vec(),
        hardware: b"Open vSwitch".to_vec(),
        software: SOFTWARE.into(),
        serial: text(&ours.serial),
        datapath: text(&ours.datapath),
    };
    cx.conn.reply(desc.encode_reply(msg.version, msg.header.xid));
    Ok(())
}
