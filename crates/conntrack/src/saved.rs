//! Connections on their way from one process to the next.

use crate::conn::{Conn, Extra, Helper, NatState};
use crate::dump::PIECE;
use crate::errand::{Copies, Walk};
use crate::key::{Family, Key};
use crate::proto::ProtoState;
use crate::timeout::TimeoutPolicy;
use crate::track::{Conntrack, SHARDS};
use crate::zone::LimitZone;
use dpif::NatDirection;
use flow::U128;
use saved_state::Saved;
use serde::{Deserialize, Serialize};

/// One direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedKey {
    src: u128,
    dst: u128,
    sport: u16,
    dport: u16,
    zone: u16,
    proto: u8,
    family: Family,
}

impl From<Key> for SavedKey {
    fn from(k: Key) -> Self {
        let Key { sport, dport, zone, proto, family, .. } = k;
        SavedKey { src: k.src.into(), dst: k.dst.into(), sport, dport, zone, proto, family }
    }
}

impl From<SavedKey> for Key {
    fn from(k: SavedKey) -> Self {
        let SavedKey { sport, dport, zone, proto, family, .. } = k;
        Key { src: k.src.into(), dst: k.dst.into(), sport, dport, zone, proto, family }
    }
}

/// A connection. Times are relative, since clocks of processes differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedConn {
    key: SavedKey,
    mark: u32,
    label: u128,
    /// Milliseconds until it expires.
    expires_in: u64,
    proto: ProtoState,
    /// Whether the source is translated (else the destination), and the key of replies.
    nat: Option<(bool, SavedKey)>,
    helper: Option<Helper>,
    parent: Option<SavedKey>,
    seq_skew: i32,
    skew_in_reply: bool,
    policy: u32,
}

impl Saved for SavedConntrack {
    const NAME: &'static str = "conntrack";
    const VERSION: u32 = 1;
}

/// Settings, and connections in no order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SavedConntrack {
    pub maxconns: u32,
    pub checks_sequence: bool,
    /// Zone (`None` for the default) and limit.
    pub limits: Vec<(Option<u16>, u32)>,
    pub policies: Vec<(u32, TimeoutPolicy)>,
    pub conns: Vec<SavedConn>,
}

impl SavedConn {
    pub(crate) fn of(conn: &Conn, now: u64) -> Self {
        let extra = conn.extra.as_deref().cloned().unwrap_or_default();
        SavedConn {
            key: conn.key.into(),
            mark: conn.mark,
            label: conn.label.into(),
            expires_in: conn.expires.saturating_sub(now),
            proto: conn.proto,
            nat: extra.nat.map(|n| (n.direction == NatDirection::Src, n.reply.into())),
            helper: extra.helper,
            parent: extra.parent.map(Into::into),
            seq_skew: extra.seq_skew,
            skew_in_reply: extra.skew_in_reply,
            policy: extra.policy,
        }
    }

    fn extra(&self) -> Extra {
        let nat = self.nat.map(|(is_src, reply)| NatState {
            direction: if is_src { NatDirection::Src } else { NatDirection::Dst },
            reply: reply.into(),
        });
        Extra {
            nat,
            helper: self.helper,
            parent: self.parent.map(Into::into),
            seq_skew: self.seq_skew,
            skew_in_reply: self.skew_in_reply,
            policy: self.policy,
            limit: None,
        }
    }
}

impl Conntrack {
    /// The settings, without connections.
    pub fn save_settings(&self) -> SavedConntrack {
        let zone = |z: LimitZone| if let LimitZone::Zone(z) = z { Some(z) } else { None };
        SavedConntrack {
            maxconns: self.maxconns(),
            checks_sequence: self.checks_sequence(),
            limits: self.zones.limits().into_iter().map(|(z, l)| (zone(z), l)).collect(),
            policies: self.timeout_policies(),
            conns: Vec::new(),
        }
    }

    /// All living connections; what comes or goes meanwhile may be in it or not.
    pub fn save(&self, now: u64) -> SavedConntrack {
        let mut saved = self.save_settings();
        let mut walk = Walk::over(0, SHARDS as u32);
        while !walk.is_over() {
            let conns = Copies::Saved(Vec::with_capacity(PIECE));
            if let Copies::Saved(conns) = self.copy(&mut walk, None, now, conns) {
                saved.conns.extend(conns);
            }
        }
        saved
    }

    /// Adds what was saved. Connections beyond a limit, or whose place is taken, are left out; returns how
    /// many.
    pub fn restore(&self, saved: &SavedConntrack, now: u64) -> usize {
        self.set_maxconns(saved.maxconns);
        self.set_sequence_check(saved.checks_sequence);
        for (zone, limit) in &saved.limits {
            self.set_limit(zone.map_or(LimitZone::Default, LimitZone::Zone), *limit);
        }
        for (id, policy) in &saved.policies {
            self.set_timeout_policy(*id, *policy);
        }
        saved.conns.iter().filter(|c| !self.restore_conn(c, now)).count()
    }

    fn restore_conn(&self, saved: &SavedConn, now: u64) -> bool {
        let key: Key = saved.key.into();
        let Ok(admission) = self.zones.admit(key.zone) else { return false };
        let extra = Extra { limit: admission.limit.clone(), ..saved.extra() };
        let nat = extra.nat;
        let is_plain = nat.is_none()
            && extra.helper.is_none()
            && extra.parent.is_none()
            && extra.policy == 0
            && extra.limit.is_none();
        let conn = Conn {
            key,
            label: U128::from(saved.label),
            expires: now + saved.expires_in,
            proto: saved.proto,
            hash: self.locate(&key).1,
            serial: 0,
            zone_generation: admission.generation,
            mark: saved.mark,
            extra: (!is_plain).then(|| Box::new(extra)),
        };
        if let Some(nat) = nat
            && !self.take_alias(&nat.reply, admission.generation, now)
        {
            self.zones.leave(key.zone, &admission);
            return false;
        }
        match self.insert(conn, now) {
            Some(conn_ref) => {
                if let Some(nat) = nat {
                    self.aim_alias(&nat.reply, conn_ref);
                }
                true
            }
            None => {
                self.zones.leave(key.zone, &admission);
                if let Some(nat) = nat {
                    self.drop_reserved(&nat.reply);
                }
                false
            }
        }
    }
}
