use super::*;

#[test]
fn parse_actions_prints_what_it_read() {
    assert_eq!(parse_actions(&["1,push_vlan(vid=3,pcp=0),2"]), Ok("1,push_vlan(vid=3,pcp=0),2\n".into()));
    let bad = parse_actions(&["nonsense("]);
    assert_eq!(bad, Err("ovs-vswitchd: odp_actions_from_string (Invalid argument)\n".into()));
}

#[test]
fn which_datapath_is_meant() {
    let none: Datapaths<'_> = &[];
    assert_eq!(choose(none, None).err(), Some("ovs-vswitchd: no datapaths exist\n".into()));
    let one: Vec<Arc<dyn Dpif>> = vec![Arc::new(dpif::fake::NoDpif)];
    assert!(choose(&one, None).is_ok() && choose(&one, Some("none")).is_ok());
    let wrong = choose(&one, Some("x")).err();
    assert_eq!(wrong, Some("ovs-vswitchd: datapath not found (Invalid argument)\n".into()));
}
