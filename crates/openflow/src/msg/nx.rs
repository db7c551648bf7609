//! Nicira's small messages that set up a connection.

use crate::form::{Form, Incoming};
use crate::wire::PutBytes;
use crate::{OfError, Version};

/// Decodes `NXT_SET_FLOW_FORMAT`: whether flows are to travel with Nicira's match (OpenFlow 1.0).
///
/// # Errors
/// `OFPBRC_EPERM` for a format that is not known.
pub fn decode_flow_format(msg: &Incoming<'_>) -> Result<bool, OfError> {
    match msg.body().u32()? {
        0 => Ok(false),
        2 => Ok(true),
        _ => Err(OfError::OfpbrcEperm),
    }
}

/// Encodes `NXT_SET_FLOW_FORMAT`, always in OpenFlow 1.0.
#[must_use]
pub fn encode_flow_format(nxm: bool, xid: u32) -> Vec<u8> {
    let mut out = Vec::new();
    Form::NxtSetFlowFormat.put(Version::Of10, xid, &mut out, |out| out.put_u32(if nxm { 2 } else { 0 }));
    out
}

/// Decodes `NXT_FLOW_MOD_TABLE_ID`: whether flow-mods are to name their table.
///
/// # Errors
/// None once [`crate::identify`] has taken the message.
pub fn decode_flow_mod_table_id(msg: &Incoming<'_>) -> Result<bool, OfError> {
    Ok(msg.body().u8()? != 0)
}

/// Encodes `NXT_FLOW_MOD_TABLE_ID`.
#[must_use]
pub fn encode_flow_mod_table_id(enable: bool, version: Version, xid: u32) -> Vec<u8> {
    let mut out = Vec::new();
    Form::NxtFlowModTableId.put(version, xid, &mut out, |out| {
        out.put_u8(enable.into());
        out.put_zeros(7);
    });
    out
}

/// How packet-ins are to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u32)]
pub enum PacketInFormat {
    /// In the standard's way.
    #[default]
    Standard = 0,
    /// `NXT_PACKET_IN`
    Nxt = 1,
    /// `NXT_PACKET_IN2`
    Nxt2 = 2,
}

impl PacketInFormat {
    /// As `ovs-ofctl` writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Nxt => "nxt_packet_in",
            Self::Nxt2 => "nxt_packet_in2",
        }
    }

    /// Decodes `NXT_SET_PACKET_IN_FORMAT`.
    ///
    /// # Errors
    /// `OFPBRC_EPERM` for a format that is not known.
    pub fn decode(msg: &Incoming<'_>) -> Result<Self, OfError> {
        Ok(match msg.body().u32()? {
            0 => Self::Standard,
            1 => Self::Nxt,
            2 => Self::Nxt2,
            _ => return Err(OfError::OfpbrcEperm),
        })
    }

    /// Encodes `NXT_SET_PACKET_IN_FORMAT`.
    #[must_use]
    pub fn encode(self, version: Version, xid: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Form::NxtSetPacketInFormat.put(version, xid, &mut out, |out| out.put_u32(self as u32));
        out
    }
}

/// Decodes `NXT_SET_CONTROLLER_ID`: the number by which `controller` actions name this connection.
///
/// # Errors
/// `NXBRC_MUST_BE_ZERO`
pub fn decode_controller_id(msg: &Incoming<'_>) -> Result<u16, OfError> {
    let mut r = msg.body();
    if r.array()? != [0; 6] {
        return Err(OfError::NxbrcMustBeZero);
    }
    Ok(r.u16()?)
}

/// Encodes `NXT_SET_CONTROLLER_ID`.
#[must_use]
pub fn encode_controller_id(id: u16, version: Version, xid: u32) -> Vec<u8> {
    let mut out = Vec::new();
    Form::NxtSetControllerId.put(version, xid, &mut out, |out| {
        out.put_zeros(6);
        out.put_u16(id);
    });
    out
}
