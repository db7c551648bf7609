//! Messages to bytes.

use super::Message;
use crate::context::Target;
use crate::form::Form;
use crate::msg::bundle::BundleAdd;
use crate::msg::hello::Hello;
use crate::msg::{
    ct_flush, flow_monitor, flow_stats, group_stats, ipfix, meter, nx, port, port_stats, queue_config,
    queue_stats, table_desc, table_features, table_stats,
};
use crate::multipart::{MESSAGE_LEN_MAX, MultipartWriter};
use crate::wire::PutBytes;
use crate::{Protocol, Version};

/// A form in the version of the target with a body of bytes.
fn simple(form: Form, target: &Target<'_>, xid: u32, body: &[u8]) -> Option<Vec<u8>> {
    let version = target.version();
    if !form.is_in(version) {
        return None;
    }
    let mut out = Vec::new();
    form.put(version, xid, &mut out, |out| out.put_bytes(body));
    Some(out)
}

/// The first of two forms if the version has it, else the second.
fn either(a: Form, b: Form, version: Version) -> Option<Form> {
    [a, b].into_iter().find(|form| form.is_in(version))
}

/// A multipart message of the first of `forms` that the version has, with the entries that `entries` adds.
fn multipart(
    forms: &[Form],
    target: &Target<'_>,
    xid: u32,
    entries: impl FnOnce(&mut MultipartWriter),
) -> Option<Vec<Vec<u8>>> {
    let version = target.version();
    let form = *forms.iter().find(|form| form.is_in(version))?;
    let mut writer = MultipartWriter::new(form, version, xid);
    entries(&mut writer);
    Some(writer.finish())
}

impl Message {
    /// Encodes the message in the way that the target's protocol has, several messages if one does not
    /// hold it. `None` if the protocol has no such message, or it is one that cannot be longer than 64 KiB
    /// but would have to be.
    ///
    /// The types of the contents have functions for single messages, and more choice where a protocol has
    /// several ways.
    #[must_use]
    pub fn encode(&self, target: &Target<'_>, xid: u32) -> Option<Vec<Vec<u8>>> {
        match self.encode_single(target, xid) {
            Encoded::Single(bytes) => (bytes.len() <= MESSAGE_LEN_MAX).then(|| vec![bytes]),
            Encoded::None => None,
            Encoded::NotSingle => self.encode_reply(target, xid),
        }
    }

    /// What is one message in any case.
    #[allow(clippy::too_many_lines)] // One line a message.
    fn encode_single(&self, target: &Target<'_>, xid: u32) -> Encoded {
        let v = target.version();
        let f = |form| simple(form, target, xid, &[]);
        let of_two = |a, b| either(a, b, v).and_then(f);
        match self {
            Self::Hello(m) => Some(Hello::encode(m.versions, xid)).filter(|bytes| !bytes.is_empty()),
            Self::Error(m) => m.as_ref().map(|m| m.encode(v, xid)),
            Self::EchoRequest(data) => simple(Form::OfptEchoRequest, target, xid, data),
            Self::EchoReply(data) => simple(Form::OfptEchoReply, target, xid, data),
            Self::FeaturesRequest => f(Form::OfptFeaturesRequest),
            Self::FeaturesReply(m) => Some(m.encode(v, xid)),
            Self::GetConfigRequest => f(Form::OfptGetConfigRequest),
            Self::GetConfigReply(m) => Some(m.encode_reply(v, xid)),
            Self::SetConfig(m) => Some(m.encode_set(v, xid)),
            Self::PacketIn(m) => {
                let has_more = !m.userdata.is_empty() || !m.continuation.is_empty();
                let format = if has_more { nx::PacketInFormat::Nxt2 } else { nx::PacketInFormat::Standard };
                Some(m.encode(format, target, xid))
            }
            Self::FlowRemoved(m) => Some(m.encode(target, xid)),
            Self::PortStatus(m) => Some(m.encode(v, xid)),
            Self::PacketOut(m) => Some(m.encode(target, xid)),
            Self::FlowMod(m) => Some(m.encode(target, xid)),
            Self::GroupMod(m) => m.encode(target, xid),
            Self::PortMod(m) => Some(m.encode(v, xid)),
            Self::TableMod(m) => m.encode(v, xid),
            Self::BarrierRequest => of_two(Form::Ofpt10BarrierRequest, Form::Ofpt11BarrierRequest),
            Self::BarrierReply => of_two(Form::Ofpt10BarrierReply, Form::Ofpt11BarrierReply),
            Self::QueueGetConfigRequest(m) => Some(m.encode(v, xid)),
            Self::RoleRequest(m) => Some(m.encode_request(v, xid)),
            Self::RoleReply(m) => Some(m.encode_reply(v, xid)),
            Self::RoleStatus(m) => m.encode(v, xid),
            Self::GetAsyncRequest => of_two(Form::Ofpt13GetAsyncRequest, Form::Ofpt14GetAsyncRequest),
            Self::GetAsyncReply(m) => m.encode_reply(v, xid),
            Self::SetAsyncConfig(m) => Some(m.encode(v, xid)),
            Self::MeterMod(m) => m.encode(v, xid),
            Self::RequestForward(m) => m.encode(target, xid),
            Self::TableStatus(m) => m.encode(v, xid),
            Self::BundleControl(m) => m.encode(v, xid),
            Self::BundleAddMessage { bundle_id, flags, xid, message } => {
                message.encode(target, *xid).and_then(|inner| {
                    let message = inner.first()?;
                    BundleAdd { bundle_id: *bundle_id, flags: *flags, message }.encode(v)
                })
            }
            Self::DescStatsRequest => f(Form::OfpstDescRequest),
            Self::DescStatsReply(m) => Some(m.encode_reply(v, xid)),
            Self::FlowStatsRequest(m) => Some(m.encode(false, target, xid)),
            Self::AggregateStatsRequest(m) => Some(m.encode(true, target, xid)),
            Self::AggregateStatsReply(m) => {
                let form = match target.protocol {
                    Protocol::Of10Nxm | Protocol::Of10NxmTid => Form::NxstAggregateReply,
                    Protocol::Of15 => Form::Ofpst15AggregateReply,
                    _ => Form::OfpstAggregateReply,
                };
                Some(m.encode(form, v, xid))
            }
            Self::TableStatsRequest => f(Form::OfpstTableRequest),
            Self::TableStatsReply(m) => Some(table_stats::encode_reply(m, v, xid)),
            Self::PortStatsRequest(port) => Some(port_stats::encode_request(*port, v, xid)),
            Self::QueueStatsRequest(m) => Some(m.encode(v, xid)),
            Self::GroupStatsRequest(id) => Some(group_stats::encode_request(*id, v, xid)),
            Self::GroupDescStatsRequest(id) => Some(group_stats::encode_desc_request(*id, v, xid)),
            Self::GroupFeaturesStatsRequest => {
                of_two(Form::NxstGroupFeaturesRequest, Form::Ofpst12GroupFeaturesRequest)
            }
            Self::GroupFeaturesStatsReply(m) => Some(m.encode_reply(v, xid)),
            Self::MeterStatsRequest(id) => encode_meter_request(Form::Ofpst13MeterRequest, *id, v, xid),
            Self::MeterConfigStatsRequest(id) => {
                encode_meter_request(Form::Ofpst13MeterConfigRequest, *id, v, xid)
            }
            Self::MeterFeaturesStatsRequest => f(Form::Ofpst13MeterFeaturesRequest),
            Self::MeterFeaturesStatsReply(m) => {
                if v < Version::Of13 {
                    None
                } else {
                    Some(m.encode_reply(v, xid))
                }
            }
            Self::TableDescRequest => f(Form::Ofpst14TableDescRequest),
            Self::PortDescStatsRequest(port) => Some(port::encode_desc_request(*port, v, xid)),
            Self::FlowMonitorCancel(id) => flow_monitor::encode_cancel(*id, v, xid),
            Self::FlowMonitorPaused => Some(flow_monitor::encode_pause(false, v, xid)),
            Self::FlowMonitorResumed => Some(flow_monitor::encode_pause(true, v, xid)),
            Self::SetFlowFormat(nxm) => {
                if v == Version::Of10 {
                    Some(nx::encode_flow_format(*nxm, xid))
                } else {
                    None
                }
            }
            Self::FlowModTableId(enable) => Some(nx::encode_flow_mod_table_id(*enable, v, xid)),
            Self::SetPacketInFormat(m) => Some(m.encode(v, xid)),
            Self::FlowAge => f(Form::NxtFlowAge),
            Self::SetControllerId(id) => Some(nx::encode_controller_id(*id, v, xid)),
            Self::TlvTableMod(m) => Some(m.encode(v, xid)),
            Self::TlvTableRequest => f(Form::NxtTlvTableRequest),
            Self::TlvTableReply(m) => Some(m.encode(v, xid)),
            Self::Resume(m, _) => Some(m.encode_resume(target, xid)),
            Self::IpfixBridgeStatsRequest => f(Form::NxstIpfixBridgeRequest),
            Self::IpfixFlowStatsRequest => f(Form::NxstIpfixFlowRequest),
            Self::CtFlushZone(zone) => Some(ct_flush::encode_zone(*zone, v, xid)),
            Self::CtFlush(m) => Some(m.encode(v, xid)),
            _ => return Encoded::NotSingle,
        }
        .map_or(Encoded::None, Encoded::Single)
    }

    /// What can take several messages.
    fn encode_reply(&self, target: &Target<'_>, xid: u32) -> Option<Vec<Vec<u8>>> {
        let v = target.version();
        match self {
            Self::QueueGetConfigReply(port, queues) => {
                Some(queue_config::encode_reply(*port, queues, v, xid))
            }
            Self::FlowStatsReply(flows) => {
                let nxm = target.protocol.is_nxm();
                let of10 = if nxm { Form::NxstFlowReply } else { Form::Ofpst10FlowReply };
                let forms = [of10, Form::Ofpst11FlowReply, Form::Ofpst13FlowReply, Form::Ofpst15FlowReply];
                multipart(&forms, target, xid, |w| {
                    flows.iter().for_each(|m| _ = flow_stats::append(m, target, w));
                })
            }
            Self::PortStatsReply(ports) => {
                let forms = [
                    Form::Ofpst10PortReply,
                    Form::Ofpst11PortReply,
                    Form::Ofpst13PortReply,
                    Form::Ofpst14PortReply,
                ];
                multipart(&forms, target, xid, |w| {
                    ports.iter().for_each(|m| _ = port_stats::append(m, w));
                })
            }
            Self::QueueStatsReply(queues) => {
                let forms = [
                    Form::Ofpst10QueueReply,
                    Form::Ofpst11QueueReply,
                    Form::Ofpst13QueueReply,
                    Form::Ofpst14QueueReply,
                ];
                multipart(&forms, target, xid, |w| {
                    queues.iter().for_each(|m| _ = queue_stats::append(m, w));
                })
            }
            Self::PortDescStatsReply(ports) => {
                let forms =
                    [Form::Ofpst10PortDescReply, Form::Ofpst11PortDescReply, Form::Ofpst14PortDescReply];
                multipart(&forms, target, xid, |w| ports.iter().for_each(|m| _ = port::append_desc(m, w)))
            }
            Self::FlowMonitorStatsRequest(requests) => {
                let request = requests.first()?;
                Some(vec![flow_monitor::encode_request(request, target, xid)])
            }
            Self::FlowMonitorStatsReply(updates) => {
                let mut w = flow_monitor::begin_updates(v, xid);
                updates.iter().for_each(|m| _ = flow_monitor::append_update(m, target, &mut w));
                Some(w.finish())
            }
            _ => self.encode_later_reply(target, xid),
        }
    }

    /// Replies about what OpenFlow 1.0 does not have.
    fn encode_later_reply(&self, target: &Target<'_>, xid: u32) -> Option<Vec<Vec<u8>>> {
        match self {
            Self::GroupStatsReply(groups) => {
                let forms = [Form::NxstGroupReply, Form::Ofpst11GroupReply, Form::Ofpst13GroupReply];
                multipart(&forms, target, xid, |w| {
                    groups.iter().for_each(|m| _ = group_stats::append(m, w));
                })
            }
            Self::GroupDescStatsReply(groups) => {
                let forms = [Form::NxstGroupDescReply, Form::Ofpst11GroupDescReply];
                multipart(&forms, target, xid, |w| {
                    groups.iter().for_each(|m| _ = group_stats::append_desc(m, target, w));
                })
            }
            Self::MeterStatsReply(meters) => multipart(&[Form::Ofpst13MeterReply], target, xid, |w| {
                meters.iter().for_each(|m| _ = meter::append_stats(m, w));
            }),
            Self::MeterConfigStatsReply(meters) => {
                multipart(&[Form::Ofpst13MeterConfigReply], target, xid, |w| {
                    meters.iter().for_each(|m| _ = meter::append_config(m, w));
                })
            }
            Self::TableFeaturesStatsRequest(tables) => {
                multipart(&[Form::Ofpst13TableFeaturesRequest], target, xid, |w| {
                    tables.iter().for_each(|m| _ = table_features::append(m, w));
                })
            }
            Self::TableFeaturesStatsReply(tables) => {
                multipart(&[Form::Ofpst13TableFeaturesReply], target, xid, |w| {
                    tables.iter().for_each(|m| _ = table_features::append(m, w));
                })
            }
            Self::TableDescReply(tables) => multipart(&[Form::Ofpst14TableDescReply], target, xid, |w| {
                tables.iter().for_each(|m| _ = table_desc::append(m, w));
            }),
            Self::IpfixBridgeStatsReply(stats) => {
                multipart(&[Form::NxstIpfixBridgeReply], target, xid, |w| {
                    stats.iter().for_each(|m| _ = ipfix::append(m, w));
                })
            }
            Self::IpfixFlowStatsReply(stats) => multipart(&[Form::NxstIpfixFlowReply], target, xid, |w| {
                stats.iter().for_each(|m| _ = ipfix::append(m, w));
            }),
            _ => None,
        }
    }
}

/// What came of encoding a message as one.
enum Encoded {
    /// It is one.
    Single(Vec<u8>),
    /// The protocol does not have it.
    None,
    /// It can be several.
    NotSingle,
}

fn encode_meter_request(form: Form, id: u32, version: Version, xid: u32) -> Option<Vec<u8>> {
    if form.is_in(version) { Some(meter::encode_request(form, id, version, xid)) } else { None }
}
