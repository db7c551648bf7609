use super::*;
use crate::flow_mod::{Change, Command, Filter};
use crate::groups::Group;
use crate::meters::Meter;
use crate::port::BundleSettings;
use flow::Field;
use openflow::action::{Action, Output};
use openflow::msg::group::{Bucket, GroupType, Selection, SelectionMethod};
use openflow::msg::meter::{BandType, MeterBand, MeterConfig, MeterFlags};
use saved_state::postcard;

fn change(table: u8, matching: Match, priority: u16) -> Change {
    Change {
        command: Command::Add,
        matching: (&matching).into(),
        priority,
        filter: Filter { table, ..Filter::ALL },
        new_cookie: 0xabcd,
        modify_cookie: true,
        idle_timeout_s: 60,
        hard_timeout_s: 0,
        importance: 3,
        flags: RuleFlags::SEND_FLOW_REM | RuleFlags::RESET_COUNTS,
        check_overlap: false,
        reset_counts: false,
        actions: [Action::Output(Output { port: PortNo(2), max_len: 0 })].into(),
    }
}

fn switch_with(state: &mut State) -> SwitchId {
    let id = state.add_switch("br0", 1);
    let switch = state.switch_mut(id).unwrap();
    switch.set_bundle(BundleSettings::trunk("p1", PortNo(1)));
    id
}

fn group() -> Group {
    let bucket = |id: u32| Bucket {
        bucket_id: id,
        weight: 5,
        watch_port: PortNo(3),
        watch_group: 9,
        actions: vec![Action::Output(Output { port: PortNo(2), max_len: 0 })],
    };
    let fields = vec![(Field::Ipv4Src, flow::Value::from_bytes(&[255, 255, 0, 0]))];
    let selection = Selection { method: SelectionMethod::Hash, param: 4, fields };
    Group::new(7, GroupType::Select, Some(selection), vec![bucket(1), bucket(2)], 500)
}

fn meter() -> Meter {
    let config = MeterConfig {
        meter_id: 8,
        flags: MeterFlags::PKTPS | MeterFlags::BURST,
        bands: vec![MeterBand { band_type: BandType::Drop, rate: 7, burst_size: 8 }],
    };
    Meter { config, dp_id: 4, created_ms: 300 }
}

#[test]
fn a_switch_comes_back_as_it_was() {
    let mut old = State::default();
    let id = switch_with(&mut old);
    let switch = old.switch_mut(id).unwrap();
    let mut tlv = TlvTable::EMPTY;
    tlv.add(3, 0x102, 7, 4).unwrap();
    switch.tlv = Arc::new(tlv.clone());
    switch.frag = FragHandling::NxMatch;
    let mut with_option = Match::catchall();
    let field = Field::tun_metadata(3).unwrap();
    field.set_in(&mut with_option.flow, &flow::Value::from_bytes(&[1, 2, 3, 4]), &tlv);
    field.unwildcard_in(&mut with_option.mask, &tlv);
    let matches = [
        Match::catchall(),
        Match::catchall().with(Field::InPort, 5u16).with(Field::EthType, 0x800u16),
        with_option,
    ];
    for (i, m) in matches.into_iter().enumerate() {
        switch.apply(&change(i as u8, m, 100), 1_000).unwrap();
    }
    let rule = switch.tables[1].iter().next().unwrap().clone();
    rule.counters.credit(Count { packets: 7, bytes: 700 }, 4_000);
    switch.tables[2].miss = TableMiss::Continue;
    switch.tables[2].counters.credit(true, 5);
    switch.tables[2].vacancy = Vacancy { enabled: true, down_pct: 10, up_pct: 90, below: true };
    switch.groups.put(7, Some(Arc::new(group())));
    switch.groups.get(7).unwrap().credit(Some(1), Count { packets: 3, bytes: 30 }, 0);
    let bundle = switch.bundles.values().next().unwrap().id;
    switch.macs.lock().learn(EthAddr([2; 6]), 9, bundle, 2_000, false);
    switch.macs.lock().add_static(EthAddr([4; 6]), 0, bundle, 2_000);

    assert!(old.put_meter(id, meter()));
    let saved = save(&old, |_| Some(17), 6_000);
    let bytes = postcard::to_stdvec(&saved).unwrap();
    let back: SavedSwitches = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(back, saved);

    // Another process, another clock.
    let mut new = State::default();
    let id = switch_with(&mut new);
    let restored = new.restore(id, &back.switches[0].0, 1_006_000).unwrap();
    assert_eq!(restored, Restored { rules: 3, refused: 0, macs: 2, groups: 1, meters: 1 });
    assert_eq!(save(&new, |_| Some(17), 1_006_000), saved);
    let rule = new.switch(id).unwrap().tables[1].iter().next().unwrap().clone();
    assert_eq!((rule.created_ms, rule.counters.used_ms()), (1_001_000, 1_004_000));
    assert_eq!(rule.expires_ms(), Some(1_064_000), "the idle timeout goes on");
}

#[test]
fn what_makes_no_sense_is_refused_and_the_rest_restored() {
    let mut state = State::default();
    let id = switch_with(&mut state);
    state.switch_mut(id).unwrap().apply(&change(0, Match::catchall(), 1), 0).unwrap();
    let mut saved = save(&state, |_| None, 0).switches.remove(0).0;
    let mut bad = saved.rules[0].0.clone();
    bad.matching = vec![0xff; 5];
    let mut elsewhere = saved.rules[0].0.clone();
    elsewhere.table = TBL_INTERNAL;
    saved.rules.extend([Extensible(bad), Extensible(elsewhere)]);
    saved.macs.push(Extensible(SavedMac {
        mac: [2; 6],
        vlan: 0,
        port: "gone".into(),
        age_s: 0,
        is_static: false,
    }));
    let restored = state.restore(id, &saved, 0).unwrap();
    assert_eq!(restored, Restored { rules: 1, refused: 2, ..Restored::default() });
}
