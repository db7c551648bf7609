//! The Interface table.

use super::Reader;
use flow::EthAddr;
use netdev::Policing;
use netdev::qos::QosSettings;
use ovsdb_shim::Row;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Numbers that an OpenFlow port can ask for: 1 up to this one, exclusive.
const OFPORT_MAX: i64 = 0xff00;

/// Devices that datapaths make for tunnels, by the beginning of their names.
const RESERVED_PREFIXES: [&str; 8] =
    ["genev_sys", "vxlan_sys", "gre_sys", "ip6gre_sys", "erspan_sys", "ip6erspan_sys", "stt_sys", "gtpu_sys"];

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// `None` for a bridge's local interface that the database does not have.
    pub row: Option<Uuid>,
    pub name: String,
    /// `Interface.type`, with `system` and `internal` spelled out.
    pub kind: String,
    pub options: BTreeMap<String, String>,
    pub mac: Option<EthAddr>,
    /// `ofport_request`.
    pub ofport_request: Option<u16>,
    /// The number that it had when the database was last written.
    pub ofport_before: Option<u16>,
    pub mtu_request: Option<u32>,
    pub policing: Policing,
    pub bfd: BTreeMap<String, String>,
    /// Of the port that it belongs to.
    pub qos: Option<QosSettings>,
    /// The DSCP that packets of a queue leave with (`Queue.dscp`), by queue.
    pub queue_dscp: BTreeMap<u32, u8>,
    pub other_config: BTreeMap<String, String>,
}

impl InterfaceConfig {
    /// Reads the row of an interface on a bridge; `None` if there is no such thing.
    pub(super) fn read(reader: &mut Reader<'_>, row: &Row, port: &Row, bridge: &str) -> Option<Self> {
        let name = row.str("name");
        if is_reserved(name, &reader.around.datapath_types) {
            let text = format!("could not create interface {name}, name is reserved");
            reader.warn(row.uuid, text.clone());
            reader.refused.insert(row.uuid, text);
            return None;
        }
        let kind = match row.str("type") {
            _ if name == bridge => "internal",
            "" => "system",
            kind => kind,
        };
        Some(InterfaceConfig {
            row: Some(row.uuid),
            name: name.to_owned(),
            kind: kind.to_owned(),
            options: row.string_map("options"),
            mac: row.opt_str("mac").and_then(|mac| mac.parse().ok()),
            ofport_request: ofport(row, "ofport_request"),
            ofport_before: ofport(row, "ofport"),
            mtu_request: row.opt_int("mtu_request").and_then(|mtu| u32::try_from(mtu).ok()),
            policing: policing(row),
            bfd: row.string_map("bfd"),
            qos: qos(reader, port),
            queue_dscp: queue_dscp(reader, port),
            other_config: row.string_map("other_config"),
        })
    }

    /// The local interface of a bridge that has controllers but no port of its own name.
    pub(super) fn local(bridge: &str) -> Self {
        InterfaceConfig { name: bridge.to_owned(), kind: "internal".to_owned(), ..Self::default() }
    }

    /// The number to ask for when the port is added.
    pub fn ofport_wanted(&self) -> Option<u16> {
        self.ofport_request.or(self.ofport_before)
    }

    /// Whether the other has the same settings (the number that it had before is none).
    pub fn is_same(&self, other: &Self) -> bool {
        InterfaceConfig { ofport_before: other.ofport_before, ..self.clone() } == *other
    }
}

fn ofport(row: &Row, column: &str) -> Option<u16> {
    let no = row.opt_int(column).filter(|no| (1..OFPORT_MAX).contains(no))?;
    u16::try_from(no).ok()
}

/// The rows of a port's queues, by their numbers.
fn queues<'a>(reader: &Reader<'a>, qos: &Row) -> Vec<(u32, &'a Arc<Row>)> {
    let queue = |(id, uuid)| Some((u32::try_from(id).ok()?, reader.snapshot.row("Queue", uuid)?));
    qos.int_uuid_map("queues").filter_map(queue).collect()
}

fn queue_dscp(reader: &Reader<'_>, port: &Row) -> BTreeMap<u32, u8> {
    let qos = reader.snapshot.follow(port, "qos", "QoS").find(|qos| !qos.str("type").is_empty());
    let dscp = |(id, queue): (u32, &Arc<Row>)| Some((id, u8::try_from(queue.opt_int("dscp")?).ok()?));
    qos.into_iter().flat_map(|qos| queues(reader, qos)).filter_map(dscp).collect()
}

/// The queues that a port asks for.
fn qos(reader: &Reader<'_>, port: &Row) -> Option<QosSettings> {
    let row = reader.snapshot.follow(port, "qos", "QoS").next()?;
    Some(QosSettings {
        kind: row.str("type").to_owned(),
        options: row.string_map("other_config"),
        queues: queues(reader, row).into_iter().map(|(id, q)| (id, q.string_map("other_config"))).collect(),
    })
    .filter(|qos| !qos.kind.is_empty())
}

fn policing(row: &Row) -> Policing {
    let limit = |column| u32::try_from(row.int(column).max(0)).unwrap_or(u32::MAX);
    Policing {
        rate_kbps: limit("ingress_policing_rate"),
        burst_kb: limit("ingress_policing_burst"),
        rate_kpps: limit("ingress_policing_kpkts_rate"),
        burst_kp: limit("ingress_policing_kpkts_burst"),
    }
}

/// Whether a datapath has the name for itself.
fn is_reserved(name: &str, datapath_types: &[String]) -> bool {
    let is_datapath = name.strip_prefix("ovs-").is_some_and(|rest| datapath_types.iter().any(|t| t == rest));
    is_datapath || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names() {
        let types = ["netdev".to_owned(), "system".to_owned()];
        let reserved = ["ovs-netdev", "ovs-system", "ovs-x", "vxlan_sys_4789", "br0"];
        assert_eq!(reserved.map(|n| is_reserved(n, &types)), [true, true, false, true, false]);
    }
}
