//! A builder of snapshots, and what holds for every reading.

use super::*;
use ofproto::port::VlanMode;
use ovsdb_shim::{Datum, VSWITCHD};
use proptest::prelude::*;
use std::sync::Arc;

/// A database in the making.
pub struct Db {
    pub snapshot: Snapshot,
    last: u128,
}

impl Default for Db {
    fn default() -> Self {
        let mut db = Db { snapshot: Snapshot::default(), last: 0 };
        db.put("Open_vSwitch", ROOT, []);
        db
    }
}

const ROOT: Uuid = Uuid::from_u128(u128::MAX);

impl Db {
    /// Changes columns of a row, which is made if it is not there.
    pub fn put<'a>(
        &mut self,
        table: &str,
        uuid: Uuid,
        columns: impl IntoIterator<Item = (&'a str, Datum)>,
    ) -> Uuid {
        let old = self.snapshot.row(table, uuid).cloned();
        let kept = old.iter().flat_map(|row| row.columns()).map(|(n, d)| (n.to_owned(), d.clone()));
        let mut all: BTreeMap<String, Datum> = kept.collect();
        all.extend(columns.into_iter().map(|(name, datum)| (name.to_owned(), datum)));
        let row = Row::new(uuid, all.iter().map(|(n, d)| (n.as_str(), d.clone())));
        self.snapshot.insert(table, Arc::new(row));
        uuid
    }

    pub fn add<'a>(&mut self, table: &str, columns: impl IntoIterator<Item = (&'a str, Datum)>) -> Uuid {
        self.last += 1;
        self.put(table, Uuid::from_u128(self.last), columns)
    }

    fn refer(&mut self, table: &str, uuid: Uuid, column: &str, to: Uuid) {
        let row = self.snapshot.row(table, uuid).cloned();
        let all: Vec<Uuid> = row.iter().flat_map(|r| r.uuids(column)).chain([to]).collect();
        self.put(table, uuid, [(column, Datum::set(all))]);
    }

    /// A bridge with its local port, as `ovs-vsctl add-br` makes it.
    pub fn bridge(&mut self, name: &str) -> Uuid {
        let bridge = self.add("Bridge", [("name", name.into()), ("datapath_type", "netdev".into())]);
        self.refer("Open_vSwitch", ROOT, "bridges", bridge);
        self.port(bridge, name, "internal");
        bridge
    }

    /// A port of one interface: their rows.
    pub fn port(&mut self, bridge: Uuid, name: &str, kind: &str) -> (Uuid, Uuid) {
        let interface = self.add("Interface", [("name", name.into()), ("type", kind.into())]);
        let port = self.add("Port", [("name", name.into()), ("interfaces", Datum::set([interface]))]);
        self.refer("Bridge", bridge, "ports", port);
        (port, interface)
    }

    pub fn drop_port(&mut self, bridge: Uuid, port: Uuid) {
        let row = self.snapshot.row("Bridge", bridge).cloned();
        let rest: Vec<Uuid> = row.iter().flat_map(|r| r.uuids("ports")).filter(|p| *p != port).collect();
        self.put("Bridge", bridge, [("ports", Datum::set(rest))]);
    }

    pub fn drop_bridge(&mut self, bridge: Uuid) {
        let row = self.snapshot.only("Open_vSwitch").cloned();
        let all = row.iter().flat_map(|r| r.uuids("bridges"));
        let rest: Vec<Uuid> = all.filter(|b| *b != bridge).collect();
        self.put("Open_vSwitch", ROOT, [("bridges", Datum::set(rest))]);
    }

    pub fn read(&self) -> Desired {
        read(&self.snapshot, &around())
    }
}

pub fn around() -> Surroundings {
    Surroundings {
        rundir: "/run/ovs".into(),
        pidfile: None,
        datapath_types: vec!["netdev".into(), "system".into()],
        self_confinement: true,
        flows_restored: false,
    }
}

fn texts(desired: &Desired) -> Vec<&str> {
    desired.problems.iter().map(|p| p.text.as_str()).collect()
}

#[test]
fn bridge_as_vsctl_makes_it() {
    let mut db = Db::default();
    let br0 = db.bridge("br0");
    let (port, interface) = db.port(br0, "eth0", "");
    db.put("Port", port, [("tag", Datum::from(7))]);
    db.put("Interface", interface, [("ofport", Datum::from(3)), ("ofport_request", Datum::from(70_000))]);
    let desired = db.read();
    assert_eq!(texts(&desired), [""; 0]);
    let bridge = &desired.bridges["br0"];
    let eth0 = &bridge.interfaces["eth0"];
    assert_eq!((eth0.kind.as_str(), eth0.ofport_request, eth0.ofport_wanted()), ("system", None, Some(3)));
    assert_eq!(bridge.interfaces["br0"].kind, "internal");
    assert_eq!((bridge.ports["eth0"].vlan.mode, bridge.ports["eth0"].vlan.vlan), (VlanMode::Access, 7));
    assert_eq!(bridge.remotes.mgmt, PathBuf::from("/run/ovs/br0.mgmt"));
}

#[test]
fn bad_rows_leave_their_neighbours_alone() {
    let mut db = Db::default();
    let br0 = db.bridge("br0");
    db.bridge("../etc");
    db.bridge("br0");
    let odd = db.bridge("odd");
    db.put("Bridge", odd, [("datapath_type", "wire".into())]);
    let (_, reserved) = db.port(br0, "ovs-netdev", "internal");
    let (first, _) = db.port(br0, "p", "dummy");
    let again = db.add("Interface", [("name", "p".into())]);
    db.put(
        "Port",
        first,
        [(
            "interfaces",
            Datum::set(
                db.snapshot
                    .row("Port", first)
                    .unwrap()
                    .uuids("interfaces")
                    .chain([again])
                    .collect::<Vec<_>>(),
            ),
        )],
    );
    let desired = db.read();
    assert_eq!(desired.bridges.keys().collect::<Vec<_>>(), ["br0"]);
    assert_eq!(
        texts(&desired),
        [
            "could not create interface ovs-netdev, name is reserved",
            "bridge br0: interface p is specified twice, ignoring port p",
            "ignoring bridge with invalid name \"../etc\"",
            "bridge br0 specified twice",
            "could not create datapath odd of unknown type wire",
            "failed to create bridge odd: Address family not supported by protocol",
        ]
    );
    assert_eq!(desired.refused.keys().copied().collect::<Vec<_>>(), [reserved, again]);
    let bridge = &desired.bridges["br0"];
    assert_eq!(bridge.interfaces.keys().collect::<Vec<_>>(), ["br0", "p"]);
}

#[test]
fn vlan_modes_and_their_defaults() {
    type Columns = Vec<(&'static str, Datum)>;
    let vlan = |columns: Columns| {
        let mut db = Db::default();
        let br0 = db.bridge("br0");
        let (port, _) = db.port(br0, "p", "");
        db.put("Port", port, columns);
        let desired = db.read();
        let config = desired.bridges["br0"].ports["p"].vlan.clone();
        (config, texts(&desired).join("\n"))
    };
    let (c, log) = vlan(vec![("trunks", Datum::set([5i64, 9, 5000]))]);
    assert_eq!((c.mode, c.vlan, log.as_str()), (VlanMode::Trunk, 0, ""));
    assert_eq!(c.trunks.unwrap().iter().collect::<Vec<_>>(), [5, 9]);
    let (c, log) = vlan(vec![("tag", Datum::from(4)), ("trunks", Datum::set([5i64]))]);
    assert_eq!((c.mode, c.vlan, c.trunks), (VlanMode::Access, 4, None));
    assert_eq!(log, "port p: ignoring trunks in favor of implicit vlan");
    let native = |columns: Columns| vlan([columns, vec![("vlan_mode", "native-tagged".into())]].concat()).0;
    let c = native(vec![("tag", Datum::from(4)), ("trunks", Datum::set([0i64, 5]))]);
    assert_eq!(c.trunks.unwrap().iter().collect::<Vec<_>>(), [4, 5]);
    let c = native(vec![("tag", Datum::from(4))]);
    assert_eq!(c.trunks.unwrap().iter().count(), 4095, "all but VLAN 0");
    assert_eq!(native(vec![]).trunks, None);
    let (c, _) = vlan(vec![
        ("vlan_mode", "dot1q-tunnel".into()),
        ("tag", Datum::from(4)),
        ("cvlans", Datum::set([1i64])),
        ("other_config", Datum::map([("qinq-ethtype", "802.1q"), ("priority-tags", "true")])),
    ]);
    assert_eq!((c.mode, c.vlan, c.qinq_ethtype), (VlanMode::Dot1qTunnel, 4, 0x8100));
    assert_eq!(c.priority_tags, ofproto::port::PriorityTags::IfNonzero);
}

#[test]
fn controllers_bring_a_local_port_and_stay_in_the_run_directory() {
    let mut db = Db::default();
    let br0 = db.bridge("br0");
    let targets = [
        "tcp:10.0.0.1",
        "punix:/etc/passwd",
        "unix:/run//ovs/x",
        "ptcp:",
        "nonsense",
        "punix:/run/ovs/br0.c",
    ];
    let rows: Vec<Uuid> = targets.iter().map(|t| db.add("Controller", [("target", (*t).into())])).collect();
    db.put("Bridge", br0, [("controller", Datum::set(rows)), ("ports", Datum::empty_set())]);
    let desired = db.read();
    let bridge = &desired.bridges["br0"];
    assert_eq!((&bridge.interfaces["br0"].row, bridge.interfaces["br0"].kind.as_str()), (&None, "internal"));
    let used: Vec<_> = bridge.remotes.controllers.iter().map(|c| (c.name.as_str(), c.kind)).collect();
    use ControllerKind::{Primary, Service};
    assert_eq!(
        used,
        [
            ("tcp:10.0.0.1", Primary),
            ("unix:/run//ovs/x", Primary),
            ("ptcp:", Service),
            ("punix:/run/ovs/br0.c", Service)
        ]
    );
    let log = texts(&desired);
    assert_eq!(log[0], "bridge br0: no port named br0, synthesizing one");
    assert!(log[1].starts_with("bridge br0: Not adding Unix domain socket controller \"punix:/etc/passwd\""));
    assert_eq!(log[2], "bridge br0: nonsense: unknown connection method");
}

#[test]
fn in_band_control_is_for_controllers_and_managers_that_ask_for_it() {
    let mut db = Db::default();
    let br0 = db.bridge("br0");
    let mut rows = |table: &'static str, all: &[(&str, &str)]| -> Vec<Uuid> {
        let row = |(target, mode): &(&str, &str)| {
            let mode = if mode.is_empty() { Datum::empty_set() } else { (*mode).into() };
            db.add(table, [("target", (*target).into()), ("connection_mode", mode)])
        };
        all.iter().map(row).collect()
    };
    let controllers = rows("Controller", &[("tcp:10.0.0.1", ""), ("tcp:10.0.0.2", "out-of-band")]);
    let managers = [
        ("tcp:10.0.0.3", "in-band"),
        ("ssl:10.0.0.4:7", ""),
        ("tcp:10.0.0.5", "out-of-band"),
        ("tcp:127.0.0.1", ""),
        ("ptcp:6640", ""),
    ];
    let managers = rows("Manager", &managers);
    db.put("Bridge", br0, [("controller", Datum::set(controllers))]);
    db.put("Open_vSwitch", ROOT, [("manager_options", Datum::set(managers))]);
    let remotes = |db: &Db| {
        let r = db.read().bridges["br0"].remotes.clone();
        let managers: Vec<_> = r.in_band_managers.iter().map(ToString::to_string).collect();
        (r.controllers.iter().map(|c| c.band).collect::<Vec<_>>(), managers, r.in_band_queue)
    };
    use Band::{InBand, OutOfBand};
    let both = vec!["10.0.0.3:6640".to_owned(), "10.0.0.4:7".to_owned()];
    assert_eq!(remotes(&db), (vec![InBand, OutOfBand], both, None));
    let other = Datum::map([("disable-in-band", "true"), ("in-band-queue", "7")]);
    db.put("Bridge", br0, [("other_config", other)]);
    assert_eq!(remotes(&db), (vec![OutOfBand, OutOfBand], Vec::new(), Some(7)));
}

#[test]
fn controllers_wait_while_flows_are_restored() {
    let mut db = Db::default();
    let br0 = db.bridge("br0");
    let controller = db.add("Controller", [("target", "tcp:10.0.0.1".into())]);
    db.put("Bridge", br0, [("controller", Datum::set([controller]))]);
    db.put("Open_vSwitch", ROOT, [("other_config", Datum::map([("flow-restore-wait", "true")]))]);
    let controllers = |around: &Surroundings| {
        let desired = read(&db.snapshot, around);
        (desired.global.flow_restore_wait, desired.bridges["br0"].remotes.controllers.len())
    };
    assert_eq!(controllers(&around()), (true, 0));
    assert_eq!(controllers(&Surroundings { flows_restored: true, ..around() }), (false, 1));
}

#[test]
fn flow_tables_and_their_problems() {
    let mut db = Db::default();
    let br0 = db.bridge("br0");
    let groups = Datum::set(["NXM_OF_IN_PORT[]", "reg0[3", "reg1[]x"]);
    let table = db.add(
        "Flow_Table",
        [
            ("flow_limit", Datum::from(5)),
            ("overflow_policy", "evict".into()),
            ("groups", groups),
            ("prefixes", Datum::set(["eth_src", "ip_dst", "nope"])),
        ],
    );
    db.put("Bridge", br0, [("flow_tables", Datum::map([(3i64, table), (255, table)]))]);
    let desired = db.read();
    let tables = &desired.bridges["br0"].settings.tables;
    assert_eq!(tables.keys().collect::<Vec<_>>(), [&3]);
    assert_eq!((tables[&3].flow_limit, tables[&3].evict, tables[&3].groups.len()), (5, true, 1));
    assert_eq!(tables[&3].prefixes, [classifier::PrefixField::IpDst]);
    let log = texts(&desired);
    assert_eq!(log.len(), 5);
    assert!(log.contains(&"bridge br0: 'prefixes' with unknown field: nope"), "{log:?}");
    assert!(log.contains(&"bridge br0: 'prefixes' with incompatible field: eth_src"), "{log:?}");
    assert!(
        log.contains(&"bridge br0 table 3: 'groups' element 'reg1[]x' contains trailing garbage"),
        "{log:?}"
    );
}

/// Words that mean something somewhere, and some that do not.
const WORDS: [&str; 24] = [
    "",
    "br0",
    "p1",
    "netdev",
    "system",
    "internal",
    "patch",
    "none",
    "tcp:1.2.3.4:6653",
    "punix:/x",
    "access",
    "native-untagged",
    "dot1q-tunnel",
    "evict",
    "NXM_OF_IN_PORT[]",
    "ip_dst",
    "OpenFlow13",
    "secure",
    "ü/\\\0",
    "[",
    "0x1",
    "aa:bb:cc:dd:ee:ff",
    "ovs-netdev",
    "true",
];
const KEYS: [&str; 10] = [
    "hwaddr",
    "datapath-id",
    "peer",
    "mac-aging-time",
    "mac-table-size",
    "flow-limit",
    "vlan-limit",
    "dscp",
    "controller-queue-size",
    "qinq-ethtype",
];

fn atom() -> impl Strategy<Value = ovsdb_shim::Atom> {
    use ovsdb_shim::Atom;
    prop_oneof![
        (0u128..12).prop_map(|u| Atom::from(Uuid::from_u128(u))),
        (0u128..12).prop_map(|u| Atom::from(Uuid::from_u128(u))),
        prop_oneof![any::<i64>(), -2i64..5000].prop_map(Atom::from),
        proptest::sample::select(&WORDS[..]).prop_map(Atom::from),
        any::<bool>().prop_map(Atom::from),
        ".{0,6}".prop_map(|s| Atom::from(s.as_str())),
    ]
}

fn datum() -> impl Strategy<Value = Datum> {
    let key = prop_oneof![proptest::sample::select(&KEYS[..]).prop_map(ovsdb_shim::Atom::from), atom()];
    prop_oneof![
        3 => proptest::collection::vec(atom(), 0..5).prop_map(Datum::set),
        1 => proptest::collection::vec((key, atom()), 0..5).prop_map(Datum::map),
    ]
}

/// Rows whose columns hold anything: references to rows of any table among them.
fn snapshot() -> impl Strategy<Value = Snapshot> {
    let tables: Vec<_> = VSWITCHD.iter().map(|t| (t.name, [t.config, t.quiet].concat())).collect();
    let row = (proptest::sample::select(tables), 0u128..12, proptest::collection::vec(datum(), 20));
    proptest::collection::vec(row, 0..40).prop_map(|rows| {
        let mut snapshot = Snapshot::default();
        for ((table, columns), uuid, data) in rows {
            let uuid = if table == "Open_vSwitch" { Uuid::nil() } else { Uuid::from_u128(uuid) };
            snapshot.insert(table, Arc::new(Row::new(uuid, columns.iter().copied().zip(data))));
        }
        snapshot
    })
}

proptest! {
    #[test]
    fn every_snapshot_has_a_reading(snapshot in snapshot()) {
        let desired = read(&snapshot, &around());
        for bridge in desired.bridges.values() {
            let members: Vec<&String> = bridge.ports.values().flat_map(|p| &p.interfaces).collect();
            let distinct: BTreeSet<&String> = members.iter().copied().collect();
            prop_assert_eq!(members.len(), distinct.len(), "an interface is in one port only");
            prop_assert_eq!(distinct, bridge.interfaces.keys().collect::<BTreeSet<_>>());
            prop_assert!(!bridge.name.contains('/'));
        }
        prop_assert_eq!(read(&snapshot, &around()), desired, "and always the same");
    }
}
