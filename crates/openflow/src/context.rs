//! What messages mean depends on: the connection's protocol and the switch's tables.

use flow::oxm::{self, OxmError};
use flow::{Match, TlvTable, legacy};

use crate::action::{self, Action, Decoder, Encoder};
use crate::wire::Reader;
use crate::{OfError, PortNo, Protocol, Version};

/// What decoding a message has to know besides its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// How flows travel on the connection.
    pub protocol: Protocol,
    /// The bridge's tunnel options; `None` on the controller's side, where all are as they come.
    pub tlv: Option<&'a TlvTable>,
    /// The switch's own ports are below this.
    pub ports_max: PortNo,
    /// Number of tables; 255 for "any".
    pub n_tables: u8,
    /// Whether the debugging actions are understood (`--enable-dummy`).
    pub debug_actions: bool,
}

impl Context<'_> {
    /// Knows of no switch: every port and table may be.
    #[must_use]
    pub const fn unbound(protocol: Protocol) -> Self {
        Self { protocol, tlv: None, ports_max: PortNo::MAX, n_tables: 255, debug_actions: false }
    }
}

impl<'a> Context<'a> {
    /// How to decode a match.
    pub(crate) const fn match_options(&self) -> oxm::Options<'a> {
        oxm::Options { loose: false, allow_cookie: false, pipeline_fields_only: false, tlv: self.tlv }
    }

    /// A decoder of actions.
    #[must_use]
    pub fn decoder(&self, version: Version) -> Decoder<'a> {
        let mut decoder = Decoder::new(version);
        decoder.tlv = self.tlv;
        decoder.debug = self.debug_actions;
        decoder
    }
}

/// What encoding a message has to know besides its meaning.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// How flows travel on the connection.
    pub protocol: Protocol,
    /// The bridge's tunnel options, as in [`Context::tlv`].
    pub tlv: Option<&'a TlvTable>,
}

impl<'a> Target<'a> {
    /// For messages about flows that do not name tunnel options, or bring their own table for them.
    #[must_use]
    pub const fn new(protocol: Protocol) -> Self {
        Self { protocol, tlv: None }
    }

    /// The version of the messages.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.protocol.version()
    }

    /// An encoder of actions.
    #[must_use]
    pub fn encoder<'b>(&self, out: &'b mut Vec<u8>) -> Encoder<'b>
    where
        'a: 'b,
    {
        let mut encoder = Encoder::new(self.version(), out);
        encoder.tlv = self.tlv;
        encoder
    }

    /// Appends a `struct ofp_match` (OpenFlow 1.1 and later) with padding. Returns its length without.
    pub(crate) fn put_match(&self, out: &mut Vec<u8>, m: &Match) -> usize {
        legacy::put_ofp11_match(out, m, self.version().wire(), self.tlv)
    }

    /// Appends a match in the way of OXM even in OpenFlow 1.1, with padding. Returns its length without.
    pub(crate) fn put_oxm_match(&self, out: &mut Vec<u8>, m: &Match) -> usize {
        oxm::put_oxm_match(out, m, self.version().wire(), self.tlv)
    }

    /// Appends a match and a cookie (mask 0 for none) in the way of NXM, with padding. Returns the length
    /// without.
    pub(crate) fn put_nxm_match(&self, out: &mut Vec<u8>, m: &Match, cookie: u64, cookie_mask: u64) -> usize {
        oxm::put_nxm_match(out, m, self.tlv, cookie, cookie_mask)
    }
}

impl From<OxmError> for OfError {
    fn from(e: OxmError) -> Self {
        match e {
            OxmError::BadType => Self::OfpbmcBadType,
            OxmError::BadLen => Self::OfpbmcBadLen,
            OxmError::BadField => Self::OfpbmcBadField,
            OxmError::BadMask => Self::OfpbmcBadMask,
            OxmError::BadValue => Self::OfpbmcBadValue,
            OxmError::BadPrereq => Self::OfpbmcBadPrereq,
            OxmError::DupField => Self::OfpbmcDupField,
            OxmError::BadWildcards => Self::OfpbmcBadWildcards,
            OxmError::PipelineFieldsOnly => Self::OfpbrcPipelineFieldsOnly,
            OxmError::InvalidTlvField => Self::NxfmfcInvalidTlvField,
            OxmError::BadSetType => Self::OfpbacBadSetType,
            OxmError::BadSetLen => Self::OfpbacBadSetLen,
        }
    }
}

/// Takes an OpenFlow 1.0 match off `r`.
pub(crate) fn take_of10_match(r: &mut Reader<'_>) -> Result<Match, OfError> {
    Ok(legacy::decode_ofp10(&r.array()?))
}

/// Takes a `struct ofp_match` (OpenFlow 1.1 and later) and its padding off `r`.
pub(crate) fn take_match(r: &mut Reader<'_>, options: oxm::Options<'_>) -> Result<Match, OfError> {
    let mut rest = r.rest();
    let m = legacy::pull_ofp11_match(&mut rest, options)?;
    *r = Reader::new(rest);
    Ok(m)
}

/// Takes an NXM match of `len` bytes and its padding off `r`.
pub(crate) fn take_nxm_match(
    r: &mut Reader<'_>,
    len: usize,
    options: oxm::Options<'_>,
) -> Result<oxm::Decoded, OfError> {
    let mut rest = r.rest();
    let decoded = oxm::pull_nxm_match(&mut rest, len, options)?;
    *r = Reader::new(rest);
    Ok(decoded)
}

/// Holds `actions` against the match that they are for.
pub(crate) fn check_actions(
    actions: &mut [Action],
    m: &Match,
    table_id: u8,
    context: &Context<'_>,
) -> Result<(), OfError> {
    let params = action::CheckParams {
        flow: &m.flow,
        mask: &m.mask,
        ports_max: context.ports_max,
        table_id: Some(table_id),
        n_tables: context.n_tables,
    };
    action::check_consistency(actions, context.protocol.as_set(), &params)?;
    Ok(())
}
