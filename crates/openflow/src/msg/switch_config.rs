//! `OFPT_GET_CONFIG_REPLY` and `OFPT_SET_CONFIG`.

use crate::form::{Form, Incoming};
use crate::wire::PutBytes;
use crate::{OfError, Version};

/// What to do with IP fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum FragHandling {
    /// As other packets, but their transport ports are 0.
    #[default]
    Normal = 0,
    /// Drop them.
    Drop = 1,
    /// Reassemble them.
    Reassemble = 2,
    /// As `Normal`, but first fragments have their transport ports.
    NxMatch = 3,
}

impl FragHandling {
    /// As `ovs-ofctl get-frags` writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Drop => "drop",
            Self::Reassemble => "reassemble",
            Self::NxMatch => "nx-match",
        }
    }

    const fn from_flags(flags: u16) -> Self {
        match flags & FRAG_MASK {
            0 => Self::Normal,
            1 => Self::Drop,
            2 => Self::Reassemble,
            _ => Self::NxMatch,
        }
    }
}

/// `OFPC_FRAG_MASK`
const FRAG_MASK: u16 = 3;
/// `OFPC_INVALID_TTL_TO_CONTROLLER`, until OpenFlow 1.2.
const INVALID_TTL_TO_CONTROLLER: u16 = 1 << 2;

/// The configuration of a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchConfig {
    /// What to do with IP fragments.
    pub frag: FragHandling,
    /// Whether packets with an invalid TTL go to the controller; `None` in OpenFlow 1.3 and later, which
    /// have another message for that.
    pub invalid_ttl_to_controller: Option<bool>,
    /// Bytes of a packet to send to a controller.
    pub miss_send_len: u16,
}

impl SwitchConfig {
    /// Decodes a get-config reply, or a set-config.
    ///
    /// # Errors
    /// `OFPSCFC_BAD_FLAGS` if a set-config has flags that its version does not.
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let flags = r.u16()?;
        let has_ttl = msg.version < Version::Of13;
        let valid = FRAG_MASK | if has_ttl { INVALID_TTL_TO_CONTROLLER } else { 0 };
        if flags & !valid != 0 && msg.form == Form::OfptSetConfig {
            return Err(OfError::OfpscfcBadFlags);
        }
        Ok(Self {
            frag: FragHandling::from_flags(flags),
            invalid_ttl_to_controller: has_ttl.then_some(flags & INVALID_TTL_TO_CONTROLLER != 0),
            miss_send_len: r.u16()?,
        })
    }

    /// Encodes a get-config reply.
    #[must_use]
    pub fn encode_reply(&self, version: Version, xid: u32) -> Vec<u8> {
        self.encode(Form::OfptGetConfigReply, version, xid)
    }

    /// Encodes a set-config.
    #[must_use]
    pub fn encode_set(&self, version: Version, xid: u32) -> Vec<u8> {
        self.encode(Form::OfptSetConfig, version, xid)
    }

    fn encode(&self, form: Form, version: Version, xid: u32) -> Vec<u8> {
        let ttl = version < Version::Of13 && self.invalid_ttl_to_controller == Some(true);
        let mut out = Vec::new();
        form.put(version, xid, &mut out, |out| {
            out.put_u16(self.frag as u16 | if ttl { INVALID_TTL_TO_CONTROLLER } else { 0 });
            out.put_u16(self.miss_send_len);
        });
        out
    }
}
