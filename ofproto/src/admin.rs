//! Changes to switches, ports and bundles, as the database or a controller asks for them.
//!
//! These change [`State`] only; telling controllers is the caller's part, who gets back what changed.

use crate::ids::{BundleId, OfPort, SwitchId};
use crate::mirror::MirrorSettings;
use crate::port::{Attachment, Bundle, BundleSettings, LinkFacts, Port, PortConfig, PortOwner, VirtualStats};
use crate::switch::{State, Switch};
use dpif::PortNo;
use dpif::tunnel::TunnelConfig;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long a port number that was in use stays unused if others are free.
const REUSE_AFTER_MS: u64 = 60 * 60 * 1000;
/// Ports of one switch: OpenFlow 1.0 has no more numbers.
pub const PORTS_MAX: usize = 0xff00 - 1;

/// A port to add.
#[derive(Clone, Debug)]
pub struct NewPort {
    pub name: String,
    /// `Interface.type`.
    pub kind: String,
    pub attachment: Attachment,
    /// `Interface.ofport_request`, or the number that the port had before.
    pub wanted: Option<OfPort>,
    pub is_local: bool,
    pub link: LinkFacts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AdminError {
    #[error("no such switch")]
    NoSwitch,
    #[error("no such port")]
    NoPort,
    #[error("File exists")]
    TunnelExists,
    #[error("a port of that name exists")]
    NameExists,
    #[error("all port numbers are in use")]
    NoFreeNumber,
}

/// Gives out port numbers: the next that was never used, then those not used for an hour, then the one
/// unused for longest, so that a controller's flows do not suddenly mean another port.
#[derive(Clone, Debug, Default)]
pub struct PortNumbers {
    last: u16,
    freed_ms: HashMap<u16, u64>,
}

impl PortNumbers {
    fn allocate(&mut self, used: impl Fn(u16) -> bool, now_ms: u64) -> Option<u16> {
        let max = OfPort::MAX.0;
        let mut oldest: Option<(u64, u16)> = None;
        for step in 1..max {
            let no = (u32::from(self.last) + u32::from(step) - 1) % (u32::from(max) - 1) + 1;
            let no = no as u16;
            if used(no) {
                continue;
            }
            match self.freed_ms.get(&no) {
                Some(freed) if now_ms < freed + REUSE_AFTER_MS => {
                    if oldest.is_none_or(|(t, _)| *freed < t) {
                        oldest = Some((*freed, no));
                    }
                }
                _ => {
                    self.last = no;
                    return Some(no);
                }
            }
        }
        oldest.map(|(_, no)| no)
    }

    fn free(&mut self, no: u16, now_ms: u64) {
        self.freed_ms.insert(no, now_ms);
    }
}

impl Switch {
    fn choose_number(&mut self, new: &NewPort, now_ms: u64) -> Option<OfPort> {
        if new.is_local {
            return Some(OfPort::LOCAL);
        }
        let free = |no: &OfPort| no.is_ordinary() && no.0 != 0 && !self.ports.contains_key(no);
        if let Some(no) = new.wanted.filter(free) {
            return Some(no);
        }
        let ports = &self.ports;
        self.numbers.allocate(|no| ports.contains_key(&OfPort(no)), now_ms).map(OfPort)
    }
}

impl State {
    /// Adds a switch without ports.
    pub fn add_switch(&mut self, name: &str, datapath_id: u64) -> SwitchId {
        self.last_switch += 1;
        let id = SwitchId(self.last_switch);
        self.switches.insert(id, Switch::new(id, name, datapath_id));
        id
    }

    /// Removes a switch with its ports; the datapath ports that it leaves behind are returned.
    pub fn remove_switch(&mut self, id: SwitchId) -> Vec<PortNo> {
        self.switches.remove(&id);
        self.patches.retain(|_, o| o.switch != id);
        let gone = self.owners.iter().filter(|(_, o)| o.switch == id).map(|(no, _)| *no).collect();
        self.owners.retain(|_, o| o.switch != id);
        self.tunnels.remove_if(|o| o.switch == id);
        gone
    }

    pub fn switch_mut(&mut self, id: SwitchId) -> Result<&mut Switch, AdminError> {
        self.switches.get_mut(&id).ok_or(AdminError::NoSwitch)
    }

    /// Adds a port and returns its number.
    pub fn add_port(&mut self, id: SwitchId, new: NewPort, now_ms: u64) -> Result<OfPort, AdminError> {
        let switch = self.switches.get_mut(&id).ok_or(AdminError::NoSwitch)?;
        if switch.port_by_name(&new.name).is_some() {
            return Err(AdminError::NameExists);
        }
        let no = switch.choose_number(&new, now_ms).ok_or(AdminError::NoFreeNumber)?;
        let owner = PortOwner { switch: id, port: no };
        match &new.attachment {
            Attachment::Tunnel { port, config } => {
                if !self.tunnels.insert(config, *port, owner) {
                    return Err(AdminError::TunnelExists);
                }
            }
            Attachment::Datapath(dp) => {
                self.owners.insert(*dp, owner);
            }
            Attachment::Patch { .. } => {
                self.patches.insert(new.name.clone(), owner);
            }
            Attachment::None => {}
        }
        let config = if new.link.admin_up { PortConfig::empty() } else { PortConfig::DOWN };
        let port = Port {
            no,
            name: new.name,
            kind: new.kind,
            attachment: new.attachment,
            link: new.link,
            config,
            bundle: None,
            created_ms: now_ms,
            virtual_stats: Arc::new(VirtualStats::default()),
            bfd: None,
            queue_dscp: BTreeMap::new(),
        };
        switch.names.ports.insert(port.name.clone(), no);
        switch.ports.insert(no, port);
        Ok(no)
    }

    /// Removes a port and returns it as it was.
    pub fn remove_port(&mut self, id: SwitchId, no: OfPort, now_ms: u64) -> Result<Port, AdminError> {
        let switch = self.switches.get_mut(&id).ok_or(AdminError::NoSwitch)?;
        let port = switch.ports.remove(&no).ok_or(AdminError::NoPort)?;
        switch.names.ports.remove(&port.name);
        if no.is_ordinary() {
            switch.numbers.free(no.0, now_ms);
        }
        match &port.attachment {
            Attachment::Tunnel { .. } => self.tunnels.remove(PortOwner { switch: id, port: no }),
            Attachment::Datapath(dp) => {
                self.owners.remove(dp);
            }
            Attachment::Patch { .. } => {
                self.patches.remove(&port.name);
            }
            Attachment::None => {}
        }
        if let Some(bundle) = port.bundle.and_then(|b| switch.bundles.get_mut(&b)) {
            bundle.settings.members.retain(|m| *m != no);
        }
        Ok(port)
    }

    /// Gives a tunnel other options, or another datapath port. An error leaves it without packets to receive.
    pub fn set_tunnel(
        &mut self,
        id: SwitchId,
        no: OfPort,
        dp_port: PortNo,
        config: Arc<TunnelConfig>,
    ) -> Result<bool, AdminError> {
        let port = self.switches.get_mut(&id).ok_or(AdminError::NoSwitch)?;
        let port = port.ports.get_mut(&no).ok_or(AdminError::NoPort)?;
        let new = Attachment::Tunnel { port: dp_port, config: config.clone() };
        if port.attachment == new {
            return Ok(false);
        }
        let owner = PortOwner { switch: id, port: no };
        port.attachment = new;
        self.tunnels.remove(owner);
        if self.tunnels.insert(&config, dp_port, owner) { Ok(true) } else { Err(AdminError::TunnelExists) }
    }

    /// The datapath port behind a port has another number now.
    pub fn move_port(&mut self, id: SwitchId, no: OfPort, new: PortNo) -> Result<(), AdminError> {
        let port = self.switches.get_mut(&id).ok_or(AdminError::NoSwitch)?;
        let port = port.ports.get_mut(&no).ok_or(AdminError::NoPort)?;
        if let Attachment::Datapath(old) = port.attachment {
            port.attachment = Attachment::Datapath(new);
            self.owners.remove(&old);
            self.owners.insert(new, PortOwner { switch: id, port: no });
        }
        Ok(())
    }

    /// Changes the other end of a patch port.
    pub fn set_patch_peer(&mut self, id: SwitchId, no: OfPort, peer: &str) -> Result<bool, AdminError> {
        let port = self.switch_mut(id)?.ports.get_mut(&no).ok_or(AdminError::NoPort)?;
        let new = Attachment::Patch { peer: peer.to_owned() };
        let changed = port.attachment != new;
        port.attachment = new;
        Ok(changed)
    }
}

impl Switch {
    /// Creates the bundle named in `settings`, or gives it new settings. Returns its id and whether
    /// anything changed. A bundle that changes forgets the addresses learned on it.
    pub fn set_bundle(&mut self, settings: BundleSettings) -> (BundleId, bool) {
        let known = self.names.bundles.get(&settings.name).copied();
        if let Some(b) = known.and_then(|id| self.bundles.get(&id)).filter(|b| b.settings == settings) {
            let id = b.id;
            self.join(id, &settings.members);
            return (id, false);
        }
        let id = known.unwrap_or_else(|| self.new_bundle_id());
        let members = settings.members.clone();
        self.names.bundles.insert(settings.name.clone(), id);
        let old = self.bundles.insert(id, Bundle { id, settings });
        if let Some(old) = old {
            self.macs.lock().flush_bundle(id);
            self.leave(id, &old.settings.members);
        }
        self.join(id, &members);
        self.mirrors.resolve(self.bundles.values());
        (id, true)
    }

    /// Makes these the switch's mirrors; returns whether anything changed.
    pub fn set_mirrors(&mut self, settings: &[MirrorSettings]) -> bool {
        let changed = self.mirrors.configure(settings);
        if changed {
            self.mirrors.resolve(self.bundles.values());
        }
        changed
    }

    /// Makes the ports of a bundle know that they belong to it.
    fn join(&mut self, id: BundleId, members: &[OfPort]) {
        for no in members {
            if let Some(port) = self.ports.get_mut(no) {
                port.bundle = Some(id);
            }
        }
    }

    /// Makes ports that belonged to a bundle forget it.
    fn leave(&mut self, id: BundleId, members: &[OfPort]) {
        for no in members {
            if let Some(port) = self.ports.get_mut(no).filter(|p| p.bundle == Some(id)) {
                port.bundle = None;
            }
        }
    }

    /// Removes a bundle by name; its ports stay, but NORMAL no longer knows them.
    pub fn remove_bundle(&mut self, name: &str) -> bool {
        let Some(id) = self.names.bundles.remove(name) else { return false };
        let Some(bundle) = self.bundles.remove(&id) else { return false };
        self.macs.lock().flush_bundle(id);
        self.leave(id, &bundle.settings.members);
        self.mirrors.resolve(self.bundles.values());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str, wanted: Option<u16>) -> NewPort {
        NewPort {
            name: name.into(),
            kind: "dummy".into(),
            attachment: Attachment::None,
            wanted: wanted.map(OfPort),
            is_local: name == "br0",
            link: LinkFacts::default(),
        }
    }

    #[test]
    fn port_numbers_are_requested_or_next_and_not_reused_soon() {
        let mut s = State::default();
        let id = s.add_switch("br0", 1);
        assert_eq!(s.add_port(id, new("br0", None), 0), Ok(OfPort::LOCAL));
        assert_eq!(s.add_port(id, new("a", None), 0), Ok(OfPort(1)));
        assert_eq!(s.add_port(id, new("b", Some(7)), 0), Ok(OfPort(7)));
        assert_eq!(s.add_port(id, new("c", Some(7)), 0), Ok(OfPort(2)));
        assert_eq!(s.add_port(id, new("c", None), 0), Err(AdminError::NameExists));
        s.remove_port(id, OfPort(2), 5).unwrap();
        assert_eq!(s.add_port(id, new("d", None), 6), Ok(OfPort(3)));
        assert_eq!(s.add_port(id, new("e", Some(2)), 6), Ok(OfPort(2)));
    }

    #[test]
    fn bundle_follows_its_ports() {
        let mut s = State::default();
        let id = s.add_switch("br0", 1);
        let a = s.add_port(id, new("a", None), 0).unwrap();
        let sw = s.switch_mut(id).unwrap();
        let (b, changed) = sw.set_bundle(BundleSettings::trunk("a", a));
        assert!(changed && sw.bundle_of(a).map(|x| x.id) == Some(b));
        assert_eq!(sw.set_bundle(BundleSettings::trunk("a", a)), (b, false));
        assert!(sw.remove_bundle("a") && sw.bundle_of(a).is_none());
    }
}
