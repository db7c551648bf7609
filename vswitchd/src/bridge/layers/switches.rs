//! Switches: making, removing, settings.

use super::{Domain, LayerBridge, Layers};
use crate::config::{BridgeConfig, PortConfig, SwitchSettings, TableConfig};
use ofproto::ids::OfPort;
use ofproto::mirror::Mirror;
use ofproto::port::BundleSettings;
use ofproto::switch::Switch;
use ofproto::table::{TBL_INTERNAL, TableSettings};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use uuid::Uuid;

impl Layers {
    pub(super) fn create_bridge(&mut self, config: &BridgeConfig) -> Result<(), String> {
        let kind = &config.datapath_type;
        if !self.domains.contains_key(kind) {
            let domain =
                Domain::start(kind, &self.env, &self.clock, &self.tls, &self.global, &self.keeper.underlay);
            self.domains.insert(kind.clone(), domain);
        }
        let domain = self.domains.get_mut(kind).ok_or("No such device")?;
        let switch = {
            let mut state = domain.fabric.write();
            let switch = state.add_switch(&config.name, 0);
            if let Ok(s) = state.switch_mut(switch) {
                s.set_created(self.clock.now_ms());
            }
            switch
        };
        domain.openflow.ofproto.add_switch(switch);
        let bridge = LayerBridge { datapath_type: kind.clone(), switch, ports: BTreeMap::new() };
        self.bridges.insert(config.name.clone(), bridge);
        Ok(())
    }

    pub(super) fn destroy_bridge(&mut self, name: &str) {
        let Some(bridge) = self.bridges.remove(name) else { return };
        let kind = bridge.datapath_type;
        if let Some(domain) = self.domains.get_mut(&kind) {
            domain.openflow.ofproto.remove_switch(bridge.switch);
            domain.fabric.write().remove_switch(bridge.switch);
            domain.fabric.changed();
        }
        if !self.bridges.values().any(|b| b.datapath_type == kind) {
            self.domains.remove(&kind);
        }
    }

    /// Changes a switch; `f` says whether forwarding may have changed.
    pub(super) fn change_switch(&self, bridge: &str, f: impl FnOnce(&mut Switch) -> bool) {
        let Some((b, domain)) = self.home(bridge) else { return };
        let changed = domain.fabric.write().switch_mut(b.switch).is_ok_and(f);
        if changed {
            domain.fabric.changed();
        }
    }

    pub(super) fn set_bundle(&self, bridge: &str, port: &PortConfig, members: Vec<OfPort>) {
        let vlan = &port.vlan;
        let settings = BundleSettings {
            name: port.name.clone(),
            members,
            vlan_mode: vlan.mode,
            vlan: vlan.vlan,
            trunks: vlan.trunks.clone(),
            cvlans: vlan.cvlans.clone(),
            qinq_ethtype: vlan.qinq_ethtype,
            priority_tags: vlan.priority_tags,
            protected: port.protected,
        };
        self.change_switch(bridge, |switch| switch.set_bundle(settings).1);
    }

    /// What each mirror of a bridge has copied: its row, packets and bytes.
    pub fn mirror_statistics(&self, bridge: &str) -> Vec<(Uuid, u64, u64)> {
        let Some((b, domain)) = self.home(bridge) else { return Vec::new() };
        let state = domain.fabric.read();
        let mirrors = state.switch(b.switch).into_iter().flat_map(|s| s.mirrors.iter());
        let of = |m: &Mirror| {
            (Uuid::from_u128(m.settings.key), m.stats.packets.load(Relaxed), m.stats.bytes.load(Relaxed))
        };
        mirrors.map(of).collect()
    }

    pub(super) fn configure_switch(&self, bridge: &str, settings: &SwitchSettings) {
        let default = TableConfig::default();
        self.change_switch(bridge, |switch| {
            let mut macs = switch.macs.lock();
            macs.configure(settings.mac_table_size as usize, u64::from(settings.mac_aging_s) * 1000);
            if macs.flood_vlans != settings.flood_vlans {
                macs.flood_vlans = settings.flood_vlans.clone();
                macs.flush();
            }
            drop(macs);
            switch.set_mirrors(&settings.mirrors);
            switch.forward_bpdu = settings.forward_bpdu;
            for (table, number) in switch.tables.iter_mut().zip(0..TBL_INTERNAL) {
                let wanted = table_settings(settings.tables.get(&number).unwrap_or(&default));
                if table.settings != wanted {
                    table.configure(wanted);
                }
            }
            true
        });
    }
}

fn table_settings(config: &TableConfig) -> TableSettings {
    TableSettings {
        name: config.name.clone(),
        flow_limit: config.flow_limit,
        evict: config.evict,
        groups: config.groups.clone(),
        prefixes: config.prefixes.clone(),
    }
}
