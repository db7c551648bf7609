use flow::Field;

use super::*;
use crate::identify;

fn again(flow_mod: &FlowMod, protocol: Protocol) -> Result<FlowMod, OfError> {
    let message = flow_mod.encode(&Target::new(protocol), 1);
    FlowMod::decode(&identify(&message).unwrap(), &Context::unbound(protocol))
}

fn telnet() -> Match {
    let mut m = Match::catchall();
    m.set_default_packet_type();
    m.with(Field::EthType, 0x0800u16).with(Field::IpProto, 6u8).with(Field::TcpDst, 23u16)
}

#[test]
fn tables_travel_where_the_protocol_has_them() {
    let mut add = FlowMod::new(FlowModCommand::Add, &telnet(), 5);
    add.table_id = 7;
    for protocol in Protocol::ALL {
        let table_id = if protocol.has_table_id() { 7 } else { TABLE_ALL };
        let back = again(&add, protocol).unwrap();
        assert_eq!((back.table_id, back.priority), (table_id, 5), "{protocol:?}");
        assert_eq!(back.matched.expand(), telnet());
    }
}

#[test]
fn all_tables_are_for_deletes() {
    let mut delete = FlowMod::new(FlowModCommand::Delete, &telnet(), 5);
    delete.out_group = 9;
    for protocol in [Protocol::Of12, Protocol::Of13, Protocol::Of15] {
        let back = again(&delete, protocol).unwrap();
        assert_eq!((back.table_id, back.out_group), (TABLE_ALL, 9));
        let mut message =
            FlowMod::new(FlowModCommand::Modify, &telnet(), 5).encode(&Target::new(protocol), 1);
        message[24] = TABLE_ALL;
        let decoded = FlowMod::decode(&identify(&message).unwrap(), &Context::unbound(protocol));
        assert_eq!(decoded, Err(OfError::OfpfmfcBadTableId));
    }
    assert_eq!(again(&delete, Protocol::Of11).unwrap().table_id, 0);
}

#[test]
fn cookies_are_set_or_looked_for() {
    let mut modify = FlowMod::new(FlowModCommand::Modify, &telnet(), 5);
    modify.cookie = 0x10;
    modify.cookie_mask = 0xf0;
    for protocol in [Protocol::Of10Nxm, Protocol::Of11, Protocol::Of13] {
        let back = again(&modify, protocol).unwrap();
        assert_eq!((back.cookie, back.cookie_mask, back.modify_cookie), (0x10, 0xf0, false), "{protocol:?}");
        assert_eq!(back.new_cookie, COOKIE_KEEP);
    }
    let mut recook = FlowMod::new(FlowModCommand::Modify, &telnet(), 5);
    recook.new_cookie = 3;
    let back = again(&recook, Protocol::Of10Std).unwrap();
    assert_eq!((back.new_cookie, back.modify_cookie), (3, true));
    let back = again(&recook, Protocol::Of11).unwrap();
    assert_eq!((back.new_cookie, back.modify_cookie), (3, false));
}

#[test]
fn an_exact_match_of_openflow10_has_the_highest_priority() {
    let mut m = telnet();
    m.set(Field::InPort, 1u16);
    for field in [Field::EthSrc, Field::EthDst, Field::Ipv4Src, Field::Ipv4Dst, Field::IpDscp, Field::TcpSrc]
    {
        m.set(field, 0u16);
    }
    m.set(Field::DlVlan, 5u16);
    let add = FlowMod::new(FlowModCommand::Add, &m, 5);
    assert_eq!(again(&add, Protocol::Of10Std).unwrap().priority, 5);
    m.set(Field::DlVlanPcp, 0u8);
    let add = FlowMod::new(FlowModCommand::Add, &m, 5);
    assert_eq!(again(&add, Protocol::Of10Std).unwrap().priority, u16::MAX);
    assert_eq!(again(&add, Protocol::Of10Nxm).unwrap().priority, 5);
}

#[test]
fn flags_are_those_of_the_version() {
    let mut add = FlowMod::new(FlowModCommand::Add, &telnet(), 5);
    add.flags = FlowFlags::STATE;
    let of = |protocol| again(&add, protocol).unwrap().flags;
    let common = FlowFlags::SEND_FLOW_REM | FlowFlags::CHECK_OVERLAP | FlowFlags::RESET_COUNTS;
    assert_eq!(of(Protocol::Of10Std), common);
    assert_eq!(of(Protocol::Of11), common);
    assert_eq!(of(Protocol::Of12), common);
    assert_eq!(of(Protocol::Of13), FlowFlags::STATE);
    assert_eq!(FlowFlags::from_wire(1 << 2, Version::Of11), Err(OfError::OfpfmfcBadFlags));
    add.flags = FlowFlags::EMERG;
    assert_eq!(again(&add, Protocol::Of10Std), Err(OfError::OfpfmfcTableFull));
    add.hard_timeout = 1;
    assert_eq!(again(&add, Protocol::Of10Std), Err(OfError::OfpfmfcBadEmergTimeout));
}

#[test]
fn importance_is_of_adds_since_openflow14() {
    let mut add = FlowMod::new(FlowModCommand::Add, &telnet(), 5);
    add.importance = 40;
    assert_eq!(again(&add, Protocol::Of13).unwrap().importance, 0);
    assert_eq!(again(&add, Protocol::Of14).unwrap().importance, 40);
    add.command = FlowModCommand::ModifyStrict;
    assert_eq!(again(&add, Protocol::Of14).unwrap().importance, 0);
}
