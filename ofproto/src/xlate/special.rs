//! Packets that are for the switch itself: those of its ports' sessions.

use super::ctx::Ctx;
use crate::effects::Effect;
use crate::ids::in_port;
use dpif::SlowPath;

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

    /// Counts the packet for the rule that would have decided on it.
    pub fn count_first_rule(&mut self) {
        if let Some(rule) = self.lookup_from(in_port(&self.flow), 0, true) {
            self.effects.push(Effect::Rule(rule));
        }
    }
}
