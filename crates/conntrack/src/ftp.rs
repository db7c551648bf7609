//! Helpers at work: expectations made, addresses in control messages translated, and the sequence numbers
//! of a control connection kept right after that.

use crate::alg::{self, Announce, Message, Mode};
use crate::conn::{Conn, ConnRef, Helper};
use crate::expect::Parent;
use crate::extract::extract;
use crate::key::Family;
use crate::track::{Conntrack, Pass};
use flow::{U128, ct_state};
use packet::checksum::{finish, fold, pseudo_v4, pseudo_v6, sum, update16};
use packet::proto::{header_len, ip_proto};
use packet::{Checksum, Packet};
use std::sync::atomic::Ordering::Relaxed;

/// By how much the numbers of a packet are off because a helper lengthened the connection.
#[derive(Clone, Copy)]
pub(crate) struct Skew {
    by: i32,
    /// Whether the packet acknowledges what was lengthened, or is itself behind it.
    is_ack: bool,
}

impl Skew {
    pub fn of(conn: &Conn, is_reply: bool, pass: &Pass<'_, '_>) -> Skew {
        let none = Skew { by: 0, is_ack: false };
        let Some(extra) = &conn.extra else { return none };
        if extra.seq_skew == 0 || pass.control != Some(Helper::Ftp) || pass.request.nat.is_none() {
            return none;
        }
        if !matches!(alg::read_ftp(payload(pass.p), pass.packet.key.family), Message::Other) {
            return none;
        }
        Skew { by: extra.seq_skew, is_ack: is_reply != extra.skew_in_reply }
    }

    /// Acknowledgements are set right before the connection sees them.
    pub fn apply_before(self, pass: &mut Pass<'_, '_>) {
        if self.by != 0 && self.is_ack {
            add_to(pass.p, 8, self.by.wrapping_neg());
            sum_tcp(pass.p, pass.packet.key.family);
            if let Some(again) = extract(pass.p, pass.packet.key.family, pass.request.zone) {
                pass.packet.tcp = again.tcp;
            }
        }
    }

    /// Sequence numbers after that.
    pub fn apply_after(self, pass: &mut Pass<'_, '_>) {
        if self.by != 0 && !self.is_ack {
            add_to(pass.p, 4, self.by);
            sum_tcp(pass.p, pass.packet.key.family);
        }
    }
}

impl Conntrack {
    /// A packet of a control connection that has a helper.
    pub(crate) fn help(&self, pass: &mut Pass<'_, '_>, control: Helper, conn: ConnRef, is_reply: bool) {
        let parent = self.with_ref(conn, pass.now, |c| Parent {
            key: c.key,
            reply: c.reply_key(),
            nat: c.nat().copied(),
            generation: c.zone_generation,
            mark: c.mark,
            label: c.label,
            seq_skew: c.extra.as_ref().map_or(0, |e| e.seq_skew),
            skew_in_reply: c.extra.as_ref().is_some_and(|e| e.skew_in_reply),
        });
        let Some(parent) = parent else { return };
        let in_reply = pass.ct.meta.state & ct_state::RPL != 0;
        match control {
            Helper::Tftp => self.expect(&parent, parent.key.sport, in_reply),
            Helper::Ftp => {
                let family = pass.packet.key.family;
                match alg::read_ftp(payload(pass.p), family) {
                    Message::Other => {}
                    Message::Invalid => pass.ct.meta.state |= ct_state::TRK | ct_state::INV,
                    Message::Announce(announce) => self.announced(pass, conn, &parent, &announce, is_reply),
                }
            }
        }
    }

    fn expect(&self, parent: &Parent, port: u16, in_reply: bool) {
        if !self.expectations.add(parent, port, in_reply) {
            self.counters.expectations_refused.fetch_add(1, Relaxed);
        }
    }

    fn announced(
        &self,
        pass: &mut Pass<'_, '_>,
        conn: ConnRef,
        parent: &Parent,
        announce: &Announce,
        is_reply: bool,
    ) {
        // What stands in the message, and what the other end must read.
        let (own, shown) = match announce.mode {
            Mode::Active => (parent.key.src, parent.reply.dst),
            Mode::Passive => (parent.reply.src, parent.key.dst),
        };
        if announce.address.as_ref().is_some_and(|(a, _)| *a != own && *a != shown) {
            pass.ct.meta.state |= ct_state::TRK | ct_state::INV;
            return;
        }
        self.expect(parent, announce.port, pass.ct.meta.state & ct_state::RPL != 0);
        if pass.request.nat.is_none() {
            return;
        }
        let family = pass.packet.key.family;
        let longer = match &announce.address {
            Some((_, range)) => replace(pass.p, range.clone(), &alg::ftp_address(shown, family), family),
            None => 0,
        };
        if parent.seq_skew != 0 {
            let (at, by) = match is_reply != parent.skew_in_reply {
                true => (8, parent.seq_skew.wrapping_neg()),
                false => (4, parent.seq_skew),
            };
            add_to(pass.p, at, by);
        }
        sum_tcp(pass.p, family);
        if longer != 0 {
            self.with_ref(conn, pass.now, |c| {
                if let Some(extra) = &mut c.extra {
                    extra.seq_skew = extra.seq_skew.wrapping_add(longer);
                    extra.skew_in_reply = is_reply;
                }
            });
        }
    }
}

fn tcp_header_len(l4: &[u8]) -> usize {
    usize::from(l4.get(12).copied().unwrap_or(0) >> 4) * 4
}

fn payload(p: &Packet) -> &[u8] {
    let l4 = p.l4_bytes();
    l4.get(tcp_header_len(l4)..).unwrap_or(&[])
}

/// Adds to a 32-bit number in the TCP header.
fn add_to(p: &mut Packet, at: usize, by: i32) {
    let start = usize::from(p.l4_ofs) + at;
    if let Some(field) = p.data_mut().get_mut(start..start + 4).and_then(|f| f.first_chunk_mut::<4>()) {
        *field = u32::from_be_bytes(*field).wrapping_add_signed(by).to_be_bytes();
    }
}

/// Puts `text` in the place of `range` of the TCP payload. Returns by how much the packet is longer.
fn replace(p: &mut Packet, range: std::ops::Range<usize>, text: &str, family: Family) -> i32 {
    let l4 = p.l4_bytes();
    let start = usize::from(p.l4_ofs) + tcp_header_len(l4);
    let (from, to) = (start + range.start, start + range.end);
    let end = p.len().saturating_sub(usize::from(p.l2_pad));
    let Some(tail) = p.data().get(to..end).map(<[u8]>::to_vec) else { return 0 };
    let longer = text.len() as i32 - range.len() as i32;
    p.set_len(end);
    p.l2_pad = 0;
    if longer > 0 {
        p.push_back(longer as usize);
    } else {
        p.set_len((end as i32 + longer).max(0) as usize);
    }
    let Some(place) = p.data_mut().get_mut(from..) else { return 0 };
    let Some((new, rest)) = place.split_at_mut_checked(text.len()) else { return 0 };
    new.copy_from_slice(text.as_bytes());
    rest.copy_from_slice(&tail);
    lengthen_ip(p, longer, family);
    longer
}

/// Adds to the length in the IP header.
fn lengthen_ip(p: &mut Packet, by: i32, family: Family) {
    let l3 = usize::from(p.l3_ofs);
    let at = if family == Family::V4 { 2 } else { 4 };
    let Some(header) = p.data_mut().get_mut(l3..l3 + header_len::IPV4) else { return };
    let old = u16::from_be_bytes([header[at], header[at + 1]]);
    let new = old.wrapping_add_signed(by as i16);
    header[at..at + 2].copy_from_slice(&new.to_be_bytes());
    if family == Family::V4 {
        let s = update16(u16::from_be_bytes([header[10], header[11]]), old, new);
        header[10..12].copy_from_slice(&s.to_be_bytes());
    }
}

/// Computes the TCP checksum anew, or leaves the device its part of the work.
fn sum_tcp(p: &mut Packet, family: Family) {
    let l3 = usize::from(p.l3_ofs);
    let len = p.l4_len() as u32;
    let Some(h) = p.data().get(l3..) else { return };
    let word =
        |at: usize| h.get(at..at + 4).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b));
    let wide = |at: usize| -> U128 {
        h.get(at..at + 16).and_then(|b| b.first_chunk()).map_or(0, |b| u128::from_be_bytes(*b)).into()
    };
    let pseudo = match family {
        Family::V4 => pseudo_v4(word(12), word(16), ip_proto::TCP, len),
        Family::V6 => pseudo_v6(wide(8), wide(24), ip_proto::TCP, len),
    };
    let start = usize::from(p.l4_ofs);
    let is_partial =
        matches!(p.offload.checksum, Checksum::Partial { start: s, .. } if usize::from(s) == start);
    let end = start + len as usize;
    let Some(tcp) = p.data_mut().get_mut(start..end).filter(|t| t.len() >= header_len::TCP) else { return };
    tcp[16..18].fill(0);
    let s = match is_partial {
        true => fold(pseudo),
        false => finish(pseudo + u32::from(fold(sum(tcp)))),
    };
    tcp[16..18].copy_from_slice(&s.to_be_bytes());
}
