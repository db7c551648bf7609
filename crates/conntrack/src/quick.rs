//! The short way of packets of which nothing is wanted but that their connection sees them: no translation, no helper,
//! nothing to be written into the packet. Each takes one lock once. Whatever is not as common as that changes nothing
//! here and goes the long way ([`Conntrack::process`]), with which this way agrees (see `quick_tests`).

use crate::conn::Conn;
use crate::extract::{Extracted, Segment, read, sight};
use crate::key::Family;
use crate::proto::{Verdict, may_begin};
use crate::request::{Cached, PacketCt, Place, Request};
use crate::shard::{Found, Shard};
use crate::track::{Conntrack, describe, set_marks};
use crate::{ConntrackError, Key};
use flow::{U128, ct_state};
use packet::CtMeta;
use packet::proto::header_len;
use std::sync::atomic::Ordering::Relaxed;

/// What tracking reads from a packet.
#[derive(Clone, Copy, Debug)]
pub struct Glance(Extracted);

/// What a connection is shown of a packet of which it is known already whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Sight(Option<Segment>);

/// Where in the table a packet's connection is, or would be.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    shard: u32,
    hash: u32,
}

/// What a connection says of a packet, as far as it may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    pub state: u32,
    pub mark: u32,
    pub label: U128,
}

/// What came of showing a packet to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// It said what it was expected to say.
    AsTold,
    /// It took the packet in and said this.
    Otherwise(PacketCt),
    /// It is gone, or the case is no common one; nothing has changed.
    Not,
}

impl Verdict {
    /// The `ct_state` of a packet that comes without one.
    #[inline]
    fn state(self, is_reply: bool) -> u32 {
        let state = match self {
            Verdict::Valid => ct_state::EST | if is_reply { ct_state::RPL } else { 0 },
            Verdict::ValidNew | Verdict::Anew => ct_state::NEW,
            Verdict::Invalid => ct_state::INV,
        };
        state | ct_state::TRK
    }
}

impl Glance {
    /// Reads an IPv4 packet without options, from its network header to its end. `verify` says whether the transport
    /// checksum is yet to be looked at. `None` if there is something wrong with it, or it is an ICMP error.
    #[inline]
    pub fn at(l3: &[u8], zone: u16, verify: bool) -> Option<Glance> {
        let packet = read(l3, l3.get(header_len::IPV4..)?, Family::V4, zone, verify).ok()?;
        (!packet.is_related).then_some(Glance(packet))
    }
}

impl Sight {
    /// Reads a TCP or UDP packet over IPv4 without options, from its network header to its end, as [`Glance::at`] does but
    /// for what identifies the connection. `None` if there is something wrong with it.
    #[inline]
    pub fn at(l3: &[u8], verify: bool) -> Option<Sight> {
        sight(l3, verify).map(Sight)
    }
}

impl Place {
    /// What a packet carries along that the connection here said this of, in answer to [`Conntrack::show`].
    pub fn told(&self, told: &Told, zone: u16, glance: &Glance) -> PacketCt {
        let key = &glance.0.key;
        let tuple = if self.is_reply { key.reversed() } else { *key }.to_tuple();
        let meta = CtMeta { state: told.state, zone, mark: told.mark, label: told.label, tuple };
        PacketCt { meta, cached: Some(Cached::new(self.conn, self.is_reply, false, key)) }
    }
}

impl Conntrack {
    /// Where to look for a packet's connection. What is looked at first is asked for.
    #[inline]
    pub fn aim(&self, glance: &Glance, prefetch: impl Fn(usize)) -> Aim {
        let (shard, hash) = self.locate(&glance.0.key);
        let part = std::ptr::from_ref(self.hint(shard)) as usize;
        prefetch(part);
        prefetch(part + 64);
        prefetch(part + 128);
        Aim { shard, hash }
    }

    /// Asks for what is looked at next, some time after [`Conntrack::aim`].
    #[inline]
    pub fn ask(&self, aim: Aim, prefetch: impl Fn(usize)) {
        let hint = self.hint(aim.shard);
        prefetch(hint.bucket(aim.hash));
        let next = hint.next();
        prefetch(next);
        prefetch(next + 64);
    }

    /// Where the connection at `place` is in memory, for [`Conntrack::ask_at`]; 0 if it is gone.
    pub fn address(&self, place: Place) -> usize {
        let mut part = self.part(place.conn.shard).lock();
        part.at_mut(place.conn).map_or(0, |conn| std::ptr::from_ref(conn) as usize)
    }

    /// Asks for what [`Conntrack::show`] looks at; `address` is where the connection was.
    #[inline]
    pub fn ask_at(&self, place: Place, address: usize, prefetch: impl Fn(usize)) {
        prefetch(std::ptr::from_ref(self.hint(place.conn.shard)) as usize);
        prefetch(address);
        prefetch(address + 64);
    }

    /// Shows a packet that comes without a state to the connection at `place`, for a plain request that sets neither mark
    /// nor label. It is one with the addresses, ports and protocol of the packet that found the place; `glance` is of
    /// itself, in the connection's zone, and asked for only if something else is said than was told.
    #[inline]
    pub fn show(
        &self,
        place: Place,
        told: &Told,
        sight: &Sight,
        glance: impl FnOnce() -> Option<Glance>,
        now: u64,
    ) -> Shown {
        let Place { conn: at, is_reply } = place;
        let shown = self.with_ref(at, now, |conn| {
            let Some(verdict) = self.take_in(conn, is_reply, sight.0.as_ref(), now) else {
                return Shown::Not;
            };
            let said = Told { state: verdict.state(is_reply), mark: conn.mark, label: conn.label };
            if said == *told { Shown::AsTold } else { otherwise(place, conn, said.state, glance()) }
        });
        shown.unwrap_or(Shown::Not)
    }

    /// Sends a packet through the tracker of which nobody wants to know what becomes of it. False if the case is no common
    /// one; then nothing has changed. `request` is plain.
    #[inline]
    pub fn track_blindly(&self, glance: &Glance, aim: Aim, request: &Request<'_>, now: u64) -> bool {
        let (packet, Aim { shard, hash }) = (&glance.0, aim);
        let Key { proto, sport, dport, .. } = packet.key;
        if request.control(proto, sport, dport).is_some() || !self.expectations.is_empty() {
            return false;
        }
        let mut part = self.part(shard).lock();
        match part.find(hash, &packet.key) {
            None => !request.commit || self.begin_blindly(&mut part, packet, aim, request, now),
            Some(Found::Alias { .. }) => false,
            Some(Found::Here { slot, is_reply }) => {
                let Some(conn) = part.get_mut(slot).filter(|c| self.is_alive(c, now)) else { return false };
                let is_taken = self.take_in(conn, is_reply, packet.tcp.as_ref(), now).is_some();
                if is_taken {
                    mark(conn, request);
                }
                is_taken
            }
        }
    }

    /// Makes a connection whose key is not there. Where it may not be made, the packet passes as well.
    fn begin_blindly(
        &self,
        part: &mut Shard,
        packet: &Extracted,
        Aim { shard, hash }: Aim,
        request: &Request<'_>,
        now: u64,
    ) -> bool {
        if !may_begin(&packet.key, packet.tcp.as_ref()) {
            return true;
        }
        let admission = match self.zones.admit(packet.key.zone) {
            Ok(admission) => admission,
            Err(error) => {
                if error == ConntrackError::Full {
                    self.count_full();
                }
                return true;
            }
        };
        let (mut conn, timeout_in) =
            self.compose(packet, hash, request.policy, &admission, (None, None), None);
        conn.expires = now + timeout_in;
        mark(&mut conn, request);
        self.put(shard, part, conn);
        true
    }

    /// Lets a living connection see one of its packets. `None` if the case is no common one.
    #[inline]
    fn take_in(&self, conn: &mut Conn, is_reply: bool, tcp: Option<&Segment>, now: u64) -> Option<Verdict> {
        if conn.has_ties() {
            return None;
        }
        let mut proto = conn.proto;
        let check_seq = self.check_seq.load(Relaxed);
        let (verdict, timeout) = proto.update(is_reply, tcp, check_seq);
        match verdict {
            Verdict::Anew => return None,
            Verdict::Invalid => _ = self.counters.invalid.fetch_add(1, Relaxed),
            Verdict::Valid | Verdict::ValidNew => {}
        }
        conn.proto = proto;
        if let Some(timeout) = timeout {
            conn.expires = now + self.timeout(conn.policy(), timeout);
        }
        Some(verdict)
    }
}

#[cold]
fn otherwise(place: Place, conn: &Conn, state: u32, glance: Option<Glance>) -> Shown {
    let mut meta = CtMeta { state, zone: conn.key.zone, ..CtMeta::default() };
    describe(conn, &mut meta);
    let cached = glance.map(|g| Cached::new(place.conn, place.is_reply, false, &g.0.key));
    Shown::Otherwise(PacketCt { meta, cached })
}

fn mark(conn: &mut Conn, request: &Request<'_>) {
    let mut meta = CtMeta { mark: conn.mark, label: conn.label, ..CtMeta::default() };
    set_marks(conn, &mut meta, request);
}

#[cfg(test)]
#[path = "quick_tests.rs"]
mod tests;
