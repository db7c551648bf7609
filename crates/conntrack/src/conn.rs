//! A connection, as a shard holds it.

use crate::key::Key;
use crate::nat::NatAction;
use crate::proto::ProtoState;
use crate::zone::Admission;
use dpif::NatDirection;
use flow::U128;

/// Helpers that look into payloads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Helper {
    Ftp,
    Tftp,
}

impl Helper {
    /// From the name in an action.
    pub fn from_name(name: &str) -> Option<Helper> {
        match name {
            "ftp" => Some(Helper::Ftp),
            "tftp" => Some(Helper::Tftp),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Helper::Ftp => "ftp",
            Helper::Tftp => "tftp",
        }
    }
}

/// Where a connection is. Stays unique when its place is used again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnRef {
    pub(crate) shard: u32,
    pub(crate) slot: u32,
    pub(crate) serial: u32,
}

/// Two cache lines, never three.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Conn {
    pub key: Key,
    pub label: U128,
    /// Milliseconds.
    pub expires: u64,
    pub proto: ProtoState,
    pub hash: u32,
    pub serial: u32,
    pub zone_generation: u32,
    pub mark: u32,
    /// What few connections have.
    pub extra: Option<Box<Extra>>,
}

/// What NAT, helpers, limits and timeout policies need.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    pub nat: Option<NatState>,
    pub helper: Option<Helper>,
    /// The control connection of a data connection that a helper expected.
    pub parent: Option<Key>,
    /// By how much a helper has lengthened the control connection, and whether in the replies.
    pub seq_skew: i32,
    pub skew_in_reply: bool,
    pub policy: u32,
    pub limit: Option<std::sync::Arc<crate::zone::ZoneLimit>>,
}

/// Translation of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NatState {
    pub direction: NatDirection,
    /// The key of replies, as they come.
    pub reply: Key,
}

impl Conn {
    pub fn nat(&self) -> Option<&NatState> {
        self.extra.as_ref()?.nat.as_ref()
    }

    /// The key that replies come with.
    pub fn reply_key(&self) -> Key {
        self.nat().map_or_else(|| self.key.reversed(), |n| n.reply)
    }

    pub fn helper(&self) -> Option<Helper> {
        self.extra.as_ref()?.helper
    }

    pub fn parent(&self) -> Option<&Key> {
        self.extra.as_ref()?.parent.as_ref()
    }

    /// Whether its packets need more than to be shown to it: translation, or a helper.
    #[inline]
    pub fn has_ties(&self) -> bool {
        self.extra.as_ref().is_some_and(|e| e.nat.is_some() || e.helper.is_some() || e.parent.is_some())
    }

    pub fn policy(&self) -> u32 {
        self.extra.as_ref().map_or(0, |e| e.policy)
    }

    pub fn admission(&self) -> Admission {
        let limit = self.extra.as_ref().and_then(|e| e.limit.clone());
        Admission { generation: self.zone_generation, limit }
    }

    /// What to do with a packet of the connection.
    pub fn nat_action(&self, is_reply: bool) -> Option<NatAction> {
        self.nat().map(|n| NatAction::new(&self.key, n, is_reply))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_connection_fits_in_two_cache_lines() {
        assert_eq!(size_of::<Option<super::Conn>>(), 128);
    }
}
