//! Tables: configuration, statistics, features.

use super::Cx;
use super::flow_mods::table_desc;
use crate::switch::Switch;
use crate::table::{TABLE_ALL, TBL_INTERNAL, Table};
use flow::{Field, Maskable};
use openflow::msg::action_types::ActionTypes;
use openflow::msg::field_set::FieldSet;
use openflow::msg::table_desc;
use openflow::msg::table_features::{
    self, ActionFeatures, InstructionFeatures, InstructionTypes, TableFeatures, TableFeaturesCommand,
};
use openflow::msg::table_mod::{EvictionFlags, TableMiss, TableMod};
use openflow::msg::table_stats::{self, TableStats};
use openflow::multipart::MultipartWriter;
use openflow::{Incoming, OfError, identify};

/// Flows that a table is said to hold if nothing limits it.
const MAX_ENTRIES: u32 = 1_000_000;

type Result<T = ()> = std::result::Result<T, OfError>;

pub fn table_mod(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    cx.conn.check_may_write()?;
    let tm = TableMod::decode(msg)?;
    let ours = EvictionFlags::OTHER | EvictionFlags::IMPORTANCE | EvictionFlags::LIFETIME;
    if tm.eviction_flags.is_some_and(|f| f != ours) {
        return Err(OfError::OfptmfcBadConfig);
    }
    if tm.table_id == TBL_INTERNAL {
        return Err(OfError::OfptmfcEperm);
    }
    cx.write(|switch| {
        let tables = switch.tables.iter_mut().take(usize::from(TBL_INTERNAL)).enumerate();
        for (_, table) in tables.filter(|(i, _)| tm.table_id == TABLE_ALL || *i == usize::from(tm.table_id)) {
            modify(table, &tm);
        }
    })
}

fn modify(table: &mut Table, tm: &TableMod) {
    if tm.miss != TableMiss::Default {
        table.miss = tm.miss;
    }
    if let Some(eviction) = tm.eviction {
        table.evict_by_controller = eviction;
    }
    let Some(enabled) = tm.vacancy_events else { return };
    let thresholds = tm.vacancy.unwrap_or_default();
    let vacancy = super::flow_mods::vacancy_pct(table);
    let v = &mut table.vacancy;
    (v.down_pct, v.up_pct) = (thresholds.down, thresholds.up);
    if enabled && !v.enabled {
        v.below = vacancy < v.up_pct;
    }
    v.enabled = enabled;
}

pub fn desc(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    let descs: Vec<_> = cx.read(|s| visible(s).map(|(id, t)| table_desc(t, id)).collect())?;
    let mut replies = MultipartWriter::reply_to(msg).ok_or(OfError::OfpbrcBadStat)?;
    for desc in &descs {
        table_desc::append(desc, &mut replies);
    }
    cx.conn.reply_all(replies.finish());
    Ok(())
}

/// The tables that controllers know of.
fn visible(switch: &Switch) -> impl Iterator<Item = (u8, &Table)> {
    (0..TBL_INTERNAL).zip(&switch.tables)
}

pub fn stats(cx: &mut Cx<'_>, msg: &Incoming<'_>) -> Result {
    cx.env.fabric.push_stats();
    let stats_of = |id: u8, t: &Table| TableStats {
        table_id: id,
        active_count: u32::try_from(t.len()).unwrap_or(u32::MAX),
        lookup_count: t.counters.looked_up(),
        matched_count: t.counters.matched(),
    };
    let common = common_features();
    let tables: Vec<_> =
        cx.read(|s| visible(s).map(|(id, t)| (stats_of(id, t), features_of(t, id, &common))).collect())?;
    cx.conn.reply(table_stats::encode_reply(&tables, msg.version, msg.header.xid));
    Ok(())
}

/// What every table can do.
fn common_features() -> TableFeatures {
    let known = || Field::all().filter(|f| !f.info().oxm.is_empty());
    let writable: FieldSet = known().filter(|f| f.info().writable).collect();
    let matched: FieldSet = known().collect();
    let actions = ActionFeatures { actions: ActionTypes::all(), set_fields: writable };
    let rules = InstructionFeatures {
        instructions: InstructionTypes::all(),
        write: actions,
        apply: actions,
        ..InstructionFeatures::default()
    };
    TableFeatures {
        metadata_match: u64::MAX,
        metadata_write: u64::MAX,
        supports_eviction: Some(false),
        supports_vacancy_events: Some(false),
        any_properties: true,
        nonmiss: rules,
        miss: rules,
        matched,
        mask: known().filter(|f| f.info().maskable == Maskable::Bitwise).collect(),
        wildcard: matched,
        ..TableFeatures::default()
    }
}

fn features_of(table: &Table, id: u8, common: &TableFeatures) -> TableFeatures {
    let mut features = TableFeatures {
        table_id: id,
        name: table.name().unwrap_or_default().as_bytes().to_vec(),
        max_entries: table.settings.flow_limit.min(MAX_ENTRIES),
        miss_config: table.miss,
        ..common.clone()
    };
    for rules in [&mut features.nonmiss, &mut features.miss] {
        rules.next = (id + 1..TBL_INTERNAL).collect();
        if id + 1 >= TBL_INTERNAL {
            rules.instructions -= InstructionTypes::GOTO_TABLE;
        }
    }
    features
}

/// Table features; `parts` are the parts of the request, which may change them.
pub fn features(cx: &mut Cx<'_>, parts: &[Vec<u8>]) -> Result {
    let last = parts.last().ok_or(OfError::OfpbrcBadLen)?;
    let request = identify(last)?;
    let common = common_features();
    let all = |cx: &Cx<'_>| -> Result<Vec<_>> {
        cx.read(|s| visible(s).map(|(id, t)| features_of(t, id, &common)).collect())
    };
    if parts.len() > 1 || !request.body().is_empty() {
        match change_features(cx, parts, &all(cx)?) {
            Ok(()) => {}
            Err((part, error)) => {
                cx.conn.send_error(error, part.unwrap_or(last));
                return Ok(());
            }
        }
    }
    let mut replies = MultipartWriter::reply_to(&request).ok_or(OfError::OfpbrcBadStat)?;
    for features in all(cx)? {
        table_features::append(&features, &mut replies);
    }
    cx.conn.reply_all(replies.finish());
    Ok(())
}

/// An error and the part of the request that it is about, if it is not the whole.
type PartError<'a> = (Option<&'a [u8]>, OfError);

/// Changes what a table features request may change: names, and nothing that makes tables do more.
fn change_features<'a>(
    cx: &Cx<'_>,
    parts: &'a [Vec<u8>],
    old: &[TableFeatures],
) -> std::result::Result<(), PartError<'a>> {
    let (command, mut new) = decode_parts(parts)?;
    let whole = |e| (None, e);
    match command {
        None => return Ok(()),
        Some(TableFeaturesCommand::Enable | TableFeaturesCommand::Disable) => {
            return Err(whole(OfError::OfptffcEperm));
        }
        Some(_) if new.iter().any(|t| t.table_id == TBL_INTERNAL) => {
            return Err(whole(OfError::OfptffcEperm));
        }
        Some(TableFeaturesCommand::Modify) => complete(&mut new, old),
        Some(TableFeaturesCommand::Replace) => {}
    }
    new.sort_by_key(|t| t.table_id);
    if !new.iter().map(|t| t.table_id).eq(old.iter().map(|t| t.table_id)) {
        return Err(whole(OfError::OfptffcEperm));
    }
    let allowed =
        old.iter().zip(&new).all(|(old, new)| old.max_entries == new.max_entries && is_superset(old, new));
    if !allowed {
        return Err(whole(OfError::OfptffcEperm));
    }
    cx.write(|switch| rename(switch, &new)).and_then(|done| done).map_err(whole)
}

/// The tables in a request and its command.
fn decode_parts(
    parts: &[Vec<u8>],
) -> std::result::Result<(Option<TableFeaturesCommand>, Vec<TableFeatures>), PartError<'_>> {
    let mut new: Vec<TableFeatures> = Vec::new();
    for part in parts {
        let of_part = |e| (Some(part.as_slice()), e);
        let tables = identify(part).and_then(|msg| table_features::decode(&msg)).map_err(of_part)?;
        for table in tables {
            if new.iter().any(|t| t.table_id == table.table_id) {
                return Err(of_part(OfError::NxtffcDupTable));
            }
            new.push(table);
        }
    }
    Ok((new.first().map(|t| t.command), new))
}

/// A modification leaves as they are tables that it does not name, and properties that it does not have.
fn complete(new: &mut Vec<TableFeatures>, old: &[TableFeatures]) {
    for old in old {
        match new.iter_mut().find(|t| t.table_id == old.table_id) {
            None => new.push(old.clone()),
            Some(t) if !t.any_properties => {
                *t = TableFeatures {
                    name: std::mem::take(&mut t.name),
                    metadata_match: t.metadata_match,
                    metadata_write: t.metadata_write,
                    max_entries: t.max_entries,
                    ..old.clone()
                };
            }
            Some(_) => {}
        }
    }
}

fn is_superset(old: &TableFeatures, new: &TableFeatures) -> bool {
    let fields = |old: FieldSet, new: FieldSet| new.intersection(old) == new;
    let actions = |old: &ActionFeatures, new: &ActionFeatures| {
        old.actions.contains(new.actions) && fields(old.set_fields, new.set_fields)
    };
    let rules = |old: &InstructionFeatures, new: &InstructionFeatures| {
        new.next.iter().all(|t| old.next.contains(t))
            && old.instructions.contains(new.instructions)
            && actions(&old.write, &new.write)
            && actions(&old.apply, &new.apply)
    };
    let may = |old: Option<bool>, new: Option<bool>| new != Some(true) || old == Some(true);
    old.metadata_match & new.metadata_match == new.metadata_match
        && old.metadata_write & new.metadata_write == new.metadata_write
        && may(old.supports_eviction, new.supports_eviction)
        && may(old.supports_vacancy_events, new.supports_vacancy_events)
        && rules(&old.nonmiss, &new.nonmiss)
        && rules(&old.miss, &new.miss)
        && fields(old.matched, new.matched)
        && fields(old.mask, new.mask)
        && fields(old.wildcard, new.wildcard)
}

/// Gives tables the names of `new`. A name from the database stays.
fn rename(switch: &mut Switch, new: &[TableFeatures]) -> Result {
    let names: Vec<_> = new.iter().map(|t| String::from_utf8_lossy(&t.name).into_owned()).collect();
    let clashes = switch
        .tables
        .iter()
        .zip(&names)
        .any(|(t, name)| t.settings.name.as_ref().is_some_and(|fixed| fixed != name));
    if clashes {
        return Err(OfError::OfptffcEperm);
    }
    for (table, name) in switch.tables.iter_mut().zip(names) {
        table.controller_name = (!name.is_empty()).then_some(name);
    }
    Ok(())
}
