//! MPLS: labels on and off. What is behind the last label is not known until the datapath has looked at the
//! packet again, so the translation freezes before it is needed.

use super::ctx::Ctx;
use dpif::DropReason;
use flow::{Flow, MPLS_LABELS_MAX, Mask, word};
use openflow::action::{Action, Controller, reason};
use packet::proto::ethertype;

/// Parts of a label stack entry (RFC 3032): mask and shift.
pub(super) const LABEL: (u32, u32) = (0xffff_f000, 12);
pub(super) const TC: (u32, u32) = (0x0000_0e00, 9);
pub(super) const TTL: (u32, u32) = (0x0000_00ff, 0);
/// The entry is the last one of the stack.
const BOTTOM: u32 = 0x0000_0100;
/// The label "IPv6 explicit null"; that of IPv4 is 0.
const IPV6_NULL: u32 = 2;
const DEFAULT_TTL: u32 = 64;
const DSCP_MASK: u8 = 0xfc;

/// Labels of a packet; whether each is the last one becomes significant.
pub(super) fn count_labels(flow: &Flow, wc: &mut Mask) -> usize {
    if !ethertype::is_mpls(flow.dl_type) {
        return 0;
    }
    let mut count = 0;
    for (i, lse) in flow.mpls_lse.iter().enumerate() {
        wc.0.mpls_lse[i] |= BOTTOM;
        if lse & BOTTOM != 0 {
            return i + 1;
        }
        count += usize::from(*lse != 0);
    }
    count
}

/// The entry of the first label of a packet.
fn first_label(flow: &Flow, wc: &mut Mask) -> u32 {
    let label = if flow.dl_type == ethertype::IPV6 { IPV6_NULL } else { 0 };
    let (mut tc, mut ttl) = (0, DEFAULT_TTL);
    if flow.is_ip_any() {
        tc = u32::from((flow.nw_tos & DSCP_MASK) >> 2);
        wc.nw_tos |= DSCP_MASK;
        wc.nw_ttl = 0xff;
        if flow.nw_ttl != 0 {
            ttl = flow.nw_ttl.into();
        }
    }
    label << LABEL.1 | tc << TC.1 & TC.0 | BOTTOM | ttl
}

/// Puts a label on a packet that has `n`.
pub(super) fn push_label(flow: &mut Flow, n: usize, ethertype: u16, wc: &mut Mask) {
    if n == 0 {
        flow.mpls_lse[0] = first_label(flow, wc);
        // What was the network layer is payload now.
        let words = flow.words_mut();
        words[word::L3..word::TUNNEL].fill(0);
        flow.dp_hash = 0;
    } else {
        wc.0.mpls_lse[..n].fill(u32::MAX);
        flow.mpls_lse.copy_within(..n, 1);
        flow.mpls_lse[0] &= !BOTTOM;
    }
    flow.dl_type = ethertype;
}

/// Takes the outer label off a packet that has `n`; false if that cannot be done.
pub(super) fn pop_label(flow: &mut Flow, n: usize, ethertype: u16, wc: &mut Mask) -> bool {
    if n == 0 {
        return false;
    }
    if n == MPLS_LABELS_MAX {
        wc.0.mpls_lse[n - 1] |= BOTTOM;
        // What comes up from below is not known.
        if flow.mpls_lse[n - 1] & BOTTOM == 0 {
            return false;
        }
    }
    wc.0.mpls_lse[1..n].fill(u32::MAX);
    flow.mpls_lse.copy_within(1..n, 0);
    flow.mpls_lse[n - 1] = 0;
    flow.dl_type = ethertype;
    true
}

impl Ctx<'_> {
    pub fn push_mpls(&mut self, ethertype: u16) {
        let n = count_labels(&self.flow, &mut self.wc);
        if n == 0 {
            self.commit();
        } else if n >= MPLS_LABELS_MAX {
            self.too_many_labels("an MPLS push action can't be performed as it would have");
            return;
        }
        push_label(&mut self.flow, n, ethertype, &mut self.wc);
    }

    pub fn pop_mpls(&mut self, ethertype: u16) {
        let n = count_labels(&self.flow, &mut self.wc);
        if pop_label(&mut self.flow, n, ethertype, &mut self.wc) {
            self.was_mpls |= !ethertype::is_mpls(ethertype);
        } else if n >= MPLS_LABELS_MAX {
            self.too_many_labels("an MPLS pop action can't be performed as it has");
            self.actions.clear();
        }
    }

    pub fn too_many_labels(&mut self, what: &str) {
        if self.has_packet {
            let text = format!(
                "dropping packet on which {what} more MPLS LSEs than the {MPLS_LABELS_MAX} supported."
            );
            self.fail(DropReason::TooManyMplsLabels, &text);
        } else {
            self.error = DropReason::TooManyMplsLabels;
        }
    }

    /// Sets a part of the outer label's entry.
    pub fn set_mpls(&mut self, (mask, shift): (u32, u32), value: u32) {
        if ethertype::is_mpls(self.flow.dl_type) {
            self.wc.0.mpls_lse[0] |= mask;
            self.flow.mpls_lse[0] = self.flow.mpls_lse[0] & !mask | value << shift & mask;
        }
    }

    pub fn dec_mpls_ttl(&mut self) {
        if ethertype::is_mpls(self.flow.dl_type) {
            let ttl = self.flow.mpls_lse[0] & TTL.0;
            self.wc.0.mpls_lse[0] |= TTL.0;
            if ttl > 1 {
                self.flow.mpls_lse[0] -= 1;
                return;
            }
            self.invalid_ttl();
        }
        self.warn("MPLS decrement TTL exception");
        self.end_list = true;
    }

    /// Tells the controllers with id 0 that a TTL ran out.
    pub fn invalid_ttl(&mut self) {
        let to = Controller { max_len: u16::MAX, reason: reason::INVALID_TTL, ..Controller::default() };
        self.controller(&to);
    }

    /// Has the packet looked at again if the last label is gone and `next` wants to know what is behind it.
    pub fn recirculate_behind_mpls(&mut self, next: &Action) {
        if self.was_mpls && !self.exit && looks_behind_labels(next) {
            self.trigger_freeze();
        }
    }
}

/// Whether an action depends on headers from the network layer up.
fn looks_behind_labels(a: &Action) -> bool {
    match a {
        Action::Output(_)
        | Action::OutputTrunc(_)
        | Action::Enqueue(_)
        | Action::OutputReg(_)
        | Action::SetVlanVid(_)
        | Action::SetVlanPcp(_)
        | Action::SetEthSrc(_)
        | Action::SetEthDst(_)
        | Action::SetTunnel(_)
        | Action::SetQueue(_)
        // It asks for itself.
        | Action::Group(_) => false,
        Action::SetField(s) => s.field().is_l3_or_higher(),
        _ => true,
    }
}
