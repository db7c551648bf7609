//! The state of all switches of one datapath: everything that a translation reads.
//!
//! [`State`] lies behind one lock (see [`crate::fabric`]). Handlers and the revalidator translate under
//! the reader's side; the main task changes tables and ports under the writer's. So a translation sees a
//! bundle of changes wholly or not at all. What translation itself changes (MAC tables, counters) has its
//! own small lock or is atomic.

use crate::bfd::Bfd;
use crate::groups::GroupTable;
use crate::ids::{BundleId, OfPort, SwitchId};
use crate::mac_table::{Learned, MacTable};
use crate::meters::{MeterNumbers, MeterTable};
use crate::mirror::Mirrors;
use crate::overrides::Overrides;
use crate::port::{Attachment, Bundle, Port, PortOwner};
use crate::refs::RuleRefs;
use crate::rule::Rule;
use crate::table::{TABLES, TBL_INTERNAL, Table};
use crate::tunnel::{Endpoints, TunnelPorts, Underlay};
use dpif::PortNo;
use flow::{EthAddr, Field, Match, TlvTable};
use hashbrown::HashMap;
use openflow::action::{Action, Controller, reason};
use openflow::msg::switch_config::FragHandling;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// One OpenFlow switch.
#[derive(Debug)]
pub struct Switch {
    pub id: SwitchId,
    pub name: String,
    pub datapath_id: u64,
    pub tables: Vec<Table>,
    pub internal: InternalRules,
    pub ports: BTreeMap<OfPort, Port>,
    pub bundles: BTreeMap<BundleId, Bundle>,
    pub macs: Mutex<MacTable>,
    pub mirrors: Mirrors,
    pub frag: FragHandling,
    /// A controller wants packets with an invalid TTL.
    pub invalid_ttl_to_controller: bool,
    /// `other_config:forward-bpdu`.
    pub forward_bpdu: bool,
    /// Rules of its own that come before those of table 0.
    pub overrides: Overrides,
    pub tlv: Arc<TlvTable>,
    /// Set when a MAC moved or was learned: megaflows that NORMAL made may be out of date.
    pub macs_changed: AtomicBool,
    pub numbers: crate::admin::PortNumbers,
    pub guardians: crate::learn::Guardians,
    pub groups: GroupTable,
    pub meters: MeterTable,
    pub refs: RuleRefs,
    /// Some controller is configured, connected or not.
    pub has_controllers: bool,
    /// Some controller wants the packets that no rule matches (one of OpenFlow 1.0 to 1.2).
    pub packet_in_on_miss: bool,
    /// Ports and bundles by name.
    pub(crate) names: Names,
    next_bundle: u32,
    next_place: u32,
}

/// Where ports and bundles are found by their names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub ports: HashMap<String, OfPort>,
    pub bundles: HashMap<String, BundleId>,
}

/// The rules that the switch makes for itself in table 254: what happens where no rule of a controller
/// decides. They are rules so that they count, and show in `bridge/dump-flows`.
#[derive(Debug)]
pub struct InternalRules {
    /// A miss that controllers hear of.
    pub miss: Arc<Rule>,
    /// A miss that nobody hears of.
    pub no_packet_in: Arc<Rule>,
    /// Fragments, where they are to be dropped.
    pub drop_frags: Arc<Rule>,
}

impl InternalRules {
    fn install(table: &mut Table, created_ms: u64) -> Self {
        let mut place = 0;
        let mut add = |matching: Match, priority, actions: Vec<Action>| {
            place += 1;
            let rule =
                Rule { created_ms, place, ..Rule::internal(TBL_INTERNAL, &matching, priority, actions) };
            let rule = Arc::new(rule);
            table.insert(&matching.flow, &matching.mask, rule.clone());
            rule
        };
        let reg0 = |n: u32| Match::catchall().with(Field::Reg0, n);
        let to = Controller { max_len: u16::MAX, reason: reason::IMPLICIT_MISS, ..Controller::default() };
        // Packets that recirculated may not end up here by a controller's resubmit.
        add(Match::catchall().with(Field::RecircId, 0u32), 2, Vec::new());
        InternalRules {
            miss: add(reg0(1), 0, vec![Action::Controller(Box::new(to))]),
            no_packet_in: add(reg0(2), 0, Vec::new()),
            drop_frags: add(reg0(3), 0, Vec::new()),
        }
    }
}

impl Switch {
    pub fn new(id: SwitchId, name: &str, datapath_id: u64) -> Self {
        let mut tables: Vec<Table> = (0..TABLES).map(|_| Table::default()).collect();
        let internal = InternalRules::install(&mut tables[usize::from(TBL_INTERNAL)], 0);
        Switch {
            id,
            name: name.to_owned(),
            datapath_id,
            tables,
            internal,
            ports: BTreeMap::new(),
            bundles: BTreeMap::new(),
            macs: Mutex::default(),
            mirrors: Mirrors::default(),
            frag: FragHandling::Normal,
            invalid_ttl_to_controller: false,
            forward_bpdu: false,
            overrides: Overrides::default(),
            tlv: Arc::default(),
            macs_changed: AtomicBool::new(false),
            guardians: crate::learn::Guardians::default(),
            groups: GroupTable::default(),
            meters: MeterTable::default(),
            refs: RuleRefs::default(),
            has_controllers: false,
            numbers: crate::admin::PortNumbers::default(),
            packet_in_on_miss: false,
            names: Names::default(),
            next_bundle: 1,
            // Places before are of the rules that the switch makes for itself.
            next_place: 16,
        }
    }

    /// The switch began at this time: so did its own rules.
    pub fn set_created(&mut self, now_ms: u64) {
        if let Some(table) = self.tables.get_mut(usize::from(TBL_INTERNAL)) {
            self.internal = InternalRules::install(table, now_ms);
        }
    }

    pub fn port(&self, no: OfPort) -> Option<&Port> {
        self.ports.get(&no)
    }

    pub fn port_by_name(&self, name: &str) -> Option<&Port> {
        self.ports.get(self.names.ports.get(name)?)
    }

    pub fn bundle_of(&self, port: OfPort) -> Option<&Bundle> {
        self.bundles.get(&self.ports.get(&port)?.bundle?)
    }

    /// Learns a source address, if there is anything to learn.
    pub fn learn_mac(&self, mac: EthAddr, vlan: u16, bundle: BundleId, now_ms: u64, grat_arp: bool) {
        let mut macs = self.macs.lock();
        if macs.may_learn(mac, vlan) && macs.learn(mac, vlan, bundle, now_ms, grat_arp) != Learned::Refreshed
        {
            self.macs_changed.store(true, Relaxed);
        }
    }

    /// [`Rule::place`] of the rule that will be put in next.
    pub fn next_place(&self) -> u32 {
        self.next_place
    }

    /// A place for a new rule.
    pub fn new_place(&mut self) -> u32 {
        let place = self.next_place;
        self.next_place = place.wrapping_add(1);
        place
    }

    /// A number for a new bundle.
    pub fn new_bundle_id(&mut self) -> BundleId {
        self.next_bundle += 1;
        BundleId(self.next_bundle)
    }

    /// Number of rules in all tables that controllers see.
    pub fn rule_count(&self) -> usize {
        self.tables.iter().map(Table::len).sum()
    }
}

/// All switches of one datapath.
#[derive(Debug, Default)]
pub struct State {
    pub switches: BTreeMap<SwitchId, Switch>,
    /// Which switch port each datapath port is.
    pub owners: HashMap<PortNo, PortOwner>,
    /// Which tunnel port a packet from a tunnel belongs to.
    pub tunnels: TunnelPorts,
    /// The network under the tunnels.
    pub underlay: Arc<Underlay>,
    /// Where outer packets end.
    pub endpoints: Endpoints,
    /// Patch ports by name.
    pub patches: HashMap<String, PortOwner>,
    pub last_switch: u32,
    /// Timeout policies of connection tracking zones, by their number in the datapath.
    pub ct_policies: BTreeMap<u16, u32>,
    pub meter_numbers: MeterNumbers,
}

impl State {
    pub fn switch(&self, id: SwitchId) -> Option<&Switch> {
        self.switches.get(&id)
    }

    pub fn switch_by_name(&self, name: &str) -> Option<&Switch> {
        self.switches.values().find(|s| s.name == name)
    }

    /// The port of a BFD session.
    pub fn find_session(&self, bfd: &Arc<Bfd>) -> Option<(SwitchId, OfPort)> {
        let is_it = |p: &&Port| p.bfd.as_ref().is_some_and(|b| Arc::ptr_eq(b, bfd));
        self.switches.values().find_map(|s| Some((s.id, s.ports.values().find(is_it)?.no)))
    }

    /// The switch port that a packet with this datapath key came in by.
    pub fn owner_of(&self, key: &flow::Flow) -> Option<PortOwner> {
        if key.tunnel.is_set() {
            return self.tunnels.receive(key);
        }
        self.owners.get(&PortNo(key.in_port)).copied()
    }

    /// The other end of a patch port, if both ends name each other.
    pub fn patch_peer(&self, port: &Port) -> Option<(&Switch, &Port)> {
        let Attachment::Patch { peer } = &port.attachment else { return None };
        let owner = self.patches.get(peer)?;
        let switch = self.switches.get(&owner.switch)?;
        let other = switch.ports.get(&owner.port)?;
        match &other.attachment {
            Attachment::Patch { peer } if *peer == port.name => Some((switch, other)),
            _ => None,
        }
    }
}
