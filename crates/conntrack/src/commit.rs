//! New connections, and the end of old ones.

use crate::ConntrackError;
use crate::conn::{Conn, ConnRef, Extra, Helper, NatState};
use crate::expect::Expectation;
use crate::extract::Extracted;
use crate::key::Key;
use crate::nat;
use crate::proto::{self, ProtoState};
use crate::request::Cached;
use crate::shard::Found;
use crate::track::{Conntrack, Pass, describe, finish_unknown, set_marks};
use crate::zone::Admission;
use flow::{U128, ct_state, hash::mix};
use std::sync::atomic::Ordering::Relaxed;

/// Where an alias leads before its connection is in the table.
const NOWHERE: ConnRef = ConnRef { shard: 0, slot: u32::MAX, serial: 0 };

impl Conntrack {
    /// A packet that belongs to no connection: perhaps it begins one.
    pub(crate) fn begin(&self, pass: &mut Pass<'_, '_>) {
        let key = pass.packet.key;
        let is_current = |zone, generation| self.zones.is_current(zone, generation);
        let expected = self.expectations.find(&key, is_current);
        if !proto::may_begin(&key, pass.packet.tcp.as_ref()) {
            pass.ct.meta.state = ct_state::INV;
            return finish_unknown(pass, expected.as_ref());
        }
        pass.ct.meta.state = ct_state::NEW | if expected.is_some() { ct_state::REL } else { 0 };
        let made = match pass.request.commit {
            true => self.commit(pass, expected.as_ref()),
            false => None,
        };
        let Some((conn, has_helper)) = made else { return finish_unknown(pass, expected.as_ref()) };
        pass.ct.meta.state |= ct_state::TRK;
        pass.ct.meta.zone = pass.request.zone;
        if let (true, Some(control)) = (has_helper, pass.control) {
            self.help(pass, control, conn, false);
        }
        let cached = Cached::new(conn, false, false, &key);
        pass.ct.cached = pass.request.nat.is_none().then_some(cached);
    }

    /// Makes a connection. Says where it is and whether it has a helper.
    fn commit(&self, pass: &mut Pass<'_, '_>, expected: Option<&Expectation>) -> Option<(ConnRef, bool)> {
        let key = pass.packet.key;
        let admission = match self.zones.admit(key.zone) {
            Ok(admission) => admission,
            Err(error) => {
                if error == ConntrackError::Full {
                    self.count_full();
                }
                return None;
            }
        };
        let nat = match self.translation(pass, expected, admission.generation) {
            Ok(nat) => nat,
            Err(ConntrackError::Full | ConntrackError::ZoneFull | ConntrackError::NotFound) => {
                self.counters.nat_exhausted.fetch_add(1, Relaxed);
                self.zones.leave(key.zone, &admission);
                return None;
            }
        };
        let helper = pass.request.helper.filter(|h| pass.control.is_none_or(|c| c == *h));
        let (conn, timeout_in) = self.compose(
            &pass.packet,
            self.locate(&key).1,
            pass.request.policy,
            &admission,
            (nat, helper),
            expected,
        );
        let has_helper = conn.helper().is_some();
        let inserted = self.insert(Conn { expires: pass.now + timeout_in, ..conn }, pass.now);
        let Some(conn_ref) = inserted else {
            // Somebody else was faster.
            self.zones.leave(key.zone, &admission);
            if let Some(nat) = nat {
                self.drop_reserved(&nat.reply);
            }
            return None;
        };
        if let Some(nat) = nat {
            self.aim_alias(&nat.reply, conn_ref);
        }
        let applied = self.with_ref(conn_ref, pass.now, |conn| {
            describe(conn, &mut pass.ct.meta);
            set_marks(conn, &mut pass.ct.meta, pass.request);
            conn.nat_action(false)
        });
        if let Some(Some(action)) = applied {
            pass.ct.meta.state |= action.state_bit();
            action.apply(pass.p, pass.packet.is_related);
        }
        Some((conn_ref, has_helper))
    }

    /// Counts a connection that there was no room for.
    #[cold]
    pub(crate) fn count_full(&self) {
        self.counters.full.fetch_add(1, Relaxed);
        coverage::counter::conntrack_full.inc();
    }

    /// A connection that begins with `packet`, and how long it lives without a further one.
    pub(crate) fn compose(
        &self,
        packet: &Extracted,
        hash: u32,
        policy: u32,
        admission: &Admission,
        (nat, helper): (Option<NatState>, Option<Helper>),
        expected: Option<&Expectation>,
    ) -> (Conn, u64) {
        let key = packet.key;
        let (proto, timeout) = ProtoState::begin(&key, packet.tcp.as_ref());
        let is_plain = nat.is_none()
            && helper.is_none()
            && expected.is_none()
            && policy == 0
            && admission.limit.is_none();
        let extra = || {
            let (parent, limit) = (expected.map(|e| e.parent), admission.limit.clone());
            Box::new(Extra { nat, helper, parent, policy, limit, ..Extra::default() })
        };
        let conn = Conn {
            key,
            label: expected.map_or(U128::ZERO, |e| e.label),
            expires: 0,
            proto,
            hash,
            serial: 0,
            zone_generation: admission.generation,
            mark: expected.map_or(0, |e| e.mark),
            extra: (!is_plain).then(extra),
        };
        (conn, self.timeout(policy, timeout))
    }

    /// Chooses a translation and takes its key of replies; an error if none is free.
    fn translation(
        &self,
        pass: &Pass<'_, '_>,
        expected: Option<&Expectation>,
        generation: u32,
    ) -> Result<Option<NatState>, ConntrackError> {
        let Some(nat) = pass.request.nat else { return Ok(None) };
        let key = pass.packet.key;
        if let Some(e) = expected {
            let (direction, address) = e.nat;
            let mut reply = key.reversed();
            match direction {
                dpif::NatDirection::Src => reply.dst = address,
                dpif::NatDirection::Dst => reply.src = address,
            }
            let taken = self.take_alias(&reply, generation, pass.now);
            return if taken { Ok(Some(NatState { direction, reply })) } else { Err(ConntrackError::Full) };
        }
        let Some(direction) = nat.direction else { return Ok(None) };
        let random = || (self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed) >> 32) as u32;
        let random = || (mix(self.basis, u64::from(random())) >> 32) as u32;
        let take = |reply: &Key| self.take_alias(reply, generation, pass.now);
        match nat::choose(&key, nat, direction, self.basis, random, take) {
            Some(reply) => Ok(Some(NatState { direction, reply })),
            None => Err(ConntrackError::Full),
        }
    }

    /// Puts an alias that leads nowhere yet, unless its key is in use.
    pub(crate) fn take_alias(&self, key: &Key, generation: u32, now: u64) -> bool {
        let (shard, hash) = self.locate(key);
        let mut part = self.part(shard).lock();
        let mut dead = None;
        match part.find(hash, key) {
            None => {}
            Some(Found::Here { slot, .. }) => {
                if part.get(slot).is_some_and(|c| self.is_alive(c, now)) {
                    return false;
                }
                dead = part.remove(slot).map(|conn| (slot, conn));
            }
            Some(Found::Alias { target, generation }) => {
                if self.zones.is_current(key.zone, generation) {
                    return false;
                }
                part.remove_alias(hash, key, target);
            }
        }
        part.insert_alias(hash, *key, generation, NOWHERE);
        drop(part);
        if let Some((slot, conn)) = dead {
            self.after_removal(shard, slot, &conn);
        }
        true
    }

    pub(crate) fn aim_alias(&self, key: &Key, target: ConnRef) {
        let (shard, hash) = self.locate(key);
        self.part(shard).lock().aim_alias(hash, key, target);
    }

    /// Gives back what [`Conntrack::take_alias`] took.
    pub(crate) fn drop_reserved(&self, key: &Key) {
        self.drop_alias(key, NOWHERE);
    }

    fn drop_alias(&self, key: &Key, target: ConnRef) {
        let (shard, hash) = self.locate(key);
        self.part(shard).lock().remove_alias(hash, key, target);
    }

    /// Puts a connection in, unless a living one has its key.
    pub(crate) fn insert(&self, conn: Conn, now: u64) -> Option<ConnRef> {
        let (shard, hash) = self.locate(&conn.key);
        let mut part = self.part(shard).lock();
        let mut dead = None;
        match part.find(hash, &conn.key) {
            None => {}
            Some(Found::Here { slot, .. }) => {
                if part.get(slot).is_some_and(|c| self.is_alive(c, now)) {
                    return None;
                }
                dead = part.remove(slot).map(|conn| (slot, conn));
            }
            // It would hide the alias of another connection.
            Some(Found::Alias { generation, target })
                if self.zones.is_current(conn.key.zone, generation) && target != NOWHERE =>
            {
                return None;
            }
            Some(Found::Alias { .. }) => {}
        }
        let (slot, serial) = self.put(shard, &mut part, conn);
        drop(part);
        if let Some((slot, conn)) = dead {
            self.after_removal(shard, slot, &conn);
        }
        Some(ConnRef { shard, slot, serial })
    }

    /// Removes a connection. Says whether it was there.
    pub(crate) fn remove(&self, r: ConnRef) -> bool {
        let mut part = self.part(r.shard).lock();
        let Some(conn) = part.at_mut(r).is_some().then(|| part.remove(r.slot)).flatten() else {
            return false;
        };
        drop(part);
        self.after_removal(r.shard, r.slot, &conn);
        true
    }

    /// What else goes when a connection has gone. No part may be locked.
    pub(crate) fn after_removal(&self, shard: u32, slot: u32, conn: &Conn) {
        self.untie(shard, slot, conn);
        self.leave(conn);
    }

    /// The place in its zone is free.
    pub(crate) fn leave(&self, conn: &Conn) {
        self.zones.leave(conn.key.zone, &conn.admission());
    }

    /// What leads to a connection that has gone, and what it has announced. No part may be locked.
    pub(crate) fn untie(&self, shard: u32, slot: u32, conn: &Conn) {
        if let Some(nat) = conn.nat() {
            self.drop_alias(&nat.reply, ConnRef { shard, slot, serial: conn.serial });
        }
        if conn.helper().is_some() {
            self.expectations.forget(&conn.key);
        }
    }
}
