//! Copies for mirrors: of a packet as it came in, and as it goes out.

use super::ctx::Ctx;
use super::normal::is_reserved;
use super::vlan::{self, Tags};
use crate::effects::Effect;
use crate::ids::{BundleId, in_port};
use crate::mirror::{MirrorOutput, MirrorSet};
use crate::port::Bundle;
use flow::{EthAddr, VLAN_CFI};

impl Ctx<'_> {
    /// Copies the packet as it came in.
    pub fn mirror_ingress(&mut self) {
        let switch = self.switch;
        if switch.mirrors.is_empty() || !self.is_outermost() {
            return;
        }
        if let Some(bundle) = switch.bundle_of(in_port(&self.flow)) {
            self.mirror(bundle, switch.mirrors.of(bundle.id).source_of);
        }
    }

    /// Copies the packet as it just went out through `bundle`.
    pub fn mirror_egress(&mut self, bundle: Option<BundleId>) {
        let switch = self.switch;
        if switch.mirrors.is_empty() {
            return;
        }
        if let Some(bundle) = bundle.and_then(|id| switch.bundles.get(&id)) {
            self.mirror(bundle, switch.mirrors.of(bundle.id).destination_of);
        }
    }

    /// A packet that came in where only mirrors send goes nowhere, though it counts for the first rule.
    pub fn refuse_mirror_output(&mut self) -> bool {
        let bundle = self.switch.bundle_of(in_port(&self.flow));
        let Some(bundle) = bundle.filter(|b| self.switch.mirrors.is_output(b.id)) else { return false };
        self.count_first_rule();
        let name = &bundle.settings.name;
        let text =
            format!("dropping packet received on port {name}, which is reserved exclusively for mirroring");
        self.below(|cx| cx.report(super::trace::NodeKind::Error, || text));
        true
    }

    fn mirror(&mut self, bundle: &Bundle, candidates: MirrorSet) {
        let switch = self.switch;
        let packet = Tags::of(&self.flow);
        if vlan::refuse_input(bundle, &packet).is_some() {
            return;
        }
        let tags = vlan::on_input(bundle, &packet);
        for (index, mirror) in switch.mirrors.iter().enumerate() {
            if candidates & !self.mirrors & (1 << index) == 0 {
                continue;
            }
            if let Some(vlans) = &mirror.settings.vlans {
                self.wc.0.vlans[0].tci |= 0x0fff | VLAN_CFI;
                if !vlans.contains(tags.vid()) {
                    continue;
                }
            }
            // Before the copy goes out, which may be of interest to others but not to these.
            self.mirrors |= mirror.same_output;
            let before = std::mem::replace(&mut self.trunc, mirror.settings.snaplen);
            match &mirror.settings.output {
                MirrorOutput::Bundle(_) => {
                    if let Some(to) = mirror.output.and_then(|id| switch.bundles.get(&id)) {
                        self.send_to_bundle(to, &tags);
                    }
                }
                MirrorOutput::Vlan(vid) => self.mirror_to_vlan(*vid, tags),
            }
            self.trunc = before;
            self.effects.push(Effect::Mirror(mirror.stats.clone()));
        }
    }

    /// Sends a copy to every bundle of a VLAN, unless it is there already.
    fn mirror_to_vlan(&mut self, vid: u16, mut tags: Tags) {
        self.wc.dl_dst = EthAddr::BROADCAST;
        if tags.vid() == vid || is_reserved(self.flow.dl_dst) {
            return;
        }
        tags.0[0].vid = vid;
        let switch = self.switch;
        for to in switch.bundles.values() {
            if vlan::includes(to, &tags) && !switch.mirrors.is_output(to.id) {
                self.send_to_bundle(to, &tags);
            }
        }
    }
}
