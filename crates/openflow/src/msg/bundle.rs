//! Bundles: `OFPT_BUNDLE_CONTROL` and `OFPT_BUNDLE_ADD_MESSAGE`, in OpenFlow 1.3 ONF's extension.

use bitflags::bitflags;

use crate::form::{Form, Incoming, identify};
use crate::wire::PutBytes;
use crate::{Header, OfError, Version};

bitflags! {
    /// What a bundle promises. Bits that are not known are kept.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct BundleFlags: u16 {
        /// All of it or nothing.
        const ATOMIC = 1 << 0;
        /// In the order in which it was added.
        const ORDERED = 1 << 1;
        const _ = !0;
    }
}

/// Types of bundle control messages: requests are even, and the reply to each is one more.
pub mod ctrl {
    /// Begin a bundle.
    pub const OPEN_REQUEST: u16 = 0;
    /// Nothing more will be added.
    pub const CLOSE_REQUEST: u16 = 2;
    /// Carry out what was added.
    pub const COMMIT_REQUEST: u16 = 4;
    /// Forget what was added.
    pub const DISCARD_REQUEST: u16 = 6;
    /// The last type that there is.
    pub const DISCARD_REPLY: u16 = 7;
}

/// A bundle control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleControl {
    /// The bundle.
    pub bundle_id: u32,
    /// One of [`ctrl`], or another number.
    pub ctrl_type: u16,
    /// What the bundle promises.
    pub flags: BundleFlags,
}

const fn control_form(version: Version) -> Option<Form> {
    match version {
        Version::Of10 | Version::Of11 | Version::Of12 => None,
        Version::Of13 => Some(Form::Onft13BundleControl),
        Version::Of14 | Version::Of15 => Some(Form::Ofpt14BundleControl),
    }
}

const fn add_form(version: Version) -> Option<Form> {
    match version {
        Version::Of10 | Version::Of11 | Version::Of12 => None,
        Version::Of13 => Some(Form::Onft13BundleAddMessage),
        Version::Of14 | Version::Of15 => Some(Form::Ofpt14BundleAddMessage),
    }
}

impl BundleControl {
    /// Decodes a bundle control message.
    ///
    /// # Errors
    /// None once [`crate::identify`] has taken the message.
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        Ok(Self { bundle_id: r.u32()?, ctrl_type: r.u16()?, flags: BundleFlags::from_bits_retain(r.u16()?) })
    }

    /// The reply to this request.
    #[must_use]
    pub const fn reply(self) -> Self {
        Self { ctrl_type: self.ctrl_type + 1, ..self }
    }

    /// Encodes a bundle control message; `None` before OpenFlow 1.3.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        control_form(version)?.put(version, xid, &mut out, |out| {
            out.put_u32(self.bundle_id);
            out.put_u16(self.ctrl_type);
            out.put_u16(self.flags.bits());
        });
        Some(out)
    }
}

/// A bundle add message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleAdd<'a> {
    /// The bundle.
    pub bundle_id: u32,
    /// What the bundle promises.
    pub flags: BundleFlags,
    /// The message to add, from its header on.
    pub message: &'a [u8],
}

impl<'a> BundleAdd<'a> {
    /// Decodes a bundle add message, and finds out what the message in it is.
    ///
    /// # Errors
    /// `OFPBFC_MSG_BAD_LEN`, `_BAD_VERSION`, `_MSG_BAD_XID` if the header of the message in it is wrong,
    /// `OFPBFC_MSG_UNSUP` if it is not known or not allowed in a bundle.
    pub fn decode(msg: &Incoming<'a>) -> Result<(Self, Incoming<'a>), OfError> {
        let mut r = msg.body();
        let bundle_id = r.u32()?;
        r.skip(2)?;
        let flags = BundleFlags::from_bits_retain(r.u16()?);
        let inner = Header::parse(r.rest()).ok_or(OfError::OfpbfcMsgBadLen)?;
        if inner.version != msg.header.version {
            return Err(OfError::OfpbfcBadVersion);
        }
        let inner_len = usize::from(inner.length);
        let message = r.take(inner_len).map_err(|_| OfError::OfpbfcMsgBadLen)?;
        if inner_len < Header::LEN {
            return Err(OfError::OfpbfcMsgBadLen);
        }
        if inner.xid != msg.header.xid {
            return Err(OfError::OfpbfcMsgBadXid);
        }
        let incoming = identify(message).map_err(|_| OfError::OfpbfcMsgUnsup)?;
        if !incoming.msg_type().is_bundlable() {
            return Err(OfError::OfpbfcMsgUnsup);
        }
        Ok((Self { bundle_id, flags, message }, incoming))
    }

    /// Encodes a bundle add message, with the transaction id of the message in it; `None` before
    /// OpenFlow 1.3, or if there is no header in it.
    #[must_use]
    pub fn encode(&self, version: Version) -> Option<Vec<u8>> {
        let xid = Header::parse(self.message)?.xid;
        let mut out = Vec::with_capacity(24 + self.message.len());
        add_form(version)?.put(version, xid, &mut out, |out| {
            out.put_u32(self.bundle_id);
            out.put_zeros(2);
            out.put_u16(self.flags.bits());
            out.put_bytes(self.message);
        });
        Some(out)
    }
}
