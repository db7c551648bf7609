//! Which asynchronous messages a controller wants: `OFPT_GET_ASYNC`, `OFPT_SET_ASYNC` and Nicira's
//! `NXT_SET_ASYNC_CONFIG` and `_CONFIG2`.

use crate::action::reason;
use crate::form::{Form, Incoming};
use crate::property::{Property, PropertyType, put_u32};
use crate::wire::{PutBytes, Reader};
use crate::{OfError, Version};

/// Kinds of asynchronous messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AsyncMsg {
    /// Packet-in, by `OFPR_*`.
    PacketIn = 0,
    /// Port status, by `OFPPR_*`.
    PortStatus = 1,
    /// Flow removed, by `OFPRR_*`.
    FlowRemoved = 2,
    /// Role status, by `OFPCRR_*`.
    RoleStatus = 3,
    /// Table status, by `OFPTR_*`.
    TableStatus = 4,
    /// Request forward, by `OFPRFR_*`.
    RequestForward = 5,
}

impl AsyncMsg {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::PacketIn,
        Self::PortStatus,
        Self::FlowRemoved,
        Self::RoleStatus,
        Self::TableStatus,
        Self::RequestForward,
    ];
    /// The kinds that the messages without properties hold.
    const LEGACY: [Self; 3] = [Self::PacketIn, Self::PortStatus, Self::FlowRemoved];

    /// The reasons that exist in `version`.
    const fn allowed(self, version: Version) -> u32 {
        match self {
            Self::PacketIn if matches!(version, Version::Of14 | Version::Of15) => 0x3f,
            Self::PacketIn | Self::PortStatus | Self::RoleStatus => 0x07,
            Self::FlowRemoved => 0x3f,
            Self::TableStatus => 0x18,
            Self::RequestForward => 0x03,
        }
    }
}

/// For each kind of message the reasons that are wanted, bit `n` for reason `n`.
pub type AsyncMasks = [u32; 6];

/// Which asynchronous messages a controller wants, in which role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AsyncConfig {
    /// As primary, or equal.
    pub primary: AsyncMasks,
    /// As secondary.
    pub secondary: AsyncMasks,
}

impl AsyncConfig {
    /// What a controller gets that has not asked for anything.
    #[must_use]
    pub fn initial(version: Version) -> Self {
        let mut packet_in = 0x3f & !(1 << 2) | 1 << reason::EXPLICIT_MISS;
        if version <= Version::Of12 {
            packet_in |= 1 << reason::IMPLICIT_MISS;
        }
        let flow_removed = match version {
            Version::Of10 | Version::Of11 | Version::Of12 => 0x07,
            Version::Of13 => 0x0f,
            Version::Of14 | Version::Of15 => 0x3f,
        };
        let mut config = Self::default();
        config.primary[AsyncMsg::PacketIn as usize] = packet_in;
        config.primary[AsyncMsg::PortStatus as usize] = 0x07;
        config.primary[AsyncMsg::FlowRemoved as usize] = flow_removed;
        config.secondary[AsyncMsg::PortStatus as usize] = 0x07;
        config
    }

    /// Decodes a get-async reply. What is not known in it is passed over.
    ///
    /// # Errors
    /// Those of properties.
    pub fn decode_reply(msg: &Incoming<'_>) -> Result<Self, OfError> {
        Ok(AsyncChange::decode(msg)?.applied_to(&Self::default()))
    }

    /// The mask of `msg` as primary or secondary.
    #[must_use]
    pub const fn mask(&self, msg: AsyncMsg, primary: bool) -> u32 {
        let masks = if primary { &self.primary } else { &self.secondary };
        masks[msg as usize]
    }

    const fn to_wire(self, msg: AsyncMsg, primary: bool, version: Version) -> u32 {
        self.mask(msg, primary) & msg.allowed(version)
    }

    /// Encodes the reply to a get-async; `None` before OpenFlow 1.3, which has no such request.
    #[must_use]
    pub fn encode_reply(&self, version: Version, xid: u32) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match version {
            Version::Of10 | Version::Of11 | Version::Of12 => return None,
            Version::Of13 => {
                Form::Ofpt13GetAsyncReply.put(version, xid, &mut out, |out| self.put_legacy(out, version));
            }
            Version::Of14 | Version::Of15 => Form::Ofpt14GetAsyncReply
                .put(version, xid, &mut out, |out| self.put_properties(out, version, &AsyncMsg::ALL)),
        }
        Some(out)
    }

    /// Encodes a set-async for the kinds in `msgs`, as primary and as secondary. Before OpenFlow 1.4 it
    /// sets those that there were before properties, whatever `msgs` says.
    #[must_use]
    pub fn encode_set(&self, msgs: &[AsyncMsg], version: Version, xid: u32) -> Vec<u8> {
        let mut out = Vec::new();
        match version {
            Version::Of10 | Version::Of11 | Version::Of12 => {
                Form::NxtSetAsyncConfig.put(version, xid, &mut out, |out| self.put_legacy(out, version));
            }
            Version::Of13 => {
                Form::Ofpt13SetAsync.put(version, xid, &mut out, |out| self.put_legacy(out, version));
            }
            Version::Of14 | Version::Of15 => {
                Form::Ofpt14SetAsync
                    .put(version, xid, &mut out, |out| self.put_properties(out, version, msgs));
            }
        }
        out
    }

    fn put_legacy(&self, out: &mut Vec<u8>, version: Version) {
        for msg in AsyncMsg::LEGACY {
            out.put_u32(self.to_wire(msg, true, version));
            out.put_u32(self.to_wire(msg, false, version));
        }
    }

    fn put_properties(&self, out: &mut Vec<u8>, version: Version, msgs: &[AsyncMsg]) {
        for &msg in msgs {
            for primary in [false, true] {
                let number = 2 * msg as u16 + u16::from(primary);
                put_u32(out, number, self.to_wire(msg, primary, version));
            }
        }
    }
}

/// What a set-async asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AsyncChange {
    /// Whether what the message does not speak of is not wanted; else it stays as it is.
    pub replaces: bool,
    /// New masks as primary, where there are any.
    pub primary: [Option<u32>; 6],
    /// New masks as secondary, where there are any.
    pub secondary: [Option<u32>; 6],
}

impl AsyncChange {
    /// Decodes a set-async or a get-async reply.
    ///
    /// # Errors
    /// `OFPACFC_INVALID` for reasons that the version does not have, `OFPACFC_UNSUPPORTED` for kinds that
    /// are not known, and those of properties. Replies, and messages without properties, may have both.
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        match msg.form {
            Form::Ofpt14SetAsync | Form::NxtSetAsyncConfig2 => {
                Self::take_properties(msg.body(), msg.version, false)
            }
            Form::Ofpt14GetAsyncReply => Self::take_properties(msg.body(), msg.version, true),
            _ => Self::take_legacy(msg.body(), msg.version),
        }
    }

    /// What a controller with the configuration `current` has afterwards.
    #[must_use]
    pub fn applied_to(&self, current: &AsyncConfig) -> AsyncConfig {
        let mut config = if self.replaces { AsyncConfig::default() } else { *current };
        let sides = [(&mut config.primary, &self.primary), (&mut config.secondary, &self.secondary)];
        for (masks, changes) in sides {
            for (mask, change) in masks.iter_mut().zip(changes) {
                *mask = change.unwrap_or(*mask);
            }
        }
        config
    }

    fn take_legacy(mut r: Reader<'_>, version: Version) -> Result<Self, OfError> {
        let mut change = Self { replaces: true, ..Self::default() };
        for msg in AsyncMsg::LEGACY {
            change.set(msg, true, r.u32()?, version, true)?;
            change.set(msg, false, r.u32()?, version, true)?;
        }
        Ok(change)
    }

    fn take_properties(mut r: Reader<'_>, version: Version, loose: bool) -> Result<Self, OfError> {
        let mut change = Self::default();
        while !r.is_empty() {
            let property = Property::take_with(&mut r, 8, Some(0xfffe))?;
            match kind_of(property.kind) {
                Some((msg, primary)) => change.set(msg, primary, property.u32()?, version, loose)?,
                None if loose => (),
                None => {
                    return Err(match property.kind {
                        PropertyType::Standard(_) => OfError::OfpacfcUnsupported,
                        other => other.unknown(),
                    });
                }
            }
        }
        Ok(change)
    }

    /// Takes a mask over from a message.
    fn set(
        &mut self,
        msg: AsyncMsg,
        primary: bool,
        wire: u32,
        version: Version,
        loose: bool,
    ) -> Result<(), OfError> {
        let allowed = msg.allowed(version);
        if wire & !allowed != 0 && !loose {
            return Err(OfError::OfpacfcInvalid);
        }
        let mut mask = wire & allowed;
        if msg == AsyncMsg::PacketIn && mask & 1 << reason::NO_MATCH != 0 {
            mask |= 1 << reason::EXPLICIT_MISS;
            if version < Version::Of13 {
                mask |= 1 << reason::IMPLICIT_MISS;
            }
        }
        let masks = if primary { &mut self.primary } else { &mut self.secondary };
        masks[msg as usize] = Some(mask);
        Ok(())
    }

    /// Encodes a set-async. Before OpenFlow 1.4 it says everything.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let config = self.applied_to(&AsyncConfig::default());
        let is_set =
            |msg: &AsyncMsg| self.primary[*msg as usize].is_some() || self.secondary[*msg as usize].is_some();
        let msgs: Vec<AsyncMsg> = AsyncMsg::ALL.into_iter().filter(is_set).collect();
        config.encode_set(&msgs, version, xid)
    }
}

/// Properties are numbered by kind, secondary before primary.
fn kind_of(property: PropertyType) -> Option<(AsyncMsg, bool)> {
    let PropertyType::Standard(number) = property else { return None };
    let msg = AsyncMsg::ALL.get(usize::from(number / 2))?;
    Some((*msg, number % 2 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify;

    const PACKET_IN: usize = AsyncMsg::PacketIn as usize;
    const PORT_STATUS: usize = AsyncMsg::PortStatus as usize;

    fn change(message: &[u8]) -> Result<AsyncChange, OfError> {
        AsyncChange::decode(&identify(message).unwrap())
    }

    #[test]
    fn secondaries_get_port_status_alone_at_first() {
        for version in Version::ALL {
            let config = AsyncConfig::initial(version);
            assert_eq!(config.secondary, [0, 7, 0, 0, 0, 0]);
            assert_ne!(config.mask(AsyncMsg::FlowRemoved, true) & 7, 0);
            let invalid_ttl = 1 << reason::INVALID_TTL;
            assert_eq!(config.mask(AsyncMsg::PacketIn, true) & invalid_ttl, 0);
        }
    }

    #[test]
    fn messages_with_properties_change_what_they_name() {
        let wanted = AsyncConfig { primary: [0, 5, 0, 0, 0, 0], secondary: [0, 2, 0, 0, 0, 0] };
        let message = wanted.encode_set(&[AsyncMsg::PortStatus], Version::Of14, 1);
        let before = AsyncConfig::initial(Version::Of14);
        let after = change(&message).unwrap().applied_to(&before);
        assert_eq!((after.primary[PORT_STATUS], after.secondary[PORT_STATUS]), (5, 2));
        assert_eq!(after.primary[PACKET_IN], before.primary[PACKET_IN]);
    }

    #[test]
    fn messages_without_properties_change_all() {
        let wanted = AsyncConfig { primary: [0, 5, 0, 0, 0, 0], secondary: [0; 6] };
        let message = wanted.encode_set(&[], Version::Of13, 1);
        let after = change(&message).unwrap().applied_to(&AsyncConfig::initial(Version::Of13));
        assert_eq!(after, wanted);
    }

    #[test]
    fn table_misses_of_all_kinds_are_wanted_together() {
        let mut wanted = AsyncConfig::default();
        wanted.primary[PACKET_IN] = 1 << reason::NO_MATCH;
        for (version, implicit) in [(Version::Of12, true), (Version::Of13, false), (Version::Of15, false)] {
            let message = wanted.encode_set(&[AsyncMsg::PacketIn], version, 1);
            let mask = change(&message).unwrap().primary[PACKET_IN].unwrap();
            assert_ne!(mask & 1 << reason::EXPLICIT_MISS, 0);
            assert_eq!(mask & 1 << reason::IMPLICIT_MISS != 0, implicit, "{version}");
        }
    }

    #[test]
    fn reasons_that_do_not_exist_are_refused_in_properties() {
        let mut message = Vec::new();
        Form::Ofpt14SetAsync.put(Version::Of14, 1, &mut message, |out| put_u32(out, 3, 8));
        assert_eq!(change(&message), Err(OfError::OfpacfcInvalid));
        let mut message = Vec::new();
        Form::NxtSetAsyncConfig.put(Version::Of10, 1, &mut message, |out| out.put_bytes(&[0xff; 24]));
        assert_eq!(change(&message).unwrap().primary[PORT_STATUS], Some(7));
    }
}
