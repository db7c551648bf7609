//! OpenFlow Extensible Match: type-length-value entries (OpenFlow 1.5.1 section 7.2.3.2), and NXM, the
//! same with other numbers.
//!
//! An entry is a 32-bit header (class, field, has-mask, length), for experimenter classes followed by the
//! experimenter's 32-bit identifier (which the length counts), then the value and, if it has one, the
//! mask. [`entry`] does single entries, as actions carry them; [`decode`] and [`encode`] whole matches.

mod decode;
mod encode;
mod entry;
#[cfg(test)]
pub(crate) mod tests;

pub use decode::{Decoded, Options, decode, decode_fields, pull_nxm_match, pull_oxm_match};
pub use encode::{encode, encode_with_cookie, put_nxm_match, put_oxm_match};
pub use entry::{
    Entry, Header, header32, pull_entry, pull_field_array, pull_header, put_entry, put_field_array,
    put_header,
};

/// Why entries cannot be decoded; each stands for the OpenFlow error of its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OxmError {
    #[error("OFPBMC_BAD_TYPE")]
    BadType,
    #[error("OFPBMC_BAD_LEN")]
    BadLen,
    #[error("OFPBMC_BAD_FIELD")]
    BadField,
    #[error("OFPBMC_BAD_MASK")]
    BadMask,
    #[error("OFPBMC_BAD_VALUE")]
    BadValue,
    #[error("OFPBMC_BAD_PREREQ")]
    BadPrereq,
    #[error("OFPBMC_DUP_FIELD")]
    DupField,
    #[error("OFPBMC_BAD_WILDCARDS")]
    BadWildcards,
    #[error("OFPBRC_PIPELINE_FIELDS_ONLY")]
    PipelineFieldsOnly,
    /// A `tun_metadata<i>` that the bridge does not map.
    #[error("NXFMFC_INVALID_TLV_FIELD")]
    InvalidTlvField,
    /// In an action, a field that does not exist.
    #[error("OFPBAC_BAD_SET_TYPE")]
    BadSetType,
    /// In an action, a field of another length than it has.
    #[error("OFPBAC_BAD_SET_LEN")]
    BadSetLen,
}

/// `ofp_match.type` (OpenFlow 1.1 and later).
pub mod match_type {
    /// The fixed match of OpenFlow 1.1.
    pub const STANDARD: u16 = 0;
    pub const OXM: u16 = 1;
}

/// Takes `n` bytes off the front of `b`.
pub(crate) fn take<'a>(b: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = b.split_at_checked(n)?;
    *b = tail;
    Some(head)
}

/// Bytes that pad `n` out to a multiple of 8.
pub(crate) fn padding(n: usize) -> usize {
    n.wrapping_neg() % 8
}
