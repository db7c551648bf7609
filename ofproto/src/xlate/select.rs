//! `multipath` and `bundle`: choosing by a hash of the packet (ovs-actions(7)).

use super::ctx::Ctx;
use crate::ids::OfPort;
use crate::port::PortState;
use flow::{HashFields, hash};
use openflow::action::{Bundle, BundleAlgorithm, Multipath};

impl Ctx<'_> {
    pub fn multipath(&mut self, a: &Multipath) {
        a.fields.unwildcard(&self.flow, &mut self.wc);
        let h = a.fields.hash(&self.flow, a.basis);
        let n_links = u32::from(a.max_link) + 1;
        let link = flow::multipath_link(h, a.algorithm as u16, n_links, a.arg).unwrap_or(0);
        a.dst.unwildcard(&mut self.wc, &self.switch.tlv);
        a.dst.write_u64(&mut self.flow, link.into(), &self.switch.tlv);
        self.report_subfield(&a.dst);
    }

    pub fn bundle(&mut self, a: &Bundle) {
        let chosen = self.choose_member(a);
        match &a.dst {
            Some(dst) => {
                dst.unwildcard(&mut self.wc, &self.switch.tlv);
                dst.write_u64(&mut self.flow, chosen.0.into(), &self.switch.tlv);
                self.report_subfield(dst);
            }
            None => self.output(chosen, 0),
        }
    }

    fn choose_member(&mut self, a: &Bundle) -> OfPort {
        let switch = self.switch;
        let is_up = |no: &OfPort| switch.port(*no).is_some_and(|p| p.state().contains(PortState::LIVE));
        match a.algorithm {
            BundleAlgorithm::ActiveBackup => a.members.iter().copied().find(is_up).unwrap_or(OfPort::NONE),
            BundleAlgorithm::Hrw => {
                if a.members.len() > 1 {
                    a.fields.unwildcard(&self.flow, &mut self.wc);
                }
                let h = HashFields::hash(a.fields, &self.flow, a.basis);
                // Of equal weights the first one wins.
                let weigh = |(i, no): (usize, &OfPort)| {
                    is_up(no).then(|| (hash::two_words(i as u32, h), std::cmp::Reverse(i), *no))
                };
                let best = a.members.iter().enumerate().filter_map(weigh).max_by_key(|w| (w.0, w.1));
                best.map_or(OfPort::NONE, |w| w.2)
            }
        }
    }
}
