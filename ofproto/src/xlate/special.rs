//! Packets that are for the switch itself: those of its ports' sessions, and its local port's DHCP.

use super::ctx::Ctx;
use crate::effects::Effect;
use crate::ids::{OfPort, in_port};
use crate::overrides::Owner;
use crate::port::Port;
use dpif::{Action, SlowPath};
use packet::proto::{dhcp, ethertype, ip_proto};

impl Ctx<'_> {
    /// Takes a packet that is for a session of the port that it came in by. Such a packet goes no further.
    pub fn special(&mut self) -> bool {
        let port = self.switch.port(in_port(&self.flow));
        let Some(bfd) = port.and_then(|p| p.bfd.clone()) else { return false };
        if !bfd.takes(&self.flow, &mut self.wc) {
            self.effects.push(Effect::Data(bfd));
            return false;
        }
        if self.is_outermost() {
            self.count_first_rule();
            self.mirror_ingress();
        }
        self.slow |= SlowPath::BFD;
        self.sessions.push(bfd);
        true
    }

    /// In-band control may depend on the local port's address: answers of DHCP servers reach it, whatever else
    /// becomes of them.
    pub fn keep_local_dhcp(&mut self) {
        let f = &self.flow;
        let is_udp = f.dl_type == ethertype::IPV4 && f.nw_proto == ip_proto::UDP;
        if !is_udp || self.freezing.is_some() || !self.is_outermost() {
            return;
        }
        let local = self.switch.port(OfPort::LOCAL).and_then(Port::dp_port);
        let is_there = local.is_some_and(|no| self.actions.contains(&Action::Output(no)));
        if is_there || !self.switch.overrides.has(Owner::InBand) {
            return;
        }
        // One bit is enough to tell a packet from such an answer, and keeps megaflows wide.
        let (other_src, other_dst) = (f.tp_src ^ dhcp::SERVER_PORT, f.tp_dst ^ dhcp::CLIENT_PORT);
        (self.wc.dl_type, self.wc.nw_proto) = (u16::MAX, u8::MAX);
        match (other_src.checked_ilog2(), other_dst.checked_ilog2()) {
            (Some(bit), _) => self.wc.tp_src |= 1 << bit,
            (None, Some(bit)) => {
                self.wc.tp_src = u16::MAX;
                self.wc.tp_dst |= 1 << bit;
            }
            (None, None) => {
                (self.wc.tp_src, self.wc.tp_dst) = (u16::MAX, u16::MAX);
                self.detail("outputting DHCP packet to local port for in-band control");
                self.send_to_port(OfPort::LOCAL);
            }
        }
    }

    /// Counts the packet for the rule that would have decided on it.
    pub fn count_first_rule(&mut self) {
        if let Some(rule) = self.lookup_from(in_port(&self.flow), 0, true) {
            self.effects.push(Effect::Rule(rule));
        }
    }
}
