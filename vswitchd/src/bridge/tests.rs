use super::*;
use crate::config::tests::Db;
use crate::config::{
    BridgeConfig, Desired, GlobalConfig, InterfaceConfig, PortConfig, RemotesConfig, SwitchSettings,
};
use flow::EthAddr;
use ovsdb_shim::Datum;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// A world of names: devices that exist, ports in bridges, and a diary.
#[derive(Default)]
struct World {
    bridges: BTreeMap<String, BTreeMap<String, u16>>,
    ports: BTreeMap<(String, String), Vec<u16>>,
    /// Devices that cannot be opened.
    absent: BTreeSet<String>,
    diary: Vec<String>,
}

impl World {
    fn note(&mut self, words: &[&str]) {
        self.diary.push(words.join(" "));
    }

    fn took(&mut self) -> Vec<String> {
        std::mem::take(&mut self.diary)
    }
}

impl Backend for World {
    fn set_global(&mut self, _: &GlobalConfig) {}
    fn add_bridge(&mut self, bridge: &BridgeConfig) -> Result<(), String> {
        assert!(self.bridges.insert(bridge.name.clone(), BTreeMap::new()).is_none());
        self.note(&["+", &bridge.name]);
        Ok(())
    }
    fn remove_bridge(&mut self, bridge: &str) {
        assert_eq!(self.bridges.remove(bridge), Some(BTreeMap::new()), "ports go first");
        self.note(&["-", bridge]);
    }
    fn add_interface(&mut self, bridge: &str, interface: &InterfaceConfig) -> Result<u16, String> {
        let name = &interface.name;
        if self.absent.contains(name) {
            return Err(format!("could not open network device {name} (No such device)"));
        }
        if self.bridges.values().any(|ports| ports.contains_key(name)) {
            return Err(format!("could not add network device {name} to ofproto (File exists)"));
        }
        let ports = self.bridges.get_mut(bridge).unwrap();
        let free = |no: &u16| !ports.values().any(|used| used == no);
        let no = match interface.ofport_wanted().filter(free) {
            _ if name == bridge => LOCAL,
            Some(no) => no,
            None => (1..).find(free).unwrap(),
        };
        ports.insert(name.clone(), no);
        self.note(&["+", bridge, name, &no.to_string()]);
        Ok(no)
    }
    fn remove_interface(&mut self, bridge: &str, interface: &str) {
        self.bridges.get_mut(bridge).unwrap().remove(interface).unwrap();
        self.note(&["-", bridge, interface]);
    }
    fn configure_interface(&mut self, bridge: &str, interface: &InterfaceConfig) -> Result<(), String> {
        self.note(&["~", bridge, &interface.name]);
        if interface.options.contains_key("bad") { Err("bad".into()) } else { Ok(()) }
    }
    fn set_port(&mut self, bridge: &str, port: &PortConfig, members: &[u16]) {
        self.ports.insert((bridge.to_owned(), port.name.clone()), members.to_vec());
        self.note(&["=", bridge, &port.name]);
    }
    fn remove_port(&mut self, bridge: &str, port: &str) {
        self.ports.remove(&(bridge.to_owned(), port.to_owned())).unwrap();
    }
    fn set_switch(&mut self, bridge: &str, _: &SwitchSettings) {
        self.note(&["switch", bridge]);
    }
    fn set_remotes(&mut self, bridge: &str, _: &RemotesConfig) {
        self.note(&["remotes", bridge]);
    }
    fn settle(&mut self) {}
    fn mac(&self, bridge: &str, interface: &str) -> Option<EthAddr> {
        let no = self.bridges.get(bridge)?.get(interface)?;
        Some(EthAddr([0x50, 0, 0, 0, (no >> 8) as u8, *no as u8]))
    }
    fn set_mac(&mut self, _: &str, interface: &str, mac: EthAddr) -> Result<(), String> {
        self.note(&["mac", interface, &mac.to_string()]);
        Ok(())
    }
    fn set_datapath_id(&mut self, bridge: &str, datapath_id: u64) {
        self.note(&["dpid", bridge, &format!("{datapath_id:016x}")]);
    }
}

fn run(r: &mut Reconciler, db: &Db, world: &mut World) -> Vec<String> {
    r.apply(&db.read(), world);
    world.took()
}

#[test]
fn only_the_difference_is_done() {
    let (mut db, mut world, mut r) = (Db::default(), World::default(), Reconciler::default());
    let br0 = db.bridge("br0");
    let (_, a) = db.port(br0, "a", "");
    assert_eq!(
        run(&mut r, &db, &mut world),
        [
            "+ br0",
            "+ br0 a 1",
            "+ br0 br0 65534",
            "= br0 a",
            "= br0 br0",
            "mac br0 50:00:00:00:00:01",
            "dpid br0 0000500000000001",
            "switch br0",
            "remotes br0"
        ]
    );
    assert_eq!(run(&mut r, &db, &mut world), [""; 0]);
    let (b, _) = db.port(br0, "b", "");
    let steps = run(&mut r, &db, &mut world);
    assert_eq!(&steps[..2], ["+ br0 b 2", "= br0 b"]);
    assert!(!steps.iter().any(|s| s.ends_with(" a")), "{steps:?}");
    db.put("Interface", a, [("options", Datum::map([("k", "v")]))]);
    assert_eq!(run(&mut r, &db, &mut world), ["~ br0 a"]);
    db.put("Port", b, [("tag", Datum::from(3))]);
    assert_eq!(run(&mut r, &db, &mut world)[0], "= br0 b");
    db.put("Interface", a, [("ofport", Datum::from(1))]);
    assert_eq!(run(&mut r, &db, &mut world), [""; 0], "what we wrote ourselves changes nothing");
    db.put("Bridge", br0, [("other_config", Datum::map([("forward-bpdu", "true")]))]);
    assert_eq!(run(&mut r, &db, &mut world), ["switch br0"]);
    db.put("Bridge", br0, [("other_config", Datum::map([("datapath-id", "0x7")]))]);
    assert!(run(&mut r, &db, &mut world).contains(&"dpid br0 0000000000000007".to_owned()));
    db.drop_port(br0, b);
    assert_eq!(run(&mut r, &db, &mut world)[0], "- br0 b");
    db.drop_bridge(br0);
    assert_eq!(run(&mut r, &db, &mut world), ["- br0 a", "- br0 br0", "- br0"]);
    assert!(world.ports.is_empty() && r.actual().bridges.is_empty());
}

#[test]
fn a_failing_interface_is_tried_again_and_disturbs_nobody() {
    let (mut db, mut world, mut r) = (Db::default(), World::default(), Reconciler::default());
    let br0 = db.bridge("br0");
    db.port(br0, "a", "");
    db.port(br0, "late", "");
    world.absent.insert("late".into());
    run(&mut r, &db, &mut world);
    assert_eq!(r.failure("br0", "late"), Some("could not open network device late (No such device)"));
    assert!(r.waits_for("late") && !r.waits_for("a"));
    let steps = run(&mut r, &db, &mut world);
    assert!(!steps.iter().any(|s| s.starts_with(['+', '-', '='])), "{steps:?}");
    world.absent.clear();
    assert_eq!(&run(&mut r, &db, &mut world)[..2], ["+ br0 late 2", "= br0 late"]);
    assert_eq!(r.failure("br0", "late"), None);
}

#[test]
fn options_that_do_not_work_take_the_interface_out() {
    let (mut db, mut world, mut r) = (Db::default(), World::default(), Reconciler::default());
    let br0 = db.bridge("br0");
    let (_, a) = db.port(br0, "a", "");
    run(&mut r, &db, &mut world);
    db.put("Interface", a, [("options", Datum::map([("bad", "")]))]);
    world.absent.insert("a".into());
    assert_eq!(&run(&mut r, &db, &mut world)[..2], ["~ br0 a", "- br0 a"]);
    assert!(r.failure("br0", "a").is_some() && !world.ports.contains_key(&("br0".into(), "a".into())));
}

#[test]
fn port_numbers_move_to_who_asks_for_them() {
    let (mut db, mut world, mut r) = (Db::default(), World::default(), Reconciler::default());
    let br0 = db.bridge("br0");
    let (_, a) = db.port(br0, "a", "");
    let (_, b) = db.port(br0, "b", "");
    run(&mut r, &db, &mut world);
    assert_eq!((world.bridges["br0"]["a"], world.bridges["br0"]["b"]), (1, 2));
    db.put("Interface", b, [("ofport_request", Datum::from(1))]);
    run(&mut r, &db, &mut world);
    assert_eq!((world.bridges["br0"]["a"], world.bridges["br0"]["b"]), (2, 1));
    assert_eq!(world.ports[&("br0".into(), "a".into())], [2]);
    db.put("Interface", a, [("ofport_request", Datum::from(1))]);
    assert_eq!(run(&mut r, &db, &mut world), ["~ br0 a"], "two who ask for one number keep what they have");
}

#[test]
fn who_asks_in_vain_does_not_keep_others_moving() {
    let (mut db, mut world, mut r) = (Db::default(), World::default(), Reconciler::default());
    let br0 = db.bridge("br0");
    db.port(br0, "a", "");
    for name in ["b", "c"] {
        let (_, row) = db.port(br0, name, "");
        db.put("Interface", row, [("ofport_request", Datum::from(1))]);
    }
    world.absent.insert("b".into());
    run(&mut r, &db, &mut world);
    assert_eq!((world.bridges["br0"]["a"], world.bridges["br0"]["c"]), (2, 1));
    let steps = run(&mut r, &db, &mut world);
    assert!(!steps.iter().any(|s| s.starts_with(['+', '-'])), "{steps:?}");
}

#[test]
fn who_asks_in_vain_does_not_take_what_others_ask_for() {
    let (mut db, mut world, mut r) = (Db::default(), World::default(), Reconciler::default());
    let br0 = db.bridge("br0");
    let asks = |db: &mut Db, name: &str, no: i64| {
        let (port, row) = db.port(br0, name, "");
        db.put("Interface", row, [("ofport_request", Datum::from(no))]);
        port
    };
    asks(&mut db, "b", 2);
    let c = asks(&mut db, "c", 1);
    run(&mut r, &db, &mut world);
    db.drop_port(br0, c);
    asks(&mut db, "a", 2);
    asks(&mut db, "d", 1);
    run(&mut r, &db, &mut world);
    let ports = &world.bridges["br0"];
    assert_eq!((ports["a"], ports["b"], ports["d"]), (3, 2, 1));
}

#[test]
fn an_interface_of_two_bridges_stays_where_it_is() {
    let (mut db, mut world, mut r) = (Db::default(), World::default(), Reconciler::default());
    let br1 = db.bridge("br1");
    db.port(br1, "a", "");
    run(&mut r, &db, &mut world);
    let br0 = db.bridge("br0");
    db.port(br0, "a", "");
    let steps = run(&mut r, &db, &mut world);
    assert!(!steps.iter().any(|s| s.contains("br1")), "{steps:?}");
    assert_eq!(r.failure("br0", "a"), Some("could not add network device a to ofproto (File exists)"));
    db.drop_bridge(br1);
    let steps = run(&mut r, &db, &mut world);
    assert!(steps.contains(&"+ br0 a 1".to_owned()), "{steps:?}");
}

/// Bridges and the ports in each, by number.
type Shape = BTreeMap<u8, BTreeMap<u8, (bool, Option<u8>)>>;

fn shape() -> impl Strategy<Value = Shape> {
    let ports = proptest::collection::btree_map(0u8..6, (any::<bool>(), proptest::option::of(1u8..5)), 0..5);
    proptest::collection::btree_map(0u8..3, ports, 0..3)
}

/// A database of this shape, with rows that are the same for the same things.
fn database(shape: &Shape) -> Db {
    let mut db = Db::default();
    for (bridge, ports) in shape {
        let row = db.bridge(&format!("br{bridge}"));
        db.put("Bridge", row, [("datapath_type", if *bridge == 2 { "system" } else { "netdev" }.into())]);
        for (port, (tagged, request)) in ports {
            let (port, interface) = db.port(row, &format!("p{bridge}{port}"), "");
            let tag = if *tagged { Datum::from(5) } else { Datum::empty_set() };
            db.put("Port", port, [("tag", tag)]);
            let request = request.map_or(Datum::empty_set(), |no| Datum::from(i64::from(no)));
            db.put("Interface", interface, [("ofport_request", request)]);
        }
    }
    db
}

proptest! {
    #[test]
    fn what_exists_becomes_what_is_desired(
        shapes in proptest::collection::vec((shape(), proptest::collection::btree_set(0u8..30, 0..3)), 1..6)
    ) {
        let (mut world, mut r) = (World::default(), Reconciler::default());
        for (shape, absent) in shapes {
            world.absent = absent.iter().map(|n| format!("p{:02}", n)).collect();
            let before = world.bridges.clone();
            let desired: Desired = database(&shape).read();
            let steps = r.apply(&desired, &mut world);
            for (name, bridge) in &desired.bridges {
                for interface in bridge.interfaces.keys() {
                    let there = world.bridges[name].contains_key(interface);
                    prop_assert_eq!(there, r.actual().bridges[name].interfaces.contains_key(interface));
                    prop_assert_eq!(!there, r.failure(name, interface).is_some());
                    prop_assert!(there || world.absent.contains(interface));
                }
                prop_assert_eq!(world.bridges[name].len(), r.actual().bridges[name].interfaces.len());
            }
            prop_assert_eq!(world.bridges.keys().collect::<Vec<_>>(), desired.bridges.keys().collect::<Vec<_>>());
            // Whoever was there and asks for nothing is moved only for somebody who asks for its number.
            for step in &steps {
                let Step::RemoveInterface { bridge, interface } = step else { continue };
                let Some(wanted) = desired.bridges.get(bridge).and_then(|b| b.interfaces.get(interface)) else { continue };
                let had = before[bridge][interface];
                let asked = desired.bridges[bridge].interfaces.values().any(|i| i.ofport_request == Some(had));
                prop_assert!(wanted.ofport_request.is_some_and(|no| no != had) || asked);
            }
            // An interface that finds the number it asks for taken gets it the next time.
            r.apply(&desired, &mut world);
            world.took();
            let touching = |s: &Step| matches!(s, Step::AddInterface { .. } | Step::SetPort { .. });
            let again = r.apply(&desired, &mut world);
            let idle = again.iter().all(|s| touching(s) || matches!(s, Step::Identify { .. }));
            prop_assert!(idle || !world.absent.is_empty(), "{again:?}");
            prop_assert!(!world.took().iter().any(|s| s.starts_with(['+', '-'])));
        }
    }
}
