//! `OFPT_PORT_STATUS`: a port appeared, changed or went.

use crate::form::{Form, Incoming};
use crate::msg::port::PortDesc;
use crate::wire::PutBytes;
use crate::{OfError, Version};

/// What happened to the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PortReason {
    /// It was added.
    Add = 0,
    /// It was removed.
    Delete = 1,
    /// Something about it changed.
    Modify = 2,
}

/// A port status message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortStatus {
    /// What happened.
    pub reason: PortReason,
    /// The port as it is now, or was.
    pub desc: PortDesc,
}

impl PortStatus {
    /// Decodes a port status.
    ///
    /// # Errors
    /// `NXBRC_BAD_REASON` and those of the description.
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let reason = match r.u8()? {
            0 => PortReason::Add,
            1 => PortReason::Delete,
            2 => PortReason::Modify,
            _ => return Err(OfError::NxbrcBadReason),
        };
        r.skip(7)?;
        Ok(Self { reason, desc: PortDesc::take(&mut r, msg.version)? })
    }

    /// Encodes a port status. An asynchronous message: `xid` is 0 in Open vSwitch's.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let form = match version {
            Version::Of10 => Form::Ofpt10PortStatus,
            Version::Of11 | Version::Of12 | Version::Of13 => Form::Ofpt11PortStatus,
            Version::Of14 | Version::Of15 => Form::Ofpt14PortStatus,
        };
        let mut out = Vec::with_capacity(96);
        form.put(version, xid, &mut out, |out| {
            out.put_u8(self.reason as u8);
            out.put_zeros(7);
            self.desc.put(out, version);
        });
        out
    }
}
