//! Groups and meters that outlive a restart.

use crate::groups::Group;
use crate::meters::Meter;
use crate::rule::{Count, Counters};
use crate::switch::Switch;
use flow::{TlvTable, oxm};
use openflow::PortNo;
use openflow::action::SavedActions;
use openflow::msg::group::{Bucket, GroupType, Selection, SelectionMethod};
use openflow::msg::meter::{BandType, MeterBand, MeterConfig, MeterFlags};
use saved_state::Extensible;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::OXM_VERSION;

/// Packets and bytes.
type SavedCount = (u64, u64);

/// A group. Ages in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedGroup {
    pub id: u32,
    /// `OFPGT_*`
    pub kind: u8,
    /// Whether the datapath's hash decides, a parameter, and OXM of OpenFlow 1.5 without a header: the fields
    /// to hash, their masks as values.
    pub selection: Option<(bool, u64, Vec<u8>)>,
    pub buckets: Vec<Extensible<SavedBucket>>,
    pub age_ms: u64,
    pub count: SavedCount,
}

/// A bucket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedBucket {
    pub id: u32,
    pub weight: u16,
    /// `OFPP_*` in 16 bits.
    pub watch_port: u16,
    /// `OFPG_*`
    pub watch_group: u32,
    pub actions: SavedActions,
    pub count: SavedCount,
}

/// A meter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedMeter {
    pub id: u32,
    /// `OFPMF_*`
    pub flags: u16,
    /// Rate and burst of bands that drop.
    pub bands: Vec<(u32, u32)>,
    /// The datapath's number of it, which saved megaflows name.
    pub dp_id: u32,
    pub age_ms: u64,
}

const KINDS: [GroupType; 4] =
    [GroupType::All, GroupType::Select, GroupType::Indirect, GroupType::FastFailover];

fn count(c: &Counters) -> SavedCount {
    let c = c.count();
    (c.packets, c.bytes)
}

/// Saves the groups of a switch.
pub fn save_groups(switch: &Switch, now_ms: u64) -> Vec<Extensible<SavedGroup>> {
    switch.groups.iter().map(|g| Extensible(save_group(g, &switch.tlv, now_ms))).collect()
}

fn save_group(g: &Group, tlv: &TlvTable, now_ms: u64) -> SavedGroup {
    let selection = |s: &Selection| {
        let mut fields = Vec::new();
        oxm::put_field_array(&mut fields, &s.fields, OXM_VERSION);
        (s.method == SelectionMethod::DpHash, s.param, fields)
    };
    let bucket = |(b, c): (&Bucket, &Counters)| {
        Extensible(SavedBucket {
            id: b.bucket_id,
            weight: b.weight,
            watch_port: b.watch_port.0,
            watch_group: b.watch_group,
            actions: SavedActions::new(&b.actions, tlv),
            count: count(c),
        })
    };
    SavedGroup {
        id: g.id,
        kind: g.kind as u8,
        selection: g.selection.as_ref().map(selection),
        buckets: g.buckets.iter().zip(&g.bucket_counters).map(bucket).collect(),
        age_ms: now_ms.saturating_sub(g.created_ms),
        count: count(&g.counters),
    }
}

/// Puts in a group that existed before this process; `None` if its bytes make no sense to this program.
pub fn restore_group(switch: &mut Switch, saved: &SavedGroup, now_ms: u64) -> Option<()> {
    let kind = *KINDS.get(usize::from(saved.kind))?;
    let tlv = switch.tlv.clone();
    let bucket = |Extensible(b): &Extensible<SavedBucket>| {
        Some(Bucket {
            bucket_id: b.id,
            weight: b.weight,
            watch_port: PortNo(b.watch_port),
            watch_group: b.watch_group,
            actions: b.actions.restore(&tlv).ok()?,
        })
    };
    let buckets = saved.buckets.iter().map(bucket).collect::<Option<Vec<_>>>()?;
    let selection = match &saved.selection {
        None => None,
        Some((by_datapath, param, fields)) => Some(Selection {
            method: if *by_datapath { SelectionMethod::DpHash } else { SelectionMethod::Hash },
            param: *param,
            fields: oxm::pull_field_array(fields).ok()?,
        }),
    };
    let created_ms = now_ms.saturating_sub(saved.age_ms);
    let group = Group { created_ms, ..Group::new(saved.id, kind, selection, buckets, now_ms) };
    let credit = |c: &Counters, n: SavedCount| c.credit(Count { packets: n.0, bytes: n.1 }, 0);
    credit(&group.counters, saved.count);
    group.bucket_counters.iter().zip(&saved.buckets).for_each(|(c, b)| credit(c, b.0.count));
    switch.groups.put(saved.id, Some(Arc::new(group)));
    Some(())
}

/// Saves the meters of a switch.
pub fn save_meters(switch: &Switch, now_ms: u64) -> Vec<Extensible<SavedMeter>> {
    let one = |m: &Meter| SavedMeter {
        id: m.config.meter_id,
        flags: m.config.flags.bits(),
        bands: m.config.bands.iter().map(|b| (b.rate, b.burst_size)).collect(),
        dp_id: m.dp_id,
        age_ms: now_ms.saturating_sub(m.created_ms),
    };
    switch.meters.iter().map(|m| Extensible(one(m))).collect()
}

/// The meter that was saved.
pub fn restored_meter(saved: &SavedMeter, now_ms: u64) -> Meter {
    let band = |(rate, burst_size): &(u32, u32)| MeterBand {
        band_type: BandType::Drop,
        rate: *rate,
        burst_size: *burst_size,
    };
    Meter {
        config: MeterConfig {
            meter_id: saved.id,
            flags: MeterFlags::from_bits_retain(saved.flags),
            bands: saved.bands.iter().map(band).collect(),
        },
        dp_id: saved.dp_id,
        created_ms: now_ms.saturating_sub(saved.age_ms),
    }
}
