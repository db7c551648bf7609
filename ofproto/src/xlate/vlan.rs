//! VLAN tags between a packet and the bundle that it enters or leaves by (`Port.vlan_mode`,
//! ovs-vswitchd.conf.db(5)).

use crate::port::{Bundle, BundleSettings, PriorityTags, VlanMode};
use flow::{Flow, VLAN_CFI, VLANS_MAX, Vlan};

/// Ethernet type of a customer tag (IEEE 802.1Q).
pub const ETH_TYPE_VLAN: u16 = 0x8100;
const ETH_TYPE_VLAN_8021AD: u16 = 0x88a8;
const PCP_MASK: u16 = 0xe000;

/// Whether an Ethernet type announces a VLAN tag.
pub fn is_vlan_type(ethertype: u16) -> bool {
    matches!(ethertype, ETH_TYPE_VLAN | ETH_TYPE_VLAN_8021AD)
}

/// A tag without its CFI bit; all zero if there is none. `pcp` keeps its place in the TCI.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tag {
    pub tpid: u16,
    pub vid: u16,
    pub pcp: u16,
}

/// The tags of a packet inside the switch: a packet from an access port has its VLAN here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tags(pub [Tag; VLANS_MAX]);

impl Tags {
    pub fn of(flow: &Flow) -> Self {
        let mut tags = Tags::default();
        for (tag, v) in tags.0.iter_mut().zip(&flow.vlans) {
            if !is_vlan_type(v.tpid) || !v.is_present() {
                break;
            }
            *tag = Tag { tpid: v.tpid, vid: v.vid(), pcp: v.tci & PCP_MASK };
        }
        tags
    }

    /// The outer VLAN.
    pub fn vid(&self) -> u16 {
        self.0[0].vid
    }

    /// Writes the tags into `flow`; a priority tag (VLAN 0) as `priority_tags` says.
    pub fn put(&self, flow: &mut Flow, priority_tags: PriorityTags) {
        flow.vlans = [Vlan::default(); VLANS_MAX];
        for (i, tag) in self.0.iter().enumerate() {
            let wanted = tag.vid != 0
                || i == 0
                    && match priority_tags {
                        PriorityTags::Never => false,
                        PriorityTags::IfNonzero => tag.pcp != 0,
                        PriorityTags::Always => true,
                    };
            if !wanted {
                break;
            }
            let tpid = if tag.tpid == 0 { ETH_TYPE_VLAN } else { tag.tpid };
            flow.vlans[i] = Vlan { tpid, tci: tag.vid | tag.pcp | VLAN_CFI };
        }
    }

    fn push(&mut self, tag: Tag) {
        self.0 = [tag, self.0[0]];
    }

    fn pop(&mut self) {
        self.0 = [self.0[1], Tag::default()];
    }
}

/// Why a packet with these tags may not come in, in the words of `ofproto/trace`.
pub fn refuse_input(bundle: &Bundle, tags: &Tags) -> Option<String> {
    let s: &BundleSettings = &bundle.settings;
    let vid = tags.vid();
    match s.vlan_mode {
        VlanMode::Access => (vid != 0).then(|| {
            format!(
                "dropping VLAN {vid} tagged packet received on port {} configured as VLAN {} access port",
                s.name, s.vlan
            )
        }),
        VlanMode::NativeTagged | VlanMode::NativeUntagged if vid == 0 => None,
        VlanMode::Trunk | VlanMode::NativeTagged | VlanMode::NativeUntagged => (!bundle.carries_vlan(vid))
            .then(|| {
                format!(
                    "dropping VLAN {vid} packet received on port {} not configured for trunking VLAN {vid}",
                    s.name
                )
            }),
        VlanMode::Dot1qTunnel => (!carries_cvlan(s, vid)).then(|| {
            format!(
                "dropping VLAN {vid} packet received on dot1q-tunnel port {} that excludes this VLAN",
                s.name
            )
        }),
    }
}

fn carries_cvlan(s: &BundleSettings, vid: u16) -> bool {
    s.cvlans.as_ref().is_none_or(|c| c.contains(vid))
}

/// The packet's tags inside the switch.
pub fn on_input(bundle: &Bundle, packet: &Tags) -> Tags {
    let s = &bundle.settings;
    let mut tags = *packet;
    match s.vlan_mode {
        VlanMode::Trunk => {}
        VlanMode::Access => tags.0 = [Tag { vid: s.vlan, ..packet.0[0] }, Tag::default()],
        VlanMode::NativeTagged | VlanMode::NativeUntagged => {
            if tags.0[0].vid == 0 {
                tags.0[0].vid = s.vlan;
            }
        }
        VlanMode::Dot1qTunnel => tags.push(Tag { tpid: s.qinq_ethtype, vid: s.vlan, pcp: 0 }),
    }
    tags
}

/// The packet's tags on the wire behind `bundle`.
pub fn on_output(bundle: &Bundle, inside: &Tags) -> Tags {
    let mut tags = *inside;
    match bundle.settings.vlan_mode {
        VlanMode::Trunk | VlanMode::NativeTagged => {}
        VlanMode::Access => tags.0 = [Tag { vid: 0, ..inside.0[0] }, Tag::default()],
        VlanMode::NativeUntagged => {
            if tags.vid() == bundle.settings.vlan {
                tags.0[0].vid = 0;
            }
        }
        VlanMode::Dot1qTunnel => tags.pop(),
    }
    tags
}

/// Whether a packet with these inside tags belongs out of `bundle`.
pub fn includes(bundle: &Bundle, inside: &Tags) -> bool {
    let s = &bundle.settings;
    match s.vlan_mode {
        VlanMode::Access => inside.vid() == s.vlan && inside.0[1].vid == 0,
        VlanMode::Dot1qTunnel => inside.vid() == s.vlan && carries_cvlan(s, inside.0[1].vid),
        _ => bundle.carries_vlan(inside.vid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BundleId, OfPort};

    fn bundle(vlan_mode: VlanMode, vlan: u16) -> Bundle {
        let settings = BundleSettings { vlan_mode, vlan, ..BundleSettings::trunk("p", OfPort(1)) };
        Bundle { id: BundleId(1), settings }
    }

    fn flow(tags: &[(u16, u16)]) -> Flow {
        let mut f = Flow::ZERO;
        for (v, (tpid, tci)) in f.vlans.iter_mut().zip(tags) {
            *v = Vlan { tpid: *tpid, tci: *tci | VLAN_CFI };
        }
        f
    }

    #[test]
    fn access_to_trunk_tags_and_back() {
        let access = bundle(VlanMode::Access, 7);
        let inside = on_input(&access, &Tags::of(&flow(&[])));
        let trunk = bundle(VlanMode::Trunk, 0);
        assert!(includes(&trunk, &inside) && includes(&access, &inside));
        let mut out = Flow::ZERO;
        on_output(&trunk, &inside).put(&mut out, PriorityTags::Never);
        assert_eq!(out.vlans[0], Vlan { tpid: ETH_TYPE_VLAN, tci: 7 | VLAN_CFI });
        on_output(&access, &inside).put(&mut out, PriorityTags::Never);
        assert_eq!(out.vlans, [Vlan::default(); 2]);
        assert!(refuse_input(&access, &Tags::of(&flow(&[(0x8100, 9)]))).is_some());
    }

    #[test]
    fn dot1q_tunnel_adds_and_removes_the_outer_tag() {
        let tunnel = bundle(VlanMode::Dot1qTunnel, 100);
        let inside = on_input(&tunnel, &Tags::of(&flow(&[(0x8100, 5)])));
        assert_eq!((inside.0[0].vid, inside.0[1].vid), (100, 5));
        let mut out = Flow::ZERO;
        on_output(&bundle(VlanMode::Trunk, 0), &inside).put(&mut out, PriorityTags::Never);
        assert_eq!(out.vlans.map(|v| (v.tpid, v.vid())), [(0x88a8, 100), (0x8100, 5)]);
        on_output(&tunnel, &inside).put(&mut out, PriorityTags::Never);
        assert_eq!(out.vlans.map(Vlan::vid), [5, 0]);
    }

    #[test]
    fn priority_tags_follow_the_setting() {
        let tags = Tags([Tag { tpid: 0, vid: 0, pcp: 0x6000 }, Tag::default()]);
        let mut f = Flow::ZERO;
        tags.put(&mut f, PriorityTags::Never);
        assert!(!f.vlans[0].is_present());
        tags.put(&mut f, PriorityTags::IfNonzero);
        assert_eq!(f.vlans[0].tci, 0x6000 | VLAN_CFI);
        Tags::default().put(&mut f, PriorityTags::Always);
        assert_eq!(f.vlans[0].tci, VLAN_CFI);
    }
}
