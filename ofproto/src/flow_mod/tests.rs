use super::*;
use flow::{Field, Flow};

const RULES: u32 = 3_000;
/// A cookie that rules which are to stay have.
const STAYS: u64 = 1;

/// Rules of three masks (no packet made of one matches another) and two tables, one in ten of which has a timeout.
fn change(i: u32, cookie: u64) -> Change {
    let m = Match::catchall().with(Field::EthType, 0x800_u16);
    let m = match i % 3 {
        0 => m.with(Field::Ipv4Src, i + 1),
        1 => m.with(Field::Ipv4Dst, i + 1),
        _ => m.with(Field::IpProto, 6_u8).with(Field::TcpDst, i as u16),
    };
    Change {
        command: Command::Add,
        matching: (&m).into(),
        priority: (i % 7) as u16,
        filter: Filter { table: (i % 2) as u8, ..Filter::ALL },
        new_cookie: cookie,
        modify_cookie: true,
        idle_timeout_s: if i.is_multiple_of(10) { 10 } else { 0 },
        hard_timeout_s: 0,
        importance: 0,
        flags: RuleFlags::empty(),
        check_overlap: false,
        reset_counts: false,
        actions: Box::default(),
    }
}

/// A switch with [`RULES`] rules, of which every `nth` has the cookie [`STAYS`], and a hidden one in table 0.
fn switch(nth: u32) -> (Switch, Arc<Rule>) {
    let mut switch = Switch::new(SwitchId(1), "br0", 1);
    for i in 0..RULES {
        let cookie = if i.is_multiple_of(nth) { STAYS } else { 0 };
        assert_eq!(switch.apply(&change(i, cookie), 0).unwrap().len(), 1);
    }
    let m = Match::catchall().with(Field::EthType, 0x806_u16);
    let hidden = Arc::new(Rule::internal(0, &m, u16::MAX, Vec::new()));
    switch.tables[0].insert(&m.flow, &m.mask, hidden.clone());
    (switch, hidden)
}

fn delete(switch: &mut Switch, filter: Filter) -> Vec<RuleEvent> {
    let change = Change {
        command: Command::Delete { strict: false },
        matching: MiniMatch::default(),
        filter,
        ..change(0, 0)
    };
    switch.apply(&change, 0).unwrap()
}

/// That just the rules with a cookie that `stays` are there, by every way to find them.
fn check(switch: &Switch, hidden: &Arc<Rule>, nth: u32, stays: fn(u64) -> bool) {
    let mut left = [0, 0];
    let mut with_timeout = 0;
    for i in 0..RULES {
        let c = change(i, if i.is_multiple_of(nth) { STAYS } else { 0 });
        let m = c.matching.expand();
        let table = &switch.tables[usize::from(c.filter.table)];
        let found = table.get(&m.flow, &m.mask, c.priority);
        assert_eq!(found.is_some(), stays(c.new_cookie), "rule {i}");
        let looked_up = table.lookup(&m.flow, None);
        assert_eq!(looked_up.is_some_and(|r| r.matching == c.matching), stays(c.new_cookie), "rule {i}");
        if stays(c.new_cookie) {
            left[usize::from(c.filter.table)] += 1;
            with_timeout += usize::from(c.idle_timeout_s != 0);
        }
    }
    assert_eq!([switch.tables[0].len(), switch.tables[1].len()], left);
    assert_eq!(switch.tables.iter().map(|t| t.expirable().count()).sum::<usize>(), with_timeout);
    let arp = Flow { dl_type: 0x806, ..Flow::ZERO };
    assert!(Arc::ptr_eq(switch.tables[0].lookup(&arp, None).unwrap(), hidden), "hidden rules stay");
}

#[test]
fn whole_tables_and_parts_of_them_are_deleted() {
    let zero = Filter { cookie_mask: u64::MAX, ..Filter::ALL };
    for (nth, filter, stays) in [
        // All but hidden ones; nearly all; a third; none.
        (2, Filter::ALL, (|_| false) as fn(u64) -> bool),
        (100, zero, |c| c == STAYS),
        (2, Filter { cookie: STAYS, ..zero }, |c| c != STAYS),
        (3, Filter { cookie: STAYS, ..zero }, |c| c != STAYS),
        (2, Filter { cookie: 7, ..zero }, |_| true),
    ] {
        let (mut switch, hidden) = switch(nth);
        let before = switch.rule_count();
        let events = delete(&mut switch, filter);
        check(&switch, &hidden, nth, stays);
        assert_eq!(before - switch.rule_count(), events.len());
        // Everything that went is reported once, in the order of tables.
        let removed = |e: &RuleEvent| match e {
            RuleEvent::Removed { rule, reason: RemovedReason::Delete } => rule.table,
            other => panic!("{other:?}"),
        };
        assert!(events.iter().map(removed).is_sorted());
        // What came back is as it was.
        switch.undo(&events);
        check(&switch, &hidden, nth, |_| true);
    }
}

#[test]
fn an_emptied_table_keeps_its_prefixes_and_takes_rules() {
    let (mut switch, hidden) = switch(2);
    let fields = vec![classifier::PrefixField::IpSrc];
    let settings = crate::table::TableSettings { prefixes: fields, ..Default::default() };
    assert!(switch.tables[0].configure(settings.clone()));
    delete(&mut switch, Filter::ALL);
    assert!(!switch.tables[0].configure(settings), "the same prefixes as before");
    for i in 0..RULES {
        switch.apply(&change(i, 0), 0).unwrap();
    }
    check(&switch, &hidden, 2, |_| true);
}
