//! Roles of controllers: `OFPT_ROLE_REQUEST` and its reply, Nicira's `NXT_ROLE_*` before OpenFlow 1.2, and
//! `OFPT_ROLE_STATUS`, ONF's extension in OpenFlow 1.3.

use crate::form::{Form, Incoming};
use crate::wire::PutBytes;
use crate::{OfError, Version};

/// What a controller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Role {
    /// In a request: what is the role now?
    NoChange = 0,
    /// Everything. The role that every controller begins with.
    Equal = 1,
    /// Everything, and the one that had the role before becomes secondary.
    Primary = 2,
    /// Only reading.
    Secondary = 3,
}

impl Role {
    const fn from_wire(wire: u32) -> Result<Self, OfError> {
        Ok(match wire {
            0 => Self::NoChange,
            1 => Self::Equal,
            2 => Self::Primary,
            3 => Self::Secondary,
            _ => return Err(OfError::OfprrfcBadRole),
        })
    }

    /// Nicira counts from `OTHER` (the equal role), one lower.
    fn from_nicira(wire: u32) -> Result<Self, OfError> {
        if wire > 2 { Err(OfError::OfprrfcBadRole) } else { Self::from_wire(wire + 1) }
    }

    const fn to_nicira(self) -> u32 {
        (self as u32).wrapping_sub(1)
    }
}

/// A role request, or the reply to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleMsg {
    /// The role.
    pub role: Role,
    /// Which election made the role: a request with an older one than the switch has seen is stale.
    /// Nicira's messages have none, and the standard's not while nothing has been elected.
    pub generation_id: Option<u64>,
    /// Whether it travels in Nicira's way, which all versions have; the reply goes as its request came.
    pub nicira: bool,
}

impl RoleMsg {
    /// Decodes a request or reply.
    ///
    /// # Errors
    /// `OFPRRFC_BAD_ROLE`
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let wire_role = r.u32()?;
        if matches!(msg.form, Form::NxtRoleRequest | Form::NxtRoleReply) {
            return Ok(Self { role: Role::from_nicira(wire_role)?, generation_id: None, nicira: true });
        }
        let role = Role::from_wire(wire_role)?;
        r.skip(4)?;
        let generation_id = r.u64()?;
        let has_generation = if msg.form == Form::Ofpt12RoleRequest {
            role != Role::NoChange
        } else {
            generation_id != u64::MAX
        };
        Ok(Self { role, generation_id: has_generation.then_some(generation_id), nicira: false })
    }

    /// Encodes a reply; always in Nicira's way before OpenFlow 1.2.
    #[must_use]
    pub fn encode_reply(&self, version: Version, xid: u32) -> Vec<u8> {
        let nicira = self.nicira || version < Version::Of12;
        let form = if nicira { Form::NxtRoleReply } else { Form::Ofpt12RoleReply };
        self.encode(form, version, xid, u64::MAX)
    }

    /// Encodes a request; always in Nicira's way before OpenFlow 1.2.
    #[must_use]
    pub fn encode_request(&self, version: Version, xid: u32) -> Vec<u8> {
        let nicira = self.nicira || version < Version::Of12;
        let form = if nicira { Form::NxtRoleRequest } else { Form::Ofpt12RoleRequest };
        self.encode(form, version, xid, 0)
    }

    fn encode(&self, form: Form, version: Version, xid: u32, no_generation: u64) -> Vec<u8> {
        let mut out = Vec::new();
        form.put(version, xid, &mut out, |out| {
            if matches!(form, Form::NxtRoleRequest | Form::NxtRoleReply) {
                out.put_u32(self.role.to_nicira());
            } else {
                out.put_u32(self.role as u32);
                out.put_zeros(4);
                out.put_u64(self.generation_id.unwrap_or(no_generation));
            }
        });
        out
    }
}

/// Why a role changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoleReason {
    /// Another controller became primary.
    PrimaryRequest,
    /// The switch's configuration changed.
    Config,
    /// An experimenter's doing.
    Experimenter,
    /// One that this crate does not know.
    Other(u8),
}

impl RoleReason {
    const fn from_wire(wire: u8) -> Self {
        match wire {
            0 => Self::PrimaryRequest,
            1 => Self::Config,
            2 => Self::Experimenter,
            other => Self::Other(other),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::PrimaryRequest => 0,
            Self::Config => 1,
            Self::Experimenter => 2,
            Self::Other(other) => other,
        }
    }
}

/// Tells a controller that its role changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleStatus {
    /// The new role.
    pub role: Role,
    /// Why it changed.
    pub reason: RoleReason,
    /// Which election made it; `u64::MAX` if none did.
    pub generation_id: u64,
}

impl RoleStatus {
    /// Decodes a role status.
    ///
    /// # Errors
    /// `OFPRRFC_BAD_ROLE`
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        let mut r = msg.body();
        let role = Role::from_wire(r.u32()?)?;
        let reason = RoleReason::from_wire(r.u8()?);
        r.skip(3)?;
        Ok(Self { role, reason, generation_id: r.u64()? })
    }

    /// Encodes a role status; `None` before OpenFlow 1.3.
    #[must_use]
    pub fn encode(&self, version: Version, xid: u32) -> Option<Vec<u8>> {
        let form = match version {
            Version::Of10 | Version::Of11 | Version::Of12 => return None,
            Version::Of13 => Form::Onft13RoleStatus,
            Version::Of14 | Version::Of15 => Form::Ofpt14RoleStatus,
        };
        let mut out = Vec::new();
        form.put(version, xid, &mut out, |out| {
            out.put_u32(self.role as u32);
            out.put_u8(self.reason.to_wire());
            out.put_zeros(3);
            out.put_u64(self.generation_id);
        });
        Some(out)
    }
}
