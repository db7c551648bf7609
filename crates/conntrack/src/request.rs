//! What an action asks for, and what a packet carries along.

use crate::conn::{ConnRef, Helper};
use crate::key::Key;
use dpif::{Ct, Nat};
use flow::U128;
use packet::CtMeta;
use packet::header::Masked;
use packet::proto::ip_proto;

/// One `ct` action.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    pub zone: u16,
    pub commit: bool,
    /// Begin anew where the packet is a reply.
    pub force: bool,
    pub mark: Option<Masked<u32>>,
    pub label: Option<Masked<U128>>,
    pub nat: Option<&'a Nat>,
    pub helper: Option<Helper>,
    /// Timeout policy; 0 for the default one.
    pub policy: u32,
}

impl<'a> Request<'a> {
    /// What `ct` says. A helper that is not known is none; so is a timeout policy that is no number.
    pub fn of(ct: &'a Ct) -> Self {
        Request {
            zone: ct.zone,
            commit: ct.commit || ct.force,
            force: ct.force,
            mark: ct.mark,
            label: ct.label,
            nat: ct.nat.as_ref(),
            helper: ct.helper.as_deref().and_then(Helper::from_name),
            policy: ct.timeout.as_deref().and_then(|t| t.parse().ok()).unwrap_or(0),
        }
    }

    /// Whether it asks for neither translation nor helper, and not to begin anew.
    #[inline]
    pub fn is_plain(&self) -> bool {
        !self.force && self.nat.is_none() && self.helper.is_none()
    }

    /// Which helper's control connection a packet belongs to, by its ports.
    pub(crate) fn control(&self, proto: u8, sport: u16, dport: u16) -> Option<Helper> {
        const FTP: u16 = 21;
        const TFTP: u16 = 69;
        match proto {
            ip_proto::UDP if dport == TFTP || self.helper == Some(Helper::Tftp) => Some(Helper::Tftp),
            ip_proto::TCP if sport == FTP || dport == FTP || self.helper == Some(Helper::Ftp) => {
                Some(Helper::Ftp)
            }
            _ => None,
        }
    }
}

/// What connection tracking leaves with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PacketCt {
    pub meta: CtMeta,
    /// The connection, so that the next `ct` need not look it up.
    pub cached: Option<Cached>,
}

/// Where the connection of a packet is, and which way the packet goes: good for as long as the connection is there,
/// for every packet with the same bytes in its key that was treated the same before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub(crate) conn: ConnRef,
    pub(crate) is_reply: bool,
}

/// The connection that a packet was found to belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cached {
    pub(crate) conn: ConnRef,
    pub(crate) is_reply: bool,
    pub(crate) is_related: bool,
    pub(crate) proto: u8,
    pub(crate) sport: u16,
    pub(crate) dport: u16,
}

impl Cached {
    pub(crate) fn new(conn: ConnRef, is_reply: bool, is_related: bool, key: &Key) -> Self {
        Cached { conn, is_reply, is_related, proto: key.proto, sport: key.sport, dport: key.dport }
    }
}

/// Writes the bits of `m.mask`.
pub(crate) fn merge32(old: u32, m: &Masked<u32>) -> u32 {
    (m.key & m.mask) | (old & !m.mask)
}

pub(crate) fn merge128(old: U128, m: &Masked<U128>) -> U128 {
    let part = |old: u64, key: u64, mask: u64| (key & mask) | (old & !mask);
    U128 { hi: part(old.hi, m.key.hi, m.mask.hi), lo: part(old.lo, m.key.lo, m.mask.lo) }
}
