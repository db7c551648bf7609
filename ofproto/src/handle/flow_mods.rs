//! Flow-mods, many at a time: those that follow each other on a connection are decoded without the lock,
//! applied under one writer's lock, and make megaflows be looked at once.

use super::Cx;
use crate::conn::announce::News;
use crate::conn::monitor::Changes;
use crate::conn::session::ModKind;
use crate::flow_mod::{Change, Command, Filter, RuleEvent};
use crate::rule::RuleFlags;
use crate::switch::Switch;
use crate::table::{TABLE_ALL, TABLES, TBL_INTERNAL};
use bytes::Bytes;
use openflow::msg::flow_mod::{FlowFlags, FlowMod, FlowModCommand, NO_BUFFER};
use openflow::msg::table_desc::{TableReason, TableStatus};
use openflow::msg::table_mod::{EvictionFlags, TableDesc, Vacancy};
use openflow::{Incoming, MsgType, OfError, identify};

/// Flow-mods applied under one lock; translations wait no longer than these take.
const BATCH_MAX: usize = 512;

/// A flow-mod, decoded and ready to be applied, or the error that it is answered with.
type Item = (Bytes, Result<Change, OfError>);

/// Flow-mods that wait to be applied together.
#[derive(Debug, Default)]
pub struct Batch(Vec<Item>);

impl Batch {
    /// Takes a message in if it is a flow-mod.
    pub fn take(&mut self, cx: &mut Cx<'_>, bytes: &Bytes) -> bool {
        let Ok(msg) = identify(bytes) else { return false };
        if msg.msg_type() != MsgType::FlowMod {
            return false;
        }
        let change = cx.conn.check_may_write().and_then(|()| decode(cx, &msg));
        self.0.push((bytes.clone(), change));
        if self.0.len() >= BATCH_MAX {
            self.commit(cx);
        }
        true
    }

    /// Applies what waits, in order; each is answered on its own.
    pub fn commit(&mut self, cx: &mut Cx<'_>) {
        if self.0.is_empty() {
            return;
        }
        let now_ms = cx.env.now_ms();
        let items = std::mem::take(&mut self.0);
        let results = cx.write(|switch| {
            let mut news = Vec::new();
            let results: Vec<_> = items
                .into_iter()
                .map(|(bytes, change)| {
                    let applied = change.and_then(|c| {
                        let events = switch.apply(&c, now_ms)?;
                        news.extend(table_news(switch, &events));
                        Ok((c.command, events))
                    });
                    (bytes, applied)
                })
                .collect();
            (results, news)
        });
        let Ok((results, news)) = results else { return };
        for (bytes, result) in results {
            match result {
                Ok((command, events)) => {
                    cx.conn.mods.note(kind_of(command), now_ms);
                    let changes = changes(&bytes, command, events);
                    cx.agent.tell_changes(cx.env, Some(cx.conn), vec![changes], now_ms);
                }
                Err(e) => cx.conn.send_error(e, &bytes),
            }
        }
        cx.agent.news.extend(news);
    }
}

/// What a flow-mod did, for those that want to be told.
pub fn changes(message: &[u8], command: Command, events: Vec<RuleEvent>) -> Changes {
    let xid = openflow::Header::parse(message).map_or(0, |h| h.xid);
    Changes { xid, by_add: command == Command::Add, events }
}

/// For the log of a connection.
pub fn kind_of(command: Command) -> ModKind {
    match command {
        Command::Add => ModKind::Add,
        Command::Modify { .. } => ModKind::Modify,
        Command::Delete { .. } => ModKind::Delete,
    }
}

/// Decodes a flow-mod and checks what does not depend on the tables' contents.
pub fn decode(cx: &Cx<'_>, msg: &Incoming<'_>) -> Result<Change, OfError> {
    let fm = FlowMod::decode(msg, &cx.context())?;
    check(&fm)?;
    Ok(change_of(fm))
}

fn check(fm: &FlowMod) -> Result<(), OfError> {
    if fm.table_id != TABLE_ALL && usize::from(fm.table_id) >= TABLES {
        return Err(OfError::OfpbrcBadTableId);
    }
    let is_delete = fm.command.is_delete();
    // The rules of the switch's own table are not for others to change.
    if fm.table_id == TBL_INTERNAL && !is_delete {
        return Err(OfError::OfpbrcEperm);
    }
    if !is_delete && fm.buffer_id != NO_BUFFER {
        return Err(OfError::OfpbrcBufferUnknown);
    }
    Ok(())
}

/// Flags of flow-mods and of rules.
const FLAGS: [(FlowFlags, RuleFlags); 5] = [
    (FlowFlags::SEND_FLOW_REM, RuleFlags::SEND_FLOW_REM),
    (FlowFlags::CHECK_OVERLAP, RuleFlags::CHECK_OVERLAP),
    (FlowFlags::RESET_COUNTS, RuleFlags::RESET_COUNTS),
    (FlowFlags::NO_PKT_COUNTS, RuleFlags::NO_PACKET_COUNTS),
    (FlowFlags::NO_BYT_COUNTS, RuleFlags::NO_BYTE_COUNTS),
];

/// The flags of a rule, as statistics have them.
pub fn flow_flags(flags: RuleFlags) -> FlowFlags {
    FLAGS.iter().filter(|(_, r)| flags.contains(*r)).map(|(f, _)| *f).collect()
}

fn rule_flags(flags: FlowFlags) -> RuleFlags {
    FLAGS.iter().filter(|(f, _)| flags.contains(*f)).map(|(_, r)| *r).collect()
}

fn change_of(fm: FlowMod) -> Change {
    let command = match fm.command {
        FlowModCommand::Add => Command::Add,
        FlowModCommand::Modify => Command::Modify { strict: false },
        FlowModCommand::ModifyStrict => Command::Modify { strict: true },
        FlowModCommand::Delete => Command::Delete { strict: false },
        FlowModCommand::DeleteStrict => Command::Delete { strict: true },
    };
    let is_delete = fm.command.is_delete();
    let all = Filter::ALL;
    Change {
        command,
        matching: fm.matched,
        priority: fm.priority,
        filter: Filter {
            table: fm.table_id,
            cookie: fm.cookie,
            cookie_mask: fm.cookie_mask,
            out_port: if is_delete { fm.out_port } else { all.out_port },
            out_group: if is_delete { fm.out_group } else { all.out_group },
        },
        new_cookie: fm.new_cookie,
        modify_cookie: fm.modify_cookie || fm.command == FlowModCommand::Add,
        idle_timeout_s: fm.idle_timeout,
        hard_timeout_s: fm.hard_timeout,
        importance: fm.importance,
        flags: rule_flags(fm.flags),
        check_overlap: fm.flags.contains(FlowFlags::CHECK_OVERLAP),
        reset_counts: fm.flags.contains(FlowFlags::RESET_COUNTS),
        actions: fm.actions.into(),
    }
}

/// How full a table is, in percent of free entries.
pub fn vacancy_pct(table: &crate::table::Table) -> u8 {
    let (used, max) = (table.len() as u64, u64::from(table.settings.flow_limit));
    if max == 0 { 100 } else { ((max.saturating_sub(used)) as f64 * 100.0 / max as f64) as u8 }
}

/// A table's configuration as controllers see it.
pub fn table_desc(table: &crate::table::Table, id: u8) -> TableDesc {
    let v = &table.vacancy;
    TableDesc {
        table_id: id,
        eviction: table.evict_by_controller,
        eviction_flags: Some(EvictionFlags::OTHER | EvictionFlags::IMPORTANCE | EvictionFlags::LIFETIME),
        vacancy: v.enabled.then(|| Vacancy { down: v.down_pct, up: v.up_pct, current: vacancy_pct(table) }),
    }
}

/// The vacancy events (OpenFlow 1.4, 7.4.5) that changes of rules bring about.
pub fn table_news(switch: &mut Switch, events: &[RuleEvent]) -> Vec<News> {
    let mut news = Vec::new();
    for event in events {
        let (RuleEvent::Added(rule) | RuleEvent::Removed { rule, .. }) = event else { continue };
        let Some(table) = switch.tables.get_mut(usize::from(rule.table)) else { continue };
        if !table.vacancy.enabled {
            continue;
        }
        let vacancy = vacancy_pct(table);
        let v = &mut table.vacancy;
        let reason = match v.below {
            false if vacancy < v.down_pct => TableReason::VacancyDown,
            true if vacancy > v.up_pct => TableReason::VacancyUp,
            _ => continue,
        };
        v.below = !v.below;
        news.push(News::Table(TableStatus { reason, desc: table_desc(table, rule.table) }));
    }
    news
}
