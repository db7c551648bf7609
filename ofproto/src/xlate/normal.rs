//! The `NORMAL` action: a learning switch with VLANs.

use super::ctx::Ctx;
use super::trace::NodeKind;
use super::vlan::{self, Tags};
use crate::effects::Effect;
use crate::ids::{BundleId, OfPort, in_port};
use crate::port::{Bundle, BundleSettings, PortConfig};
use flow::{EthAddr, VLAN_CFI};

/// Destination addresses outside 01:80:c2:00:00:0x that a bridge keeps to itself: EDP and EAPS of Extreme;
/// ISL, PAgP/UDLD/CDP/DTP/VTP, PVST+ and STP UplinkFast of Cisco (ovs-vswitchd.conf.db(5), forward-bpdu).
const RESERVED: [u64; 15] = [
    0x00e0_2b00_0000,
    0x00e0_2b00_0004,
    0x00e0_2b00_0006,
    0x0100_0c00_0000,
    0x0100_0ccc_cccc,
    0x0100_0ccc_cccd,
    0x0100_0ccd_cdcd,
    0x0100_0ccc_ccc0,
    0x0100_0ccc_ccc1,
    0x0100_0ccc_ccc2,
    0x0100_0ccc_ccc3,
    0x0100_0ccc_ccc4,
    0x0100_0ccc_ccc5,
    0x0100_0ccc_ccc6,
    0x0100_0ccc_ccc7,
];

/// Whether a bridge does not forward to `dst` unless told to (IEEE 802.1Q, table 8-1, and [`RESERVED`]).
pub(super) fn is_reserved(dst: EthAddr) -> bool {
    let a = dst.to_u64();
    a & !0xf == 0x0180_c200_0000 || RESERVED.contains(&a)
}

impl Ctx<'_> {
    pub fn normal(&mut self) {
        self.wc.dl_src = EthAddr::BROADCAST;
        self.wc.dl_dst = EthAddr::BROADCAST;
        self.wc.0.vlans[0].tci |= 0x0fff | VLAN_CFI;
        let port = in_port(&self.flow);
        let switch = self.switch;
        let outside = Bundle { id: BundleId::OUTSIDE, settings: BundleSettings::trunk("OFPP_NONE", port) };
        let bundle = match switch.bundle_of(port) {
            Some(bundle) => bundle,
            // A packet of a controller comes from no port and goes to all.
            None if matches!(port, OfPort::NONE | OfPort::CONTROLLER) => &outside,
            None => {
                if switch.port(port).is_none() {
                    self.report(NodeKind::Error, || format!("received packet on unknown port {}", port.0));
                }
                self.warn("no input bundle, dropping");
                return;
            }
        };
        if vlan::is_vlan_type(self.flow.dl_type) && !self.flow.vlans[0].is_present() {
            self.warn("partial VLAN tag, dropping");
            return;
        }
        if switch.mirrors.is_output(bundle.id) {
            self.detail("input port is mirror output port, dropping");
            return;
        }
        let tags = Tags::of(&self.flow);
        if let Some(why) = vlan::refuse_input(bundle, &tags) {
            self.report(NodeKind::Error, || why);
            self.warn("disallowed VLAN VID for this input port, dropping");
            return;
        }
        let tags = vlan::on_input(bundle, &tags);
        if !switch.forward_bpdu && is_reserved(self.flow.dl_dst) {
            self.detail("packet has reserved destination MAC, dropping");
            return;
        }
        self.learn_source(bundle, &tags);
        let known = switch.macs.lock().lookup(self.flow.dl_dst, tags.vid()).map(|e| e.bundle);
        match known.and_then(|id| switch.bundles.get(&id)) {
            Some(to) if to.id == bundle.id => self.detail("learned port is input port, dropping"),
            Some(to) if switch.mirrors.is_output(to.id) => {
                self.detail("learned port is a mirror port, dropping");
            }
            Some(to) => {
                self.detail("forwarding to learned port");
                self.send_to_bundle(to, &tags);
            }
            None => self.flood_vlan(bundle, &tags),
        }
    }

    fn learn_source(&mut self, bundle: &Bundle, tags: &Tags) {
        let (mac, vlan) = (self.flow.dl_src, tags.vid());
        let macs = self.switch.macs.lock();
        if !macs.may_learn(mac, vlan) || bundle.id == BundleId::OUTSIDE {
            return;
        }
        let news = macs.lookup(mac, vlan).is_none_or(|e| e.bundle != bundle.id && e.expires_ms.is_some());
        drop(macs);
        if news && self.has_packet {
            let name = &bundle.settings.name;
            self.detail(&format!("learned that {mac} is on port {name} in VLAN {vlan}"));
        }
        self.effects.push(Effect::Mac {
            switch: self.switch.id,
            mac,
            vlan,
            bundle: bundle.id,
            grat_arp: false,
        });
    }

    /// Sends to every bundle of the VLAN but the one of arrival.
    fn flood_vlan(&mut self, from: &Bundle, tags: &Tags) {
        self.detail("no learned MAC for destination, flooding");
        let switch = self.switch;
        for to in switch.bundles.values() {
            let goes = to.id != from.id
                && self.is_floodable(to.id)
                && vlan::includes(to, tags)
                && !switch.mirrors.is_output(to.id);
            if goes {
                self.send_to_bundle(to, tags);
            }
        }
    }

    fn is_floodable(&self, bundle: BundleId) -> bool {
        let Some(b) = self.switch.bundles.get(&bundle) else { return false };
        let ports = b.settings.members.iter().filter_map(|m| self.switch.port(*m));
        ports.clone().count() > 0 && !ports.into_iter().any(|p| p.config.contains(PortConfig::NO_FLOOD))
    }

    /// Sends out of a bundle with the tags that its VLAN mode wants.
    pub fn send_to_bundle(&mut self, to: &Bundle, inside: &Tags) {
        // A bundle of several interfaces sends by its first one that is there: bonding comes with LACP.
        let member = to.settings.members.iter().copied().find(|m| self.switch.port(*m).is_some());
        let Some(member) = member else { return };
        let before = self.flow.vlans;
        vlan::on_output(to, inside).put(&mut self.flow, to.settings.priority_tags);
        if self.is_isolated_from(member) {
            self.warn("Flow is between protected ports, skipping output.");
        } else {
            self.send_to_port(member);
        }
        self.flow.vlans = before;
    }
}

impl Ctx<'_> {
    /// Whether input port and `to` are both protected (`Port.protected`).
    fn is_isolated_from(&self, to: crate::ids::OfPort) -> bool {
        let bundles = (self.switch.bundle_of(in_port(&self.flow)), self.switch.bundle_of(to));
        matches!(bundles, (Some(a), Some(b)) if is_protected(a, b))
    }
}

fn is_protected(a: &Bundle, b: &Bundle) -> bool {
    a.settings.protected && b.settings.protected
}
