//! Where outer packets end: addresses of devices that tunnels listen on.

use super::router::Device;
use classifier::Classifier;
use dpif::PortNo;
use dpif::text::{Style, flow_text};
use flow::{EthAddr, Flow, Mask, NW_FRAG_ANY, NW_FRAG_LATER, U128};
use packet::proto::ethertype;
use packet::tunnel::TunnelKind;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// A datapath port that takes outer headers off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    pub name: String,
    pub port: PortNo,
    pub kind: TunnelKind,
    /// 0 for what is not UDP.
    pub udp_port: u16,
    /// Ports of switches that share it.
    pub users: usize,
}

/// All endpoints of a datapath.
#[derive(Debug, Default)]
pub struct Endpoints {
    listeners: Vec<Listener>,
    devices: BTreeMap<String, Device>,
    rules: Classifier<(PortNo, String)>,
}

impl Endpoints {
    /// All combinations of `listeners`, the youngest first, and addresses of `devices`.
    pub fn new(listeners: Vec<Listener>, devices: &BTreeMap<String, Device>) -> Self {
        let mut rules = Classifier::new();
        // Of two that match the same packets, the older stays: gre before ip6gre.
        for l in listeners.iter() {
            for (mac, ip) in devices.values().flat_map(|d| d.ips.iter().map(move |(ip, _)| (d.mac, *ip))) {
                let (key, mask) = matching(l, mac, ip);
                if rules.find_exact(&key, &mask, 0).is_none() {
                    rules.insert(&key, &mask, 0, (l.port, l.name.clone()), &[]);
                }
            }
        }
        Endpoints { listeners, devices: devices.clone(), rules }
    }

    /// Whether the other has the same listeners and addresses.
    pub fn is_same(&self, other: &Self) -> bool {
        self.listeners == other.listeners && self.devices == other.devices
    }

    /// The datapath port that takes the outer header off this packet; notes in `wc` what was looked at.
    pub fn lookup(&self, flow: &Flow, wc: &mut Mask) -> Option<PortNo> {
        self.rules.lookup(flow, Some(wc)).map(|(port, _)| *port)
    }

    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The lines of `tnl/ports/show -v`.
    pub fn describe(&self) -> String {
        let line = |f: classifier::Found<'_, (PortNo, String)>| {
            let (port, name) = f.rule;
            format!("{name} ({port}) : {}\n", flow_text(&f.key(), &f.mask(), &Style::default()))
        };
        self.rules.iter().map(line).collect()
    }
}

fn matching(l: &Listener, mac: EthAddr, ip: Ipv6Addr) -> (Flow, Mask) {
    let (mut key, mut mask) = (Flow::ZERO, Mask::NONE);
    (key.dl_dst, mask.dl_dst) = (mac, EthAddr::BROADCAST);
    mask.dl_type = u16::MAX;
    (key.nw_proto, mask.nw_proto) = (l.kind.ip_proto(), u8::MAX);
    // Fragments are not put together here.
    mask.nw_frag = NW_FRAG_ANY | NW_FRAG_LATER;
    mask.vlans[0].tci = u16::MAX;
    if l.udp_port != 0 {
        (key.tp_dst, mask.tp_dst) = (l.udp_port, u16::MAX);
    }
    match ip.to_ipv4_mapped() {
        Some(v4) => {
            key.dl_type = ethertype::IPV4;
            (key.nw_dst, mask.nw_dst) = (v4.into(), u32::MAX);
        }
        None => {
            key.dl_type = ethertype::IPV6;
            (key.ipv6_dst, mask.ipv6_dst) = (u128::from(ip).into(), U128::MAX);
        }
    }
    (key, mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dpif::tunnel::mapped;

    #[test]
    fn packets_to_an_address_of_ours_end_here() {
        let listener = |kind: TunnelKind, port| Listener {
            name: kind.device_name(kind.default_port()),
            port: PortNo(port),
            kind,
            udp_port: kind.default_port(),
            users: 1,
        };
        let mac = EthAddr::from_u64(5);
        let br0 = Device { mac, ips: vec![(mapped(7), 120)], ..Device::default() };
        let devices = BTreeMap::from([("br0".to_owned(), br0)]);
        let e = Endpoints::new(vec![listener(TunnelKind::Vxlan, 4), listener(TunnelKind::Gre, 3)], &devices);
        let udp = Flow { dl_dst: mac, dl_type: 0x0800, nw_dst: 7, nw_proto: 17, tp_dst: 4789, ..Flow::ZERO };
        let look = |f: &Flow| e.lookup(f, &mut Mask::NONE.clone());
        assert_eq!(look(&udp), Some(PortNo(4)));
        assert_eq!(look(&Flow { tp_dst: 4790, ..udp.clone() }), None);
        assert_eq!(look(&Flow { nw_dst: 8, ..udp.clone() }), None);
        assert_eq!(look(&Flow { nw_frag: NW_FRAG_ANY, ..udp.clone() }), None);
        assert_eq!(look(&Flow { nw_proto: 47, tp_dst: 0, ..udp.clone() }), Some(PortNo(3)));
        assert_eq!(look(&Flow { dl_dst: EthAddr::ZERO, ..udp }), None);
        let mut wc = Mask::NONE;
        assert_eq!(Endpoints::default().lookup(&Flow::ZERO, &mut wc), None);
        assert!(wc.is_none(), "nobody listens, so nothing was looked at");
    }
}
